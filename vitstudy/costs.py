"""What the papers' rows cost at the papers' own scale: all that does not depend on the weights.

Each row is built with random weights, written to a file by its own packer and counted from that
file loaded again: bytes, parameters, multiply-accumulates. `results/paper/costs.csv` has them with
what the papers print, and has no accuracy, since these weights have learned nothing. The files are
not kept. Timings, which need an idle machine, are made only where asked for: in turn, in one
process; `results/paper/costs_speed.json` has them whole, with the machine.
"""

from __future__ import annotations

import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitstudy import data, files, methods, profiles
from vitstudy.errors import UserError
from vitstudy.methods import METHODS, Method

if TYPE_CHECKING:
    from torch import nn

# torch is imported where something is built: who only reads what was found need not wait for it.

log = logging.getLogger(__name__)

PROFILE = "paper"
ROUNDS = 7
"""Turns of a timing, where nobody says how many."""
BATCH = 8
"""Of the images per second; iterations per second are of the profile's batch, as the papers'."""
IN_ITERATIONS = ("vanilla", "deit-base")
"""What is timed at that batch, too: the rows of one shape whose printed speeds differ."""
COLUMNS = [
    *("key", "model", "num_classes", "weights", "simulated", "weight_bits"),
    *("size_published", "size_mib", "size_bytes", "parameters", "macs"),
    *("gpu_speed_published", "cpu_speed_published"),
    *("images_per_second", "images_per_second_low", "images_per_second_high"),
    *("images_ratio", "images_ratio_low", "images_ratio_high"),
    *("iterations_per_second", "iterations_per_second_low", "iterations_per_second_high"),
    *("iterations_ratio", "iterations_ratio_low", "iterations_ratio_high", "note"),
]
"""Sizes are published in MB, of 2^20 bytes as the papers count, speeds in iterations per second;
`low` and `high` of a rate are the quartiles of the turns, a `ratio` is to vanilla at the same batch
with its 95 % interval (`speed.ratio`)."""
COUNTED = ("size_bytes", "parameters", "macs")
"""By which a timing knows the network again that it is of."""
INSTEAD = {
    "lsq": "rounded at random weights, steps not learned",
    "fq_vit": "calibrated on random images",
    "diffq": "no bits, so no size: training learns them; printed: {printed_bits:.1f} a parameter",
    "tune": "every kind of dimension cut by the same share; gates cut unevenly",
}
"""What stands in the place of training and calibration, by the row's module."""
OFF = {
    "lsq": "all at {bits:.0f} bits is {whole:.1f}, but positions, norms, biases stay float",
    "tune": "the printed one is {gone:.1%} below vanilla's",
}
"""What there is to say of a size that is not the printed one."""


def path() -> Path:
    return files.results(PROFILE) / "costs.csv"


def speed_path() -> Path:
    return files.results(PROFILE) / "costs_speed.json"


def _found(wanted: Path) -> Path | None:
    """`wanted`, or the committed file of that name where the study computes elsewhere."""
    committed = files.REPOSITORY / "results" / PROFILE / wanted.name
    return next((each for each in (wanted, committed) if each.exists()), None)


def read() -> pd.DataFrame:
    """What was counted, `COLUMNS`; raises UserError where nothing was, or the file is damaged."""
    file = _found(path())
    if file is None:
        raise UserError(f"{path()} is absent; make it with 'python -m vitstudy costs'")
    try:
        frame = pd.read_csv(file)
    except ValueError as error:  # pandas' own errors and those of the encoding are such
        raise UserError(f"{file} is damaged: {' '.join(str(error).split())}") from error
    for column in COLUMNS:
        if column not in frame:
            raise UserError(f"{file} has no column {column!r}; valid: {', '.join(COLUMNS)}")
    return frame[COLUMNS].fillna({"note": ""})


def read_speed() -> dict | None:
    """The interleaved timing of the rows and its machine; None where there is none.

    Raises UserError where the file is damaged.
    """
    file = _found(speed_path())
    if file is None:
        return None
    found = files.read_json(file)
    if not found or not found.keys() >= {"started", "cpu", "batch", "rounds", "models"}:
        raise UserError(f"{file} is damaged; make it with 'python -m vitstudy costs --speed'")
    return found


# -- counting -------------------------------------------------------------------------------------


def count(method: Method, dataset: str, folder: Path) -> tuple[dict, nn.Module]:
    """A row's costs, `COLUMNS` less its speeds and its note, and its model as reloaded."""
    import torch

    from vitstudy import measure, models, untrained

    profile, spec = profiles.get(PROFILE), data.spec(dataset)
    published = method.published[profile.datasets.index(dataset)]
    file = folder / "model.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = untrained.build(method, profile.architecture, spec.num_classes, spec.channels)
        models.save(made, file, method.packer)
    model, size = models.load(file), file.stat().st_size
    learned = method.weight_bits is None
    return {
        "key": method.key,
        "model": method.title,
        "num_classes": spec.num_classes,
        "weights": "random",
        "simulated": method.simulated,
        "weight_bits": method.weight_bits,
        "size_published": published.size,
        "size_mib": None if learned else round(size / measure.MIB, 4),
        "size_bytes": None if learned else size,
        "parameters": measure.count_parameters(model),
        "macs": measure.count_macs(model, profile.architecture.image_size, spec.channels),
        "gpu_speed_published": published.gpu_speed,
        "cpu_speed_published": published.cpu_speed,
    }, model


def make(rounds: int | None = None) -> pd.DataFrame:
    """Count every row on both data sets and write `costs.csv`; what it then says.

    rounds: turns of a timing of the rows with real arithmetic, which is written first; None keeps
    the speeds that there are.
    """
    profile, rows, timed, counted = profiles.get(PROFILE), [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for dataset in profile.datasets:
            for method in METHODS:
                log.info("counting %s for %s", method.key, data.spec(dataset).title)
                row, model = count(method, dataset, Path(folder))
                rows.append(row)
                if rounds and dataset == profile.datasets[0] and not method.simulated:
                    timed[method.key] = model
                    counted[method.key] = {name: row[name] for name in COUNTED}
    if rounds:
        found = timing(timed, rounds)
        for key, facts in counted.items():
            found["models"][key]["counted"] = facts
        files.write_json(speed_path(), found)
    timed = read_speed()
    vanilla = {row["num_classes"]: row for row in rows if row["key"] == "vanilla"}
    for row in rows:
        notes = _notes(row, vanilla[row["num_classes"]])
        row["note"] = "; ".join([*notes, *_add_speed(row, timed)])
    files.write_csv(path(), COLUMNS, rows)
    return read()


def _notes(row: dict, vanilla: dict) -> list[str]:
    """What is special of a row, and why its cells are empty, but for those of speeds."""
    kind, notes = methods.get(row["key"]).module.rpartition(".")[2], []
    size, printed = row["size_mib"], row["size_published"]
    facts = {}
    if printed:
        facts["bits"] = row["weight_bits"]
        facts["printed_bits"] = 8 * 2**20 * printed / row["parameters"]
        facts["gone"] = 1 - printed / vanilla["size_published"]
        facts["whole"] = (row["weight_bits"] or 0) * row["parameters"] / 8 / 2**20
    if kind in INSTEAD:
        notes.append(INSTEAD[kind].format(**facts))
    if size and printed and round(size) != printed:
        notes.append(f"{size / printed - 1:+.1%} off the printed size")
        notes += [OFF[kind].format(**facts)] if kind in OFF else []
    names = {"size": "size", "gpu_speed": "GPU speed", "cpu_speed": "CPU speed"}
    absent = [words for name, words in names.items() if row[f"{name}_published"] is None]
    return [*notes, f"not printed: {', '.join(absent)}"] if absent else notes


def _add_speed(row: dict, run: dict | None) -> list[str]:
    """Fill in the speeds that were measured (`read_speed`); notes for those that were not."""
    from vitstudy import speed

    models = run["models"] if run else {}
    first = data.spec(profiles.get(PROFILE).datasets[0]).num_classes
    if row["simulated"]:
        return ["simulated: no speed"]
    if row["num_classes"] != first:
        return [f"speed: as with {first} classes, which differs in the head alone"]
    timed = models.get(row["key"], {})
    if timed.get("counted") != {name: row[name] for name in COUNTED}:
        return ["speed not measured yet"]  # or of what was another network then
    for unit in timed.keys() - {"counted"}:
        found = timed[unit]
        rate = f"{unit}_per_second"
        row[rate] = found[rate]
        row[f"{rate}_low"], row[f"{rate}_high"] = found[f"{rate}_quartiles"]
        told = speed.ratio(found, models["vanilla"][unit], run["rounds"], rate)
        row[f"{unit}_ratio"] = value = told["ratio_to_vanilla"]
        limits = told.get("ratio_interval", (value, value))
        row[f"{unit}_ratio_low"], row[f"{unit}_ratio_high"] = limits
    if row["key"] in IN_ITERATIONS:
        return []
    return [f"iterations of the papers' batch: timed of {' and '.join(IN_ITERATIONS)} alone"]


# -- timing ---------------------------------------------------------------------------------------


def timing(models: dict[str, nn.Module], rounds: int) -> dict:
    """The models of the first data set, vanilla's among them, timed in turn in this process.

    They are in memory at once, some 3 GB. Nothing else should run meanwhile; what others had of the
    processors is written down, and told where it is much.
    """
    import torch

    from vitstudy import measure, speed, study

    started = datetime.now(UTC).isoformat(timespec="seconds")
    profile = profiles.get(PROFILE)
    spec, size = data.spec(profile.datasets[0]), profile.architecture.image_size
    batches, pairs = {"images": BATCH, "iterations": profile.speed_batch}, {}
    for unit, keys in (("images", models), ("iterations", IN_ITERATIONS)):
        images = torch.zeros(batches[unit], spec.channels, size, size)
        pairs |= {(key, unit): (models[key], images) for key in keys}
    log.info("timing %d models in turn, %d rounds", len(models), rounds)
    turns, elsewhere = speed.interleave_watched(pairs, rounds, speed_path())
    found = {key: {} for key in models}
    for (key, unit), each in turns.items():
        found[key][unit] = _summary(unit, each, batches[unit])
    return {
        "started": started,
        "commit": study.commit(),
        "cpu": measure.cpu(),
        "instruction_sets": measure.instruction_sets(),
        "threads": torch.get_num_threads(),
        "busy_elsewhere": elsewhere,
        "torch": torch.__version__,
        "weights": "random",
        "num_classes": spec.num_classes,
        "image_size": size,
        "batch": batches,
        "rounds": rounds,
        "models": found,
    }


def _summary(unit: str, turns: dict, batch: int) -> dict:
    """Median and quartiles of a model's turns, and those themselves."""
    rates = np.asarray(turns["images_per_second"]) / (1 if unit == "images" else batch)
    low, middle, high = (float(f"{value:.5g}") for value in np.percentile(rates, [25, 50, 75]))
    return {
        f"{unit}_per_second": middle,
        f"{unit}_per_second_quartiles": [low, high],
        "turns": [float(f"{rate:.5g}") for rate in rates],
        "latency_ms_p50": float(f"{1_000 * np.median(turns['single_seconds']):.5g}"),
    }
