"""Time and memory of every attention against the number of tokens, softmax beside the others.

Measured alone, by `python -m vitstudy speed PROFILE`, on random q, k, v of the profile's heads, and
kept in `results/<profile>/attention_speed.json`: one run a device, made again where the machine,
torch or the code that times is another. An attention that is new, or whose own code changed, is
timed alone, in turn with the fused kernel, and joins the run. A call has as many images as make up
TOKENS tokens, at least one, so that short sequences are not timed by Python's overhead; what is
kept is per image.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitstudy import files, profiles, speed, study
from vitstudy.study import staleness

if TYPE_CHECKING:
    from torch import Tensor

# torch is imported where something is timed: who only reads what was found need not wait for it.

log = logging.getLogger(__name__)

LENGTHS = (64, 65, 128, 197, 256, 512, 1024, 2048, 4096)
"""65 tokens are a small image's 8 x 8 patches and a class token, 197 those of ViT-B/16 at 224."""
LANDMARKS = (24, 32, 64)
"""The papers'."""
TOKENS = 4_096
SECONDS_A_TURN = 0.02
TESTS = {"lengths": (64, 65, 128, 256), "tokens": 512}
"""What the profile `smoke` times in the place of all this."""


def path(profile: str) -> Path:
    return files.results(profile) / "attention_speed.json"


def read(profile: str) -> list[dict]:
    """The runs of a profile, one a device; empty where nothing was timed."""
    return (files.read_json(path(profile)) or {}).get("runs", [])


def explicit_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √d) V with the matrix of all pairs written out; (B, h, n, d)."""
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v


ANCHOR = "fused"
"""PyTorch's own kernel, which every other attention is timed in turn with."""


def attentions(tokens: int) -> dict[str, Callable]:
    """What is timed at so many tokens: exact attention, Nyström's where its landmarks are fewer,
    and every surveyed method that is another attention, by its key."""
    import torch.nn.functional as F

    from vitstudy.attention import replace
    from vitstudy.attention.nystrom import nystrom_attention

    return {
        "explicit": explicit_attention,
        ANCHOR: F.scaled_dot_product_attention,
        **{
            f"nystrom-m{number}": partial(nystrom_attention, num_landmarks=number)
            for number in LANDMARKS
            if number < tokens
        },
        **{key: replace.alone(mechanism, tokens) for key, mechanism in replace.surveyed().items()},
    }


def _codes() -> dict[str, str]:
    """By attention, the digest of the file that it is in; empty for what is torch's or in here."""
    from vitstudy.attention import nystrom, replace

    own = staleness.digest(Path(nystrom.__file__))
    return {
        "explicit": "",
        ANCHOR: "",
        **{f"nystrom-m{number}": own for number in LANDMARKS},
        **{
            key: staleness.digest(Path(inspect.getfile(type(mechanism))))
            for key, mechanism in replace.surveyed().items()
        },
    }


def run(name: str) -> list[dict]:
    """Time what has not been timed yet on this machine; the runs of the profile."""
    profile, made, changed = profiles.get(name), read(name), False
    for device in speed.devices():
        setting = _setting(profile, device)
        mark = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()
        before = next((run for run in made if run["fingerprint"] == mark), {"codes": {}})
        codes = _codes()
        absent = [key for key in codes if before["codes"].get(key) != codes[key]]
        if not absent:
            continue
        log.info("attention of %d to %d tokens on %s", *_ends(setting["lengths"]), device)
        found = _measure(name, setting, absent)
        kept = [row for row in before.get("rows", []) if row["attention"] in set(codes) - {*absent}]
        there = {row["attention"] for row in kept}
        rows = [*kept, *(row for row in found.pop("rows") if row["attention"] not in there)]
        rows.sort(key=lambda row: (row["tokens"], list(codes).index(row["attention"])))
        made = [run for run in made if run["device"] != device]
        made.append({"fingerprint": mark, **setting, **found, "codes": codes, "rows": rows})
        changed = True
    if changed:
        files.write_json(path(name), {"runs": made})
    return made


def _ends(values) -> tuple[int, int]:
    return values[0], values[-1]


def _setting(profile: profiles.Profile, device: str) -> dict:
    """What every timing depends on."""
    import torch

    from vitstudy import measure

    architecture, small = profile.architecture, profile.name == "smoke"
    return {
        "device": device,
        "cpu": measure.cpu(),
        "gpu": measure.gpu(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "heads": architecture.heads,
        "head_dim": architecture.width // architecture.heads,
        "lengths": list(TESTS["lengths"] if small else LENGTHS),
        "tokens_a_call": TESTS["tokens"] if small else TOKENS,
        "rounds": profile.speed_rounds,
        "code": staleness.digest(Path(__file__)),
    }


def _measure(name: str, setting: dict, keys: list[str]) -> dict:
    before = speed.busy_elsewhere()
    rows = []
    for tokens in setting["lengths"]:
        rows += _at(tokens, setting, keys)
    elsewhere = speed.share_of_others(before, speed.busy_elsewhere())
    if elsewhere is not None and elsewhere > speed.DISTURBED:
        log.warning(
            "other processes had %.0f %% of the processors meanwhile: these times are not to be "
            "trusted; remove %s and measure again when the machine is idle",
            100 * elsewhere,
            path(name),
        )
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": study.commit(),
        "busy_elsewhere": elsewhere,
        "rows": rows,
    }


def _at(tokens: int, setting: dict, keys: list[str]) -> list[dict]:
    """The attentions `keys` and the anchor at so many tokens, in turn: milliseconds and MiB of one
    image, and how many times the anchor's time it takes, the median over the turns."""
    import torch

    device, batch = setting["device"], max(1, setting["tokens_a_call"] // tokens)
    shape = (3, batch, setting["heads"], tokens, setting["head_dim"])
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(shape, generator=generator).to(device).unbind(0)
    timed = {key: call for key, call in attentions(tokens).items() if key in (*keys, ANCHOR)}
    with torch.inference_mode():
        memory = {name: peak_bytes(partial(each, q, k, v), device) for name, each in timed.items()}
        once = {name: _seconds(partial(each, q, k, v), 1, device) for name, each in timed.items()}
        repeats = {name: max(1, round(SECONDS_A_TURN / once[name])) for name in timed}
        turns: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(setting["rounds"]):
            for name, each in timed.items():
                seconds = _seconds(partial(each, q, k, v), repeats[name], device)
                turns[name].append(seconds / repeats[name] / batch)
    return [
        {
            "attention": name,
            "tokens": tokens,
            "batch": batch,
            "milliseconds": _rounded(1e3 * np.median(turns[name])),
            "quartiles": [_rounded(1e3 * each) for each in np.percentile(turns[name], [25, 75])],
            "mib": _rounded(memory[name] / batch / 2**20),
            "times_fused": _rounded(np.median(np.divide(turns[name], turns[ANCHOR]))),
        }
        for name in timed
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _seconds(call: Callable, repeats: int, device: str) -> float:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def peak_bytes(call: Callable, device: str = "cpu") -> int:
    """The most memory that torch held at once for `call`, its result included, its inputs not.

    On the CPU by torch's own account of every allocation: what the system reports of a process is
    rounded to pages, and says nothing where memory is used again.
    """
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it writes lines to stderr at each use
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    events = [event for event in events if event.get("name") == "[memory]"]
    sizes = [event["args"]["Bytes"] for event in sorted(events, key=lambda each: each["ts"])]
    return int(np.cumsum([0, *sizes]).max())
