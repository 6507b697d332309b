"""Measures speed, alone: all models of a profile in one process, in turn.

`results/<profile>/speed.json` is a list of interleaved runs, each with the vanilla models in it.
Ratios are taken within a run, turn by turn, so what slows the machine slows both sides.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vitstudy import data, files, methods, profiles, study
from vitstudy.study import Cell

if TYPE_CHECKING:
    import torch
    from torch import nn

# torch is imported where something is timed: reading timings need not wait for it.

log = logging.getLogger(__name__)

Name = TypeVar("Name")
"""By which the caller of a timing knows its models."""

SECONDS_A_TURN = 0.25
"""Time that a batch is repeated for in each turn."""
DISTURBED = 0.1
"""Share of the processors' time from which on other processes cause a warning."""
SINGLES_A_TURN = 10
"""Number of images that are sent one by one in each turn, for the latency."""
DRAWS = 2_000
"""Number of resamplings of the turns behind a ratio's interval."""
RATE = "images_per_second"


def path(profile: str) -> Path:
    """Return the file of a profile's timings."""
    return files.results(profile) / "speed.json"


def read(profile: str) -> list[dict[str, Any]]:
    """Read the runs of a profile, oldest first."""
    runs: list[dict[str, Any]] = (files.read_json(path(profile)) or {}).get("runs", [])
    return runs


def every(cell: Cell, device: str = "cpu") -> list[dict[str, Any]]:
    """List the timings of `cell` on `device`, each with its run's own facts, oldest first.

    A timing counts where it is of the artifact that the record names, beside the vanilla model that
    has a record now: an artifact that was made anew has another speed. Its `ratio_to_vanilla` is
    the one of the rates that stand beside it, with its 95 % `ratio_interval` where turns or
    quartiles tell one (`ratio`).
    """
    vanilla = replace(cell, method="vanilla")
    now = {_key(known): study.artifact_hash(known) for known in (cell, vanilla)}
    timings = []
    for run in read(cell.profile) if now[_key(cell)] else ():
        models = {key: run["models"][key] for key in now if key in run["models"]}
        same = all(
            now[key] and model["artifact_sha256"] == now[key] for key, model in models.items()
        )
        if run["device"] == device and _key(cell) in models and same:
            timed, base = models[_key(cell)], models.get(_key(vanilla))
            told = ratio(timed, base, run.get("rounds"))
            timings.append({**run, **timed, **told, "models": None})
    return timings


def latest(cell: Cell, device: str = "cpu") -> dict[str, Any] | None:
    """Return the last timing of `cell` on `device`; None where there is none."""
    return next(reversed(every(cell, device)), None)


def ratio(
    timed: dict[str, Any], base: dict[str, Any] | None, rounds: int | None, rate: str = RATE
) -> dict[str, Any]:
    """Give a timing's `ratio_to_vanilla` and 95 % `ratio_interval` by the vanilla beside it.

    The ratio is that of the two medians, which tables show. The interval is a bootstrap over the
    `turns`; a run of before they were kept has the quartiles of its ratios turn by turn instead.
    Without a vanilla the ratio is as it was written down; without any spread there is no interval.
    `rate` names the rate in both, in whose unit the turns are.
    """
    value = timed[rate] / base[rate] if base and rate in base else timed["ratio_to_vanilla"]
    limits: Iterable[float] = ()
    if base and "turns" in base:
        limits = bootstrap_of_ratio(np.array(timed["turns"]), np.array(base["turns"]))
    elif rounds and (quartiles := timed.get("ratio_quartiles")):
        lower, upper = quartiles
        limits = [value * (1 + end) for end in spread_of_median(lower, upper, rounds)]
    interval = [*map(_rounded, limits)]
    return {"ratio_to_vanilla": _rounded(value)} | (
        {"ratio_interval": interval} if interval else {}
    )


def bootstrap_of_ratio(rates: np.ndarray, base: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of median(rates) / median(base), both (turns,), by resampling turns.

    A turn is drawn for both at once, since both were timed one after the other in it, so that what
    slowed both cancels. The draws are fixed. Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13 (percentiles).
    """
    turns = np.random.RandomState(0).randint(0, len(rates), (DRAWS, len(rates)))
    drawn = np.median(rates[turns], axis=1) / np.median(base[turns], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def spread_of_median(lower: float, upper: float, turns: int) -> tuple[float, float]:
    """Tell how far a median may be off, 95 %, low and high, as shares of it, from its quartiles.

    For normal turns: the deviation is (upper - lower) / 1.349, a median's error 1.2533 of it over
    √turns (McGill, Tukey and Larsen, Variations of Box Plots, 1978), against the quartiles' middle.
    """
    half = 1.959964 * 1.2533 / 1.349 * (upper - lower) / np.sqrt(turns) / ((lower + upper) / 2)
    return -half, half


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _key(cell: Cell) -> str:
    return f"{cell.dataset}/{cell.method}/seed{cell.seed}"


def devices() -> list[str]:
    """List the devices that this machine can time."""
    import torch

    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _timed_cells(profile: profiles.Profile, device: str) -> list[Cell]:
    """List the measured cells of the first seed that have real arithmetic on `device`."""
    timed = []
    for cell in study.cells(profile.name, left_out=True):
        method, record = methods.get(cell.method), study.read(cell)
        if cell.seed != profile.seeds[0] or method.simulated or not method.timed:
            continue
        if method.device not in (None, device):
            continue
        if record and record.status == "done" and cell.artifact_path.exists():
            timed.append(cell)
    # A ratio needs the vanilla model in the same run.
    with_vanilla = {cell.dataset for cell in timed if cell.method == "vanilla"}
    return [cell for cell in timed if cell.dataset in with_vanilla]


def _fingerprint(profile: profiles.Profile, device: str) -> str:
    """Hash what a timing depends on besides models: this file, torch, the machine, the profile."""
    import torch

    from vitstudy import measure

    parts = [files.sha256(Path(__file__)), torch.__version__, measure.cpu(), measure.gpu(), device]
    parts += [profile.speed_batch, profile.speed_rounds]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def run(name: str) -> list[dict[str, Any]]:
    """Time what has not been timed yet on this machine; return the profile's runs, old and new.

    A new model is timed together with the vanilla models, in a run of its own.
    """
    profile, made = profiles.get(name), read(name)
    for device in devices():
        mark = _fingerprint(profile, device)
        timed = {
            (key, model["artifact_sha256"])
            for run in made
            if run["fingerprint"] == mark
            for key, model in run["models"].items()
        }
        wanted = _timed_cells(profile, device)
        if not wanted:
            log.info("nothing of %s is here to be timed on %s", name, device)
        new = [cell for cell in wanted if (_key(cell), study.artifact_hash(cell)) not in timed]
        if not new:
            continue
        chosen = [cell for cell in wanted if cell.method == "vanilla" or cell in new]
        log.info("speed of %d models on %s, in turn", len(chosen), device)
        made.append({"fingerprint": mark, **_measure(profile, chosen, device)})
        files.write_json(path(name), {"runs": made})
    return made


def _measure(profile: profiles.Profile, cells: list[Cell], device: str) -> dict[str, Any]:
    import torch

    from vitstudy import measure, models

    loaded, facts, inputs = {}, {}, {}
    for cell in cells:
        started = time.perf_counter()
        loaded[cell] = models.load(cell.artifact_path).to(device)
        facts[cell] = {
            "artifact_sha256": study.artifact_hash(cell),
            "load_seconds": round(time.perf_counter() - started, 5),
        }
        if cell.dataset not in inputs:
            dataset = data.load(cell.dataset, profile.limit)
            images = dataset.test.images[: profile.speed_batch].to(device)
            inputs[cell.dataset] = dataset.normalise(images, profile.architecture.image_size)
    pairs = {_key(cell): (loaded[cell], inputs[cell.dataset]) for cell in cells}
    turns, elsewhere = interleave_watched(pairs, profile.speed_rounds, path(profile.name))
    summaries = {}
    for cell in cells:
        base = turns[f"{cell.dataset}/vanilla/seed{cell.seed}"]
        summaries[_key(cell)] = {**facts[cell], **_summary(turns[_key(cell)], base)}
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": study.commit(),
        "device": device,
        "cpu": measure.cpu(),
        "instruction_sets": measure.instruction_sets(),
        "gpu": measure.gpu(),
        "threads": torch.get_num_threads(),
        "busy_elsewhere": elsewhere,
        "torch": torch.__version__,
        "batch": profile.speed_batch,
        "image_size": profile.architecture.image_size,
        "rounds": profile.speed_rounds,
        "models": summaries,
    }


def interleave_watched(
    pairs: dict[Name, tuple[nn.Module, torch.Tensor]], rounds: int, kept: Path
) -> tuple[dict[Name, dict[str, Any]], float | None]:
    """Call `interleave`; return its answer, and the share of the processors that others had.

    The share is None where it is not known. Where it is too large, a warning says that the file
    `kept`, in which the caller writes the speeds, is not to be trusted.
    """
    before = busy_elsewhere()
    turns = interleave(pairs, rounds)
    elsewhere = share_of_others(before, busy_elsewhere())
    if elsewhere is not None and elsewhere > DISTURBED:
        log.warning(
            "other processes had %.0f %% of the processors meanwhile: these speeds are not to be "
            "trusted; remove %s and measure again when the machine is idle",
            100 * elsewhere,
            kept,
        )
    return turns, elsewhere


def interleave(
    pairs: dict[Name, tuple[nn.Module, torch.Tensor]], rounds: int
) -> dict[Name, dict[str, Any]]:
    """Time each (model, batch of inputs) in turn, A B C A B C …, after a warm-up.

    The answer has for each name: `images_per_second` and `batch_seconds`, one a round,
    `single_seconds` at batch 1, several a round, and on a GPU `peak_mib`, the memory that a batch
    took beyond what was held before. On the CPU a process that has run other models tells nothing
    of it: None.
    """
    import torch

    with torch.inference_mode():
        return _interleave(pairs, rounds)


def _interleave(
    pairs: dict[Name, tuple[nn.Module, torch.Tensor]], rounds: int
) -> dict[Name, dict[str, Any]]:
    turns: dict[Name, dict[str, Any]] = {}
    for name, (model, inputs) in pairs.items():
        before = _held(inputs)
        for _ in range(3):
            _time(model, inputs, 1)
        turns[name] = {"peak_mib": _peak(inputs, before), "batch_seconds": [], "single_seconds": []}
        single = _time(model, inputs, 2) / 2
        turns[name]["repeats"] = max(1, round(SECONDS_A_TURN / single))
        _time(model, inputs[:1], 3)
    for _ in range(rounds):
        for name, (model, inputs) in pairs.items():
            repeats = turns[name]["repeats"]
            turns[name]["batch_seconds"].append(_time(model, inputs, repeats) / repeats)
            turns[name]["single_seconds"] += [
                _time(model, inputs[:1], 1) for _ in range(SINGLES_A_TURN)
            ]
    for name, (_, inputs) in pairs.items():
        seconds = np.array(turns[name]["batch_seconds"])
        turns[name]["images_per_second"] = len(inputs) / seconds
    return turns


def _time(model: nn.Module, inputs: torch.Tensor, repeats: int) -> float:
    """Return the seconds of so many forward passes."""
    import torch

    if inputs.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        model(inputs)
    if inputs.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def busy_elsewhere() -> tuple[float, float] | None:
    """Read the processors' seconds so far for other processes, and in all; None but on Linux."""
    try:
        line = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, idle, waiting, *rest = (
        int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in line
    )
    own = os.times()
    busy = user + nice + system + sum(rest)
    return busy - own.user - own.system, busy + idle + waiting


def share_of_others(
    before: tuple[float, float] | None, after: tuple[float, float] | None
) -> float | None:
    """Return other processes' share of the time between two answers of `busy_elsewhere`."""
    if before is None or after is None:
        return None
    others, everything = (b - a for a, b in zip(before, after, strict=True))
    return round(max(0.0, others / everything), 3)


def _held(inputs: torch.Tensor) -> int:
    """Return the bytes that a GPU holds now, its highest so far forgotten."""
    if not inputs.is_cuda:
        return 0
    import torch

    torch.cuda.reset_peak_memory_stats()
    held: int = torch.cuda.memory_allocated()
    return held


def _peak(inputs: torch.Tensor, before: int) -> float | None:
    if not inputs.is_cuda:
        return None
    import torch

    highest: int = torch.cuda.max_memory_allocated()
    return round(max(0, highest - before) / 2**20, 2)


def _summary(turns: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Compute medians and quartiles of a model's turns, kept too, and its ratio to vanilla."""
    rates = np.asarray(turns[RATE])
    singles = np.array(turns["single_seconds"]) * 1_000
    batch = rates[0] * turns["batch_seconds"][0]
    found = {
        RATE: _rounded(np.median(rates)),
        f"{RATE}_quartiles": [*map(_rounded, np.percentile(rates, [25, 75]))],
        "iterations_per_second": _rounded(np.median(rates) / batch),
        "turns": [*map(_rounded, rates)],
        "latency_ms_p50": _rounded(np.median(singles)),
        "latency_ms_p95": _rounded(np.percentile(singles, 95)),
        "peak_mib": turns["peak_mib"],
    }
    vanilla = [*map(_rounded, base[RATE])]
    return found | ratio(found, {RATE: _rounded(np.median(vanilla)), "turns": vanilla}, len(rates))
