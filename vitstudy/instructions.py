"""Vector instruction sets that a processor can be held to, so that it rounds as an older one does.

The libraries beneath torch choose their kernels by the processor; each has a variable of its own
that keeps it from the newer ones, read once, when it is loaded: so a process is started for each
set. ONNX Runtime, and FBGEMM beneath PyTorch's dynamic int8, know no such variable and go on
choosing for themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vitstudy import cifar, files, measure
from vitstudy.errors import UserError, unknown

SETS = {
    "default": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "MKL_CBWR": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "ONEDNN_MAX_CPU_ISA": "ALL",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "MKL_CBWR": "AVX512",
        "OPENBLAS_CORETYPE": "SkylakeX",
    },
}
"""From the oldest to the newest; `default` is what every processor of 64 bits has."""
NEEDS = {"default": (), "avx2": ("avx2",), "avx512": ("avx2", "avx512f")}
"""Flags of the processor without which torch, told to use a set all the same, would crash."""


def available() -> list[str]:
    """The sets that this processor has, the newest last."""
    flags = measure.instruction_sets()
    return [name for name, needed in NEEDS.items() if set(needed) <= set(flags)]


def chosen(names: list[str]) -> tuple[list[str], list[str]]:
    """Those of `names` that this processor has, the newest last, and those that it lacks.

    Raises UserError where a name is none of `SETS`, or the processor has none of them.
    """
    for name in names:
        if name not in SETS:
            raise unknown("instruction set", name, SETS)
    here = available()
    found = [name for name in here if name in names]
    if not found:
        raise UserError(
            f"this processor has none of {', '.join(names)}; it has {', '.join(here)}: name those"
        )
    return found, [name for name in SETS if name in names and name not in here]


def environment(name: str, home: Path) -> dict[str, str]:
    """This process's variables, and those that hold a child to the set `name`, on the CPU alone,
    with `home` to compute in; its data are this process's."""
    images = cifar.data_root()
    held = {**SETS[name], "CUDA_VISIBLE_DEVICES": "", "VITSTUDY_HOME": str(home)}
    return {**os.environ, **held} | ({"VITSTUDY_DATA": str(images)} if images.is_dir() else {})


def share_data(home: Path) -> None:
    """Let `home` have this process's decoded data sets, so that none is decoded twice."""
    ours, theirs = files.artifacts("data"), home / "artifacts" / "data"
    ours.mkdir(parents=True, exist_ok=True)
    theirs.parent.mkdir(parents=True, exist_ok=True)
    if not theirs.exists():
        theirs.symlink_to(ours, target_is_directory=True)


def call(code: str, name: str, home: Path) -> str:
    """Run Python `code` held to the set `name`, with `home` to compute in; why it failed, or ""."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(name, home),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def processor() -> str:
    """The processor's name, without its cores and without what torch uses of it."""
    return measure.cpu().rpartition(" (")[0]
