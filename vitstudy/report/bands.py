"""The numbers of the notebooks that depend on the machine, and the bands that they are held to.

A training ends at other weights where the processor rounds otherwise, so such a number is a band,
not a value: it is made from several seeds and several instruction sets (`python -m vitstudy bands`)
and kept, with what it was made on, in `notebooks/reference.json`. A run of the study shows what is
outside its band and goes on; only `python -m vitstudy check-notebooks` judges. The profile `digits`
alone has bands: it is what everybody computes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from vitstudy import files, instructions, methods, profiles, study
from vitstudy.errors import UserError
from vitstudy.notebooks import JUDGE, sentence
from vitstudy.profiles import Profile
from vitstudy.report import notebook, nystrom, quantizer
from vitstudy.report.evidence import Evidence
from vitstudy.study import Cell

log = logging.getLogger(__name__)

REFERENCE = files.REPOSITORY / "notebooks" / "reference.json"
"""By notebook and quantity the samples, each with its seed, instruction set, processor, torch."""
PROFILE = "digits"
ENOUGH = 3
"""Samples without which there is no band."""
CONTENT, CONFIDENCE = 0.999, 0.95
"""A band is to hold so much of what other seeds and processors give, and to do so this surely: some
forty are judged at once, of which on another processor all should hold."""


# -- what is held against bands -------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    floor: float
    """Added to half of every band: what does not vary among the samples may still be rounded."""
    shows: float
    """The change that such a number is there to show. Where half of the band would be wider, the
    number shows nothing, and has no band."""


ACCURACY = Kind(floor=0.5, shows=5.0)
"""Points: two of the 360 test images, and a training or a method that went wrong."""
DECIBELS = Kind(floor=0.1, shows=6.02)
"""One bit."""
MEBIBYTES = Kind(floor=0.001, shows=0.01)
SIZE_SHARE = Kind(floor=0.1, shows=5.0)
"""Percent of vanilla's file; one bit of 32 is 3.1 of them."""
RATIO = Kind(floor=0.01, shows=0.05)
ATTENTION_ERROR = Kind(floor=0.5, shows=10.0)
"""Percent of a matrix's norm."""
RANK = Kind(floor=0.5, shows=16.0)
"""A quarter of the 65 tokens."""


@dataclass(frozen=True)
class Quantity:
    name: str
    value: float
    kind: Kind


def _baselines(evidence: Evidence) -> Iterator[Quantity]:
    for dataset in evidence.datasets:
        if record := evidence.record(dataset, "vanilla"):
            yield Quantity(f"accuracy {dataset}, %", 100 * record.accuracy, ACCURACY)
            yield Quantity(f"size {dataset}, MiB", record.size_mib, MEBIBYTES)


def _quantization(evidence: Evidence) -> Iterator[Quantity]:
    errors = quantizer.error_against_bits(quantizer.tensors(evidence.profile)[1], bits=(4, 8))
    plain = errors["granularity"].eq("per tensor") & errors["scheme"].eq("asymmetric")
    for bits, value in errors[plain].groupby("bits")["sqnr"].mean().items():
        yield Quantity(f"mean SQNR at {bits} bits, dB", value, DECIBELS)


def _fq_vit(evidence: Evidence) -> Iterator[Quantity]:
    for key in METHODS["02_ptq_fqvit"]:
        if found := evidence.analysis(evidence.datasets[0], key):
            name = f"SQNR of the logits, {key}, dB"
            yield Quantity(name, float(found["logit_sqnr"]), DECIBELS)


def _quantization_aware(evidence: Evidence) -> Iterator[Quantity]:
    yield from _size_shares(("lsq-w4", "rounded-w4"), evidence)
    for dataset, found in evidence.analyses("diffq").items():
        ratio = int(found["payload_bytes"]) / int(found["formula_bytes"])
        yield Quantity(f"diffq on {dataset}: packed / formula", ratio, RATIO)


def _size_shares(keys: tuple[str, ...], evidence: Evidence) -> Iterator[Quantity]:
    for dataset in evidence.datasets:
        for key in keys:
            if evidence.record(dataset, key):
                share = evidence.size_share(dataset, key)
                yield Quantity(f"size of {key} on {dataset}, % of vanilla's", share, SIZE_SHARE)


def _accuracies(keys: tuple[str, ...], evidence: Evidence) -> Iterator[Quantity]:
    for dataset in evidence.datasets:
        for key in keys:
            if record := evidence.record(dataset, key):
                name = f"accuracy of {key} on {dataset}, %"
                yield Quantity(name, 100 * record.accuracy, ACCURACY)


def _nystrom(evidence: Evidence) -> Iterator[Quantity]:
    found = nystrom.analyses(evidence.profile)
    if found:
        errors = nystrom.errors(found)
        of_24 = errors[errors["landmarks"].eq(24) & errors["inverse"].eq("6 iterations")]["error"]
        yield Quantity("error at m = 24, %", 100 * of_24.mean(), ATTENTION_ERROR)
        yield Quantity("rank at 1 %, mean", nystrom.ranks(found)["rank"].mean(), RANK)
    for dataset in evidence.datasets:
        base = evidence.record(dataset, "vanilla")
        for key in METHODS["06_nystrom"][1:]:
            if base and (record := evidence.record(dataset, key)):
                change = 100 * (record.accuracy - base.accuracy)
                yield Quantity(f"change by {key} on {dataset}, points", change, ACCURACY)


METHODS = {
    "00_baselines": ("vanilla",),
    "01_quantization_basics": ("vanilla",),
    "02_ptq_fqvit": ("fq-vit-minmax", "fq-vit", "fq-vit-w6m3-minmax", "fq-vit-w6m3"),
    "03_qat": ("lsq-w4", "rounded-w4", "diffq"),
    "04_distillation": ("teacher", "deit-base"),
    "05_pruning": ("vtp-r0.1", "vtp-r0.2", "random-r0.2"),
    "06_nystrom": ("nystrom-all", "nystrom-m24", "nystrom-m32", "nystrom-m64"),
    "07_combined": ("deit-base+dynamic", "vtp-r0.2+dynamic"),
}
"""What the quantities of each notebook are of."""
QUANTITIES: dict[str, Callable[[Evidence], Iterator[Quantity]]] = {
    "00_baselines": _baselines,
    "01_quantization_basics": _quantization,
    "02_ptq_fqvit": _fq_vit,
    "03_qat": _quantization_aware,
    "04_distillation": partial(_accuracies, METHODS["04_distillation"]),
    "05_pruning": partial(_accuracies, METHODS["05_pruning"]),
    "06_nystrom": _nystrom,
    "07_combined": partial(_size_shares, METHODS["07_combined"]),
}
"""By notebook, what yields its quantities from the records and analyses of a profile's first seed;
rows that are not measured are left out."""
FIRST_DATA_ALONE = ("01_quantization_basics", "02_ptq_fqvit")
"""Notebooks whose quantities are of the set with ten classes only."""


def cells(profile: Profile) -> list[Cell]:
    """The cells that the quantities are of, less those that the profile computes only by name."""
    computed, found = methods.computed(profile.tiers), {}
    for name, keys in METHODS.items():
        datasets = profile.datasets[:1] if name in FIRST_DATA_ALONE else profile.datasets
        for key in keys:
            if key in computed:
                for dataset in datasets:
                    found[Cell(profile.name, dataset, key, profile.seeds[0])] = None
    return list(found)


# -- bands ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Band:
    low: float
    high: float


def tolerance_factor(count: int) -> float:
    """Standard deviations either side of the mean of `count` normal samples that hold `CONTENT` of
    their distribution with `CONFIDENCE`.

    Howe's two-sided factor (Two-sided tolerance limits for normal populations, 1969), the quantile
    of chi-squared by Wilson and Hilferty (1931): at nine samples 1 % above the exact 5.90, at three
    18 % above the exact 16.21.
    """
    normal, free = statistics.NormalDist(), count - 1
    root = 1 - 2 / (9 * free) + normal.inv_cdf(1 - CONFIDENCE) * math.sqrt(2 / (9 * free))
    spread = free * (1 + 1 / count) / (free * root**3)
    return normal.inv_cdf((1 + CONTENT) / 2) * math.sqrt(spread)


def distinct(samples: list[dict]) -> list[float]:
    """The samples' values. Two processors that give one value for a seed and an instruction set
    round alike, and count once."""
    different = {(each["seed"], each["instructions"], each["value"]) for each in samples}
    return sorted(value for *_, value in different)


def band(values: list[float], kind: Kind) -> Band | None:
    """The mean of the samples ± (tolerance factor × standard deviation + floor); None where that is
    wider than what the quantity is to show, or there are fewer than `ENOUGH` samples."""
    if len(values) < ENOUGH:
        return None
    half = tolerance_factor(len(values)) * statistics.stdev(values) + kind.floor
    mean = statistics.fmean(values)
    return Band(mean - half, mean + half) if half <= kind.shows else None


def made_on(samples: list[dict]) -> list[str]:
    """What the samples were taken on: each processor with its instruction sets, and the seeds."""
    found: dict[str, list[str]] = {}
    for each in samples:
        found.setdefault(each["cpu"], []).append(each["instructions"])
    seeds = ", ".join(str(seed) for seed in sorted({each["seed"] for each in samples}))
    return [
        f"{cpu}: {', '.join(name for name in instructions.SETS if name in names)}; seeds {seeds}"
        for cpu, names in sorted(found.items())
    ]


def references() -> dict[str, dict[str, list[dict]]]:
    """By notebook and quantity, the samples that are kept."""
    return files.read_json(REFERENCE) or {}


# -- in a notebook --------------------------------------------------------------------------------


def outside_path(profile: str, name: str) -> Path:
    """Where what is outside its band in the notebook `name` is written; absent where nothing is."""
    return files.results(profile) / "outside" / f"{name}.json"


def check(profile: Profile, name: str) -> None:
    """Show the quantities of the notebook `name` beside their bands, and say what is outside.

    That is written to `outside_path` too. Of `digits` alone; of other profiles nothing is shown.
    What has fewer than `ENOUGH` samples has no band yet, which the table says. Raises
    AssertionError where something is outside and `JUDGE` is 1.
    """
    if profile.name != PROFILE:
        return
    rows, outside = [], []
    kept = references().get(name, {})
    for each in QUANTITIES[name](Evidence(profile.name)):
        samples = kept.get(each.name, [])
        found = band(distinct(samples), each.kind)
        rows.append(_row(each, samples, found))
        if found and not found.low <= each.value <= found.high:  # NaN is outside
            outside.append(_entry(each, samples, found))
    if rows:
        notebook.table(pd.DataFrame(rows))
    path = outside_path(profile.name, name)
    if not outside:
        path.unlink(missing_ok=True)
        return
    files.write(path, json.dumps(outside, indent=1, ensure_ascii=False) + "\n")
    lines = [sentence(entry) for entry in outside]
    notebook.say(
        "**Outside the bands.** Another processor rounds otherwise, so this alone is no error:\n\n"
        + "\n".join(f"- {line}" for line in lines)
    )
    if os.environ.get(JUDGE) == "1":
        raise AssertionError(f"{name}: " + "; ".join(lines))


def _row(quantity: Quantity, samples: list[dict], found: Band | None) -> dict:
    if found:
        text = f"{found.low:.4g} to {found.high:.4g}"
    elif len(taken := distinct(samples)) < ENOUGH:
        text = f"none yet, of {len(taken)} samples: python -m vitstudy bands makes more"
    else:
        text = (
            f"none: the samples, {taken[0]:.4g} to {taken[-1]:.4g}, vary too much to show a "
            f"change of {quantity.kind.shows:g}"
        )
    return {
        "quantity": quantity.name,
        "here": f"{quantity.value:.4g}",
        "band": text,
        "made on": "; ".join(made_on(samples)),
    }


def _entry(quantity: Quantity, samples: list[dict], found: Band) -> dict:
    return {
        "name": quantity.name,
        "value": round(quantity.value, 6) if math.isfinite(quantity.value) else None,
        "low": round(found.low, 6),
        "high": round(found.high, 6),
        "made_on": made_on(samples),
    }


# -- making them ----------------------------------------------------------------------------------


def sample(profile: str, seed: int) -> None:
    """Compute the profile's cells that the quantities are of with `seed` for its first, and write
    the quantities to `values.json` below `$VITSTUDY_HOME`.

    Raises UserError where a cell fails.
    """
    known = replace(profiles.get(profile), seeds=(seed,), vanilla_seeds=())
    profiles.PROFILES[profile] = known
    for cell in cells(known):
        record = study.run(cell)
        if record.status != "done":
            raise UserError(f"{cell} failed: {record.error}")
    files.write_json(files.root() / "values.json", measured(known))


def measured(profile: Profile) -> dict[str, dict[str, float]]:
    """By notebook and name, the quantities of a profile."""
    evidence = Evidence(profile.name)
    return {
        name: {each.name: round(float(each.value), 6) for each in yielded(evidence)}
        for name, yielded in QUANTITIES.items()
    }


def merged(kept: dict, found: dict, of: dict) -> dict:
    """The samples in `kept` and the one in `found`, taken as `of` says, in place of one like it.

    A quantity that is not in `found` is no longer declared, and left out.
    """
    alike = ("seed", "instructions", "cpu")
    result: dict[str, dict[str, list[dict]]] = {}
    for name, values in found.items():
        result[name] = {}
        for quantity, value in values.items():
            before = kept.get(name, {}).get(quantity, [])
            others = [each for each in before if any(each[key] != of[key] for key in alike)]
            samples = [*others, {**of, "value": value}]
            order = list(instructions.SETS)
            samples.sort(key=lambda s: (s["cpu"], s["seed"], order.index(s["instructions"])))
            result[name][quantity] = samples
    return result


def make(seeds: list[int], names: list[str], *, anew: bool = False, profile: str = PROFILE) -> int:
    """Take a sample for each seed and instruction set that is here; how many failed.

    Each is computed in a process and a folder of its own, `artifacts/bands/SEED-SET`, by as many
    at a time as there are cores; what such a folder holds already and is still true is not computed
    again. `anew` forgets the samples of other machines, for where a recipe has changed.
    """
    here, lacking = instructions.chosen(names)
    if lacking:
        log.info("left out: this processor has no %s", ", ".join(lacking))
    if anew:
        files.write_json(REFERENCE, {})
    jobs = [(seed, name) for seed in seeds for name in here]
    failed, cores = 0, os.cpu_count() or 1
    side_by_side = max(1, cores // (profiles.get(profile).threads or cores))
    pool = ThreadPoolExecutor(side_by_side)
    try:
        waiting = {pool.submit(_job, profile, *job): job for job in jobs}
        for done in as_completed(waiting):
            (seed, name), (home, error) = waiting[done], done.result()
            if error:
                failed += 1
                log.error("failed: seed %d, %s: %s", seed, name, error)
                continue
            files.write_json(REFERENCE, merged(references(), *_found(home, seed, name)))
            log.info("seed %d, %s: kept in %s", seed, name, REFERENCE.name)
    finally:
        pool.shutdown(cancel_futures=True)  # after an interrupt no further one is started
    return failed


def _job(profile: str, seed: int, name: str) -> tuple[Path, str]:
    """Take one sample; where it was computed, and why it failed or ""."""
    home = files.artifacts("bands") / f"seed{seed}-{name}"
    mark = home / "processor"
    if mark.exists() and mark.read_text(encoding="utf-8") != instructions.processor():
        shutil.rmtree(home)
    files.write(mark, instructions.processor())
    instructions.share_data(home)
    code = f"from vitstudy.report import bands; bands.sample({profile!r}, {seed})"
    return home, instructions.call(code, name, home)


def _found(home: Path, seed: int, name: str) -> tuple[dict, dict]:
    values = files.read_json(home / "values.json")
    return values, {
        "seed": seed,
        "instructions": name,
        "cpu": instructions.processor(),
        "torch": study.versions()["torch"],
    }
