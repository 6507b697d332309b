"""What another processor changes: one artifact under several instruction sets, and beside records.

A processor is held to each instruction set that it has (`instructions`), and the test logits of one
file are compared with those under the newest. Where a record of another machine is at hand, its
predictions are compared with what this machine makes of the same recipe step: the same file for
vanilla, and for what is made of it without training the same method done again here.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vitstudy import data, files, instructions, measure, methods, models, profiles, study, training
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.study import Cell

log = logging.getLogger(__name__)

METHODS = (
    *("vanilla", "dynamic", "onnx-int8", "torchao-int8", "fq-vit"),
    *("lsq-w4", "rounded-w4"),
)
"""Float, every kind of integer arithmetic, and what imitates it; `rounded-w4` is LSQ's own layers
before training, for where no trained one is at hand."""
COLUMNS = [
    *("what", "dataset", "method", "instructions", "against", "of", "largest_difference"),
    *("flips", "images", "cpu"),
]
RECIPE_COLUMNS = ["dataset", "seed", "instructions", "cpu", "accuracy"]


def path(profile: str) -> Path:
    return files.results(profile) / "tables" / "portability.csv"


def recipe_path(profile: str) -> Path:
    return files.results(profile) / "tables" / "portability_recipe.csv"


def make(profile: str, images: int | None = None) -> Path:
    """Compare the profile's artifacts, first seed, on so many of the first test images, by default
    all, and write `tables/portability.csv` and `portability_recipe.csv`; where the first is.

    Raises UserError where no artifact of vanilla is here, or a process fails.
    """
    from vitstudy.report import portability

    known = profiles.get(profile)
    sets = instructions.available()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        cells = [
            cell
            for dataset in known.datasets
            for key in METHODS
            if _place(cell := Cell(profile, dataset, key, known.seeds[0]), home)
        ]
        if not cells:
            raise UserError(
                f"no artifact of vanilla on the profile {profile} is here; make it with "
                f"'python -m vitstudy run \"{profile}/*/vanilla\"'"
            )
        instructions.share_data(home)
        cores = os.cpu_count() or 1
        with ThreadPoolExecutor(max(1, cores // (known.threads or cores))) as pool:
            errors = list(pool.map(lambda name: _run(profile, name, images, home), sets))
        if any(errors):
            raise UserError("; ".join(filter(None, errors)))
        rows = [row for cell in cells for row in _rows(cell, sets, home)]
    files.write_csv(path(profile), COLUMNS, rows)
    seeds = portability.recipe(profile)
    if len(seeds):
        files.write_csv(recipe_path(profile), RECIPE_COLUMNS, seeds.to_dict("records"))
    return path(profile)


# -- artifacts ------------------------------------------------------------------------------------


def _place(cell: Cell, home: Path) -> Path | None:
    """Put the cell's artifact below `home`: a copy of the one that its record names, or one made
    of its parents' where that takes no training; where it is, None where neither can be had."""
    record, place = study.read(cell), _artifact(cell, home)
    if place.exists():
        return place
    if record is None or record.status != "done" or methods.not_installed(methods.get(cell.method)):
        return None
    own = cell.artifact_path
    if own.exists() and files.sha256(own) == record.artifact_sha256:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(own, place)
        return place
    if record.steps != 0:
        return None
    parents = {parent.method: _place(parent, home) for parent in cell.parents()}
    if not all(parents.values()):
        return None
    log.info("making %s of its parents", cell)
    method, context = methods.get(cell.method), _context(cell, parents)
    with training.threads(context.profile.threads):
        made = importlib.import_module(method.module).compress(context)
        models.save(made, place, method.packer)
    return place


def _artifact(cell: Cell, home: Path) -> Path:
    return home / cell.artifact_path.relative_to(files.root())


def _context(cell: Cell, artifacts: dict[str, Path]) -> Context:
    """What the cell is made and evaluated with, on the CPU."""
    method, profile = methods.get(cell.method), profiles.get(cell.profile)
    return Context(
        profile=profile,
        data=data.load(cell.dataset, profile.limit),
        seed=cell.seed,
        name=str(cell),
        config=method.config,
        artifacts=artifacts,
        checkpoints=cell.checkpoints,
        device="cpu",
    )


# -- logits ---------------------------------------------------------------------------------------


def _run(profile: str, name: str, images: int | None, home: Path) -> str:
    """Evaluate what lies below `home` under the set `name`; why it failed, or ""."""
    log.info("test logits of %s under %s", profile, name)
    code = (
        f"from vitstudy import portability; portability.evaluate({profile!r}, {name!r}, {images})"
    )
    error = instructions.call(code, name, home)
    return f"{name}: {error}" if error else ""


def evaluate(profile: str, name: str, images: int | None = None) -> None:
    """Write the logits of every artifact below `$VITSTUDY_HOME`, as this process computes, of so
    many of the first test images, by default all."""
    known = profiles.get(profile)
    for dataset in known.datasets:
        for key in METHODS:
            cell = Cell(profile, dataset, key, known.seeds[0])
            if cell.artifact_path.exists():
                context = _context(cell, {key: cell.artifact_path})
                with training.threads(known.threads):
                    model = models.load(cell.artifact_path).requires_grad_(False)
                    test = context.data.test
                    logits = context.evaluate(model, test.head(images or len(test)))
                place = _logits(cell, name, files.root())
                place.parent.mkdir(parents=True, exist_ok=True)
                np.save(place, logits.numpy())


def _logits(cell: Cell, name: str, home: Path) -> Path:
    return home / "logits" / name / cell.dataset / f"{cell.method}.npy"


# -- comparison -----------------------------------------------------------------------------------


def _rows(cell: Cell, sets: list[str], home: Path) -> list[dict]:
    """Each older set against the newest, then the newest against a record of another machine."""
    *older, newest = sets
    here = np.load(_logits(cell, newest, home))
    common = {"dataset": cell.dataset, "method": cell.method, "images": len(here)}
    common["cpu"] = instructions.processor()
    rows = []
    for name in older:
        other = np.load(_logits(cell, name, home))
        differences = {
            "largest_difference": f"{np.abs(other - here).max():.3g}",
            "flips": int((other.argmax(1) != here.argmax(1)).sum()),
        }
        sides = {"instructions": name, "against": newest, "of": "logits"}
        rows.append({"what": "artifact", **common, **sides, **differences})
    record = study.read(cell)
    made_on = record.gpu or record.cpu
    if cell.predictions_path.exists() and made_on != measure.cpu():
        sides = {"instructions": newest, "against": made_on, "of": "top probability"}
        kept = {name: each[: len(here)] for name, each in study.predictions(cell).items()}
        found = against_predictions(here, kept)
        rows.append({"what": "record", **common, **sides, **found})
    return rows


def against_predictions(logits: np.ndarray, kept: dict[str, np.ndarray]) -> dict:
    """How logits (N, C) differ from a record's predictions of the same N images.

    `largest_difference` is of the probability of the record's likeliest class, which is kept in
    float16: up to 0.00025 of it is rounding.
    """
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponents / exponents.sum(1, keepdims=True)
    top = kept["classes"][:, 0].astype(int)
    differences = probabilities[np.arange(len(top)), top] - kept["probabilities"][:, 0]
    return {
        "largest_difference": f"{np.abs(differences).max():.3g}",
        "flips": int((logits.argmax(1) != top).sum()),
    }
