"""Vector instruction sets that a processor can be held to, so that it rounds as an older one does.

The libraries that torch calls choose their kernels by the processor. Each has a variable of its own
that keeps it from the newer ones and is read once, when it is loaded: so a process is started for
each set. ONNX Runtime, and FBGEMM, which computes PyTorch's dynamic int8, know no such variable and
go on choosing for themselves.
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
"""The variables of each set, the newest last; every 64-bit processor has `default`."""
NEEDS: dict[str, tuple[str, ...]] = {
    "default": (),
    "avx2": ("avx2",),
    "avx512": ("avx2", "avx512f"),
}
"""The processor's flags without which torch would crash if it were told to use the set."""


def available() -> list[str]:
    """List the sets that this processor has, the newest last."""
    flags = measure.instruction_sets()
    return [name for name, needed in NEEDS.items() if set(needed) <= set(flags)]


def chosen(names: list[str]) -> tuple[list[str], list[str]]:
    """Split `names` into the sets that this processor has, the newest last, and those it lacks.

    Raises UserError where a name is none of `SETS`, or the processor has none of them.
    """
    for name in names:
        if name not in SETS:
            raise unknown("instruction set", name, SETS)
    here = available()
    usable = [name for name in here if name in names]
    if not usable:
        raise UserError(
            f"this processor has none of {', '.join(names)}; it has {', '.join(here)}: name those"
        )
    return usable, [name for name in SETS if name in names and name not in here]


def environment(name: str, home: Path) -> dict[str, str]:
    """Return the variables that hold a child process to the set `name`, on the CPU alone.

    The child computes in the folder `home`; its data and other variables are this process's.
    """
    images = cifar.data_root()
    held = {**SETS[name], "CUDA_VISIBLE_DEVICES": "", "VITSTUDY_HOME": str(home)}
    return {**os.environ, **held} | ({"VITSTUDY_DATA": str(images)} if images.is_dir() else {})


def share_data(home: Path) -> None:
    """Link this process's decoded data sets into `home`, so that none is decoded twice."""
    ours, theirs = files.artifacts("data"), home / "artifacts" / "data"
    ours.mkdir(parents=True, exist_ok=True)
    theirs.parent.mkdir(parents=True, exist_ok=True)
    if not theirs.exists():
        theirs.symlink_to(ours, target_is_directory=True)


def call(code: str, name: str, home: Path) -> str:
    """Run Python `code` held to the set `name` in the folder `home`; return why it failed."""
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
    """Return the processor's name, without its cores and the instructions that torch uses."""
    return measure.cpu().rpartition(" (")[0]
