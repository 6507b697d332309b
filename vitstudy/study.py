"""Cells: each is computed once, kept as an artifact and a record, and found again.

Cell ─► artifact (a safetensors file) ─► measured as reloaded ─► predictions and record.
A cell is a *hit* when its record, the files whose hashes the record names, and its fingerprint
(profile, data, versions, the sources that made it, its parents' artifacts) are all as they were.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import fnmatch
import hashlib
import importlib
import io
import json
import logging
import os
import platform
import shutil
import subprocess
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

try:
    import fcntl
except ModuleNotFoundError:  # Windows: what needs a lock says so
    fcntl = None

from vitstudy import data, files, methods, profiles
from vitstudy.errors import TrainingFailed, UserError, to_mend, unknown
from vitstudy.record import SCHEMA, Record, problem

log = logging.getLogger(__name__)

MOST_WATTS = 1_000
"""Of a processor: how soon an energy counter may have started again more than once."""
UNSUPPORTED = "vitstudy runs on Linux, macOS and WSL: this system has no locks on files (fcntl)"
OTHER_PREDICTIONS = "its predictions file is damaged"
LIKELIEST = 5
"""Classes kept of every test image's prediction."""

# What every cell is made and measured with, besides its own method.
GROUND = ("context", "training", "measure", "statistics")
# The profile's values and the method's options enter the fingerprint resolved, so that a new row
# or profile leaves the others' cells as they are.
RESOLVED = {"profiles", "methods", "study", "record", "cli", "errors", "files", "__init__"}
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "safetensors", "scikit-learn")


@dataclass(frozen=True, order=True)
class Cell:
    profile: str
    dataset: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.profile}/{self.dataset}/{self.method}/{self.seed_name}"

    @property
    def seed_name(self) -> str:
        return f"seed{self.seed}"

    @property
    def _place(self) -> Path:
        return Path(self.dataset) / self.method / self.seed_name

    @property
    def record_path(self) -> Path:
        return files.results(self.profile) / "records" / self._place.with_suffix(".json")

    @property
    def predictions_path(self) -> Path:
        return self.record_path.with_suffix(".npz")

    @property
    def analysis_path(self) -> Path:
        return files.results(self.profile) / "analysis" / self._place.with_suffix(".npz")

    @property
    def artifact_path(self) -> Path:
        return files.artifacts(self.profile) / self._place / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        return files.artifacts(self.profile) / self._place / "checkpoints"

    def parents(self) -> list[Cell]:
        """What it starts from; and vanilla always, since flips are counted against it."""
        method, parents = methods.get(self.method), methods.get(self.method).parents
        if profiles.get(self.profile).architecture.timm_name:
            if method.parents_of_pretrained is not None:
                parents = method.parents_of_pretrained
        keys = dict.fromkeys((*parents, "vanilla"))
        keys.pop(self.method, None)
        return [Cell(self.profile, self.dataset, key, self.seed) for key in keys]


def cells(
    profile: str,
    *,
    left_out: bool = False,
    left_out_data: bool = False,
    not_installed: bool = False,
) -> list[Cell]:
    """Every cell of a profile, each after its parents; one seed of every row before the next, and
    further seeds of vanilla last.

    With `left_out` also the methods of tiers that the profile computes only by name, with
    `left_out_data` such data sets, with `not_installed` those whose engine this machine lacks.
    """
    known = profiles.get(profile)
    left_out_names = () if left_out_data else known.leaves_out_data
    datasets = [name for name in known.datasets if name not in left_out_names]
    computed = methods.computed(methods.TIERS if left_out else known.tiers)
    found = [
        Cell(profile, dataset, method.key, seed)
        for seed in known.seeds
        for dataset in datasets
        for method in _in_order()
        if method.key in computed and (not_installed or not methods.not_installed(method))
    ]
    more = [(seed, dataset) for seed in known.vanilla_seeds for dataset in datasets]
    return found + [Cell(profile, dataset, "vanilla", seed) for seed, dataset in more]


@cache
def _in_order() -> tuple[methods.Method, ...]:
    """The available methods, each after its parents, else in the papers' order."""
    ordered: dict[str, methods.Method] = {}

    def add(method: methods.Method) -> None:
        for parent in method.parents:
            add(methods.get(parent))
        ordered.setdefault(method.key, method)

    for method in methods.available():
        add(method)
    return tuple(ordered.values())


def select(patterns: list[str]) -> list[Cell]:
    """The cells that match any of `patterns`, each `profile[/dataset[/method[/seedK]]]`, globs
    allowed, in an order in which parents come first.

    Those whose engine is not installed are left out. Raises UserError where a part of a pattern
    matches nothing, naming what is valid, and where nothing is left of what it matches.
    """
    chosen: dict[Cell, None] = {}
    for pattern in patterns:
        matching = _matching_cells(pattern)
        here = [cell for cell in matching if not methods.not_installed(methods.get(cell.method))]
        if not here:
            _check_installed(matching[0])
        chosen |= dict.fromkeys(here)
    return list(chosen)


def _check_installed(cell: Cell) -> None:
    """Raise UserError where this machine lacks the engine that the cell's method needs."""
    method = methods.get(cell.method)
    if reason := methods.not_installed(method):
        wanted = " ".join(method.requires)
        raise UserError(f"{cell} is not run: {reason}; pip install -c requirements.lock {wanted}")


def not_run(patterns: list[str]) -> dict[str, str]:
    """The methods that `patterns` take in but for their engines, each with the reason."""
    keys = {cell.method: None for pattern in patterns for cell in _matching_cells(pattern)}
    reasons = {key: methods.not_installed(methods.get(key)) for key in keys}
    return {key: reason for key, reason in reasons.items() if reason}


def _matching_cells(pattern: str) -> list[Cell]:
    """The cells that match a pattern, those whose engine is not installed included."""
    parts = pattern.strip("/").split("/")
    if len(parts) > 4:
        raise UserError(f"{pattern!r} has more than the four parts of profile/dataset/method/seedK")
    parts += ["*"] * (4 - len(parts))
    names = _matching("profile", parts[0], profiles.PROFILES)
    data_named, method_named = (not set("*?[") & set(part) for part in parts[1:3])
    given = {"left_out": method_named, "left_out_data": data_named, "not_installed": True}
    found = [cell for name in names for cell in cells(name, **given)]
    # Each part is looked for among what the parts before it leave.
    for kind, field, part in (
        ("data set", "dataset", parts[1]),
        ("method", "method", parts[2]),
        ("seed", "seed_name", parts[3]),
    ):
        valid = dict.fromkeys(getattr(cell, field) for cell in found)
        names = _matching(kind, part, valid)
        found = [cell for cell in found if getattr(cell, field) in names]
    return found


def _matching(kind: str, pattern: str, names) -> list[str]:
    found = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        raise unknown(kind, pattern, names)
    return found


# -- hits -----------------------------------------------------------------------------------------


@cache
def _imports(file: Path) -> frozenset[Path]:
    """The package's own files that `file` imports, directly."""
    found = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.startswith("vitstudy."):
                path = files.SOURCE.joinpath(*name.split(".")[1:]).with_suffix(".py")
                if path.is_file():
                    found.add(path)
    return frozenset(found)


@cache
def _sources(*modules: str) -> dict[str, str]:
    waiting = [files.SOURCE.joinpath(*name.split(".")).with_suffix(".py") for name in GROUND]
    waiting += [files.SOURCE.joinpath(*name.split(".")[1:]).with_suffix(".py") for name in modules]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in seen and path.stem not in RESOLVED:
            seen.add(path)
            waiting += _imports(path)
    return {str(path.relative_to(files.SOURCE)): files.sha256(path) for path in sorted(seen)}


def sources(key: str) -> dict[str, str]:
    """SHA-256 of the package's files that a cell of the method `key` is made and kept by."""
    method = methods.get(key)
    return _sources(method.module, method.packer)


@cache
def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def _versions(cell: Cell) -> dict[str, str]:
    """Of what the cell is made with, its engine included."""
    found = dict(versions())
    for name in methods.get(cell.method).requires:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _options(cell: Cell) -> dict:
    method, profile = methods.get(cell.method), profiles.get(cell.profile)
    return {**method.options, **profile.describe(cell.dataset, method.reads)}


def fingerprint(cell: Cell, parents: dict[str, str]) -> str:
    """What a cell's result depends on, as one hash; `parents` are its parents' artifacts'."""
    method = methods.get(cell.method)
    python = ".".join(platform.python_version_tuple()[:2])
    made_with = {**_versions(cell), "python": python}
    parts = [
        SCHEMA,
        str(cell),
        _options(cell),
        [method.module, method.packer, method.parents, method.device],
        [method.weight_bits, method.activation_bits, method.simulated],
        data.dataset_hash(cell.dataset),
        made_with,
        sources(cell.method),
        parents,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read(cell: Cell) -> Record | None:
    """The cell's record as it lies there, up to date or not; None where there is no sound one."""
    return _examined(cell)[0]


def damage(cell: Cell) -> str:
    """What is wrong with the cell's record; empty where it is sound or absent.

    It is held against its schema, its place, its predictions and the length of its artifact, where
    those are at hand: a record that somebody edited is none.
    """
    return _examined(cell)[1]


def _examined(cell: Cell) -> tuple[Record | None, str]:
    paths = (cell.record_path, cell.predictions_path, cell.artifact_path)
    return _examine(cell, tuple(map(_state, paths)), *paths)


def _state(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from one that was written in its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=4_096)
def _examine(
    cell: Cell, states: tuple, path: Path, predictions: Path, artifact: Path
) -> tuple[Record | None, str]:
    """A record and what is wrong with it, kept while its files are as `states` has them."""
    if states[0] is None:
        return None, ""
    value = files.read_json(path)
    if value is None:
        return None, "it is no whole JSON object"
    if found := problem(value):
        return None, found
    record = Record(**value)
    for name in ("profile", "dataset", "method", "seed"):
        if getattr(record, name) != getattr(cell, name):
            return None, f"its {name} is {getattr(record, name)!r}, where {cell} lies"
    if record.status != "done":
        return record, ""
    if states[1] is not None:
        if files.sha256(predictions) != record.predictions_sha256:
            return None, OTHER_PREDICTIONS
        with np.load(predictions, allow_pickle=False) as kept:
            right = kept["classes"][:, 0] == kept["labels"]
        counted = {"accuracy": float(right.mean()), "test_images": len(right)}
        for name, number in counted.items():
            if getattr(record, name) != number:
                return None, f"{name} is {getattr(record, name)}, its predictions give {number}"
    # An artifact of another hash is damaged or older: that is for `why_not` to say.
    if states[2] is not None and states[2][1] != record.size_bytes:
        if files.sha256(artifact) == record.artifact_sha256:
            return None, f"size_bytes is {record.size_bytes}, its artifact has {states[2][1]}"
    return record, ""


def is_done(cell: Cell) -> bool:
    """Whether there is a whole record of a success, made from the parents' artifacts as recorded.

    It may have been made by other sources: that is what `run --missing` asks.
    """
    record = read(cell)
    if record is None or record.status != "done":
        return False
    parents = {parent.method: read(parent) for parent in cell.parents()}
    return all(
        found is not None and found.artifact_sha256 == record.parents.get(key)
        for key, found in parents.items()
    )


def why_not(cell: Cell) -> str | None:
    """Why the cell has to be computed; None for a hit."""
    if not cell.record_path.exists():
        return "not measured yet"
    record = read(cell)
    if record is None:
        wrong = damage(cell)
        return wrong if wrong == OTHER_PREDICTIONS else f"its record is damaged: {wrong}"
    if record.status != "done":
        return f"it failed before: {record.error}"
    parents = {}
    for parent in cell.parents():
        if reason := why_not(parent):
            return f"{parent.method}: {reason}"
        parents[parent.method] = read(parent).artifact_sha256
    if record.fingerprint != fingerprint(cell, parents):
        return _what_changed(cell, record, parents)
    kept = {
        "artifact": (cell.artifact_path, record.artifact_sha256),
        "predictions file": (cell.predictions_path, record.predictions_sha256),
        "analysis file": (cell.analysis_path, record.analysis_sha256),
    }
    for kind, (path, digest) in kept.items():
        if digest and not path.exists():
            return f"its {kind} is absent"
        if digest and files.sha256(path) != digest:
            return f"its {kind} is damaged"
    return None


def _what_changed(cell: Cell, record: Record, parents: dict[str, str]) -> str:
    before, now = record.sources or {}, sources(cell.method)
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        return f"{', '.join(changed)} changed"
    if record.dataset_hash != data.dataset_hash(cell.dataset):
        return "the data changed"
    if record.parents != parents:
        return f"{', '.join(record.parents) or 'what it starts from'} changed"
    before, now = record.versions or {}, _versions(cell)
    moved = [name for name in now if before.get(name) != now[name] and name != "python"]
    return f"{', '.join(moved)} changed" if moved else "its options changed"


# -- computing ------------------------------------------------------------------------------------


def run(cell: Cell, *, missing: bool = False) -> Record:
    """The record of `cell`: read on a hit, else computed, its parents first.

    `missing` takes a whole record as done even where its artifact or fingerprint is not at hand,
    and an ancestor as it is where its artifact is the one that its record names; one whose artifact
    is absent is made again, from ancestors that are taken so too.
    A cell whose training fails gets a `failed` record, and so do those that start from it.
    """
    if missing and is_done(cell):
        return read(cell)
    return _run(cell, missing)


def attempt(cell: Cell, *, missing: bool = False) -> Record:
    """As `run`, but any error that is not the user's to mend gets the cell a `failed` record too.

    It is for who computes many cells, each of which must not take the others with it.
    """
    try:
        return run(cell, missing=missing)
    except Exception as error:
        if to_mend(error) is not None or _several():  # the other processes wait for this one
            raise
        traceback.print_exception(error)
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())
        place = f"{Path(where.filename).name}:{where.lineno}"
        return fail(cell, f"{type(error).__name__}: {said} ({place})")


def fail(cell: Cell, error: str) -> Record:
    """Give the cell a `failed` record that says why."""
    with _locked(cell):
        return _write_failed(cell, {}, error)


def lacks_parent(cell: Cell) -> str | None:
    """Which parent of the cell is not up to date, and why; None where all are."""
    for parent in cell.parents():
        if reason := why_not(parent):
            return f"it starts from {parent.method}: {reason}"
    return None


def _run(cell: Cell, missing: bool) -> Record:
    reason = why_not(cell)
    if reason is None:
        return read(cell)
    _check_installed(cell)
    with _locked(cell):
        # Another process may have made it meanwhile; processes of one launch decided together.
        if not _several() and why_not(cell) is None:
            return read(cell)
        if cell.record_path.exists():
            log.info("%s is computed again: %s", cell, reason)
        before = read(cell)
        parents = {}
        for parent in cell.parents():
            record = _parent(parent, missing)
            if record.status != "done":
                return _write_failed(cell, {}, f"{parent.method} failed: {record.error}")
            parents[parent.method] = record.artifact_sha256
        try:
            record = _compute(cell, parents)
        except TrainingFailed as error:
            return _write_failed(cell, parents, str(error))
        if _is_main():
            _note_change(cell, before, record, reason)
        return record


def _parent(cell: Cell, missing: bool) -> Record:
    """The record of what another cell starts from; made again where its artifact is not at hand."""
    record = read(cell)
    if missing and is_done(cell) and cell.artifact_path.exists():
        if files.sha256(cell.artifact_path) == record.artifact_sha256:
            return record
    return _run(cell, missing)


def _is_main() -> bool:
    """False in all but one of the processes that `accelerate launch` or `torchrun` started."""
    return int(os.environ.get("RANK", 0)) == 0


def _several() -> bool:
    """Whether several processes compute each cell together."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def _barrier() -> None:
    """Wait for the other processes, where there are any: only one of them writes files."""
    if _several():
        from accelerate import Accelerator

        Accelerator().wait_for_everyone()


def _blank(cell: Cell, parents: dict[str, str], status: str) -> Record:
    return Record(
        schema=SCHEMA,
        profile=cell.profile,
        dataset=cell.dataset,
        method=cell.method,
        seed=cell.seed,
        status=status,
        command=f"python -m vitstudy run {cell}",
        fingerprint=fingerprint(cell, parents),
        options=_options(cell),
        parents=parents,
        dataset_hash=data.dataset_hash(cell.dataset),
        created=_now(),
        sources=sources(cell.method),
        versions=_versions(cell),
        commit=commit(),
        lock_sha256=_lock_hash(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _forget_others_checkpoints(cell: Cell, fingerprint: str) -> None:
    """Remove checkpoints that another recipe or other sources left: a training goes on from its
    own, or the record would name what did not make it."""
    mark = cell.checkpoints / "fingerprint"
    if not mark.exists() or mark.read_text(encoding="utf-8") != fingerprint:
        shutil.rmtree(cell.checkpoints, ignore_errors=True)
        files.write(mark, fingerprint)


def _write_failed(cell: Cell, parents: dict[str, str], error: str) -> Record:
    record = _blank(cell, parents, "failed")
    record.error = error
    if _is_main():
        files.write_json(cell.record_path, record.to_json())
    _barrier()
    return record


def _compute(cell: Cell, parents: dict[str, str]) -> Record:
    """Make the artifact, measure it as reloaded, and write what was found; the record last."""
    from vitstudy import measure, models, training
    from vitstudy.context import Context

    started, counters = time.monotonic(), measure.energy_counters()
    method, profile = methods.get(cell.method), profiles.get(cell.profile)
    context = Context(
        profile=profile,
        data=data.load(cell.dataset, profile.limit),
        seed=cell.seed,
        name=str(cell),
        options=method.options,
        artifacts={parent.method: parent.artifact_path for parent in cell.parents()},
        checkpoints=cell.checkpoints,
        device=method.device,
    )
    module = importlib.import_module(method.module)
    record = _blank(cell, parents, "done")  # the sources as they are now, not after the training
    if _is_main():
        _forget_others_checkpoints(cell, record.fingerprint)
        resumed = any(cell.checkpoints.glob("stage*.pt"))
        for path in (cell.artifact_path, cell.predictions_path, cell.analysis_path):
            files.forget_partial(path)
        files.forget_partial(cell.record_path)
    _barrier()
    with training.threads(profile.threads):
        made = module.compress(context)
        if not _is_main():
            _barrier()
            return read(cell)
        models.save(made, cell.artifact_path, method.packer, context.preprocessing)
        del made
        record.layers_touched, record.layers_skipped = (
            context.layers_touched,
            context.layers_skipped,
        )
        record.steps, record.images_seen = context.steps, context.images_seen
        record.training_seconds = round(context.training_seconds, 2)
        model = models.load(cell.artifact_path).requires_grad_(False)  # measured, not trained
        _measure(cell, context, model, record)
        if cell.seed == profile.seeds[0] and hasattr(module, "analyse"):
            files.write(cell.analysis_path, _npz(module.analyse(context, model)))
            record.analysis_sha256 = files.sha256(cell.analysis_path)
    record.seconds = round(time.monotonic() - started, 2)
    if not resumed:  # else it would be that of the end alone
        once = {
            name: (joules, most)
            for name, (joules, most) in counters.items()
            if most > MOST_WATTS * record.seconds
        }
        record.energy_joules = measure.energy_between(once, measure.energy_counters())
    record.created = _now()
    files.write_json(cell.record_path, record.to_json())
    shutil.rmtree(cell.checkpoints, ignore_errors=True)
    _barrier()
    return record


def _measure(cell: Cell, context, model, record: Record) -> None:
    """Fill in what is measured from the reloaded artifact."""
    import torch

    from vitstudy import measure, statistics

    method, test = methods.get(cell.method), context.data.test
    logits = context.evaluate(model, test)
    if not torch.isfinite(logits).all():
        raise TrainingFailed(f"the outputs of {cell} on the test images are no finite numbers")
    probabilities = logits.softmax(dim=1)
    top = probabilities.topk(min(LIKELIEST, probabilities.shape[1]), dim=1)
    labels, predicted = test.labels.numpy(), top.indices[:, 0].numpy()
    correct = predicted == labels
    record.accuracy = float(correct.mean())
    record.accuracy_low, record.accuracy_high, record.accuracy_interval = (
        statistics.accuracy_interval(correct, test.sources)
    )
    count = np.bincount(labels, minlength=context.data.spec.num_classes)
    right = np.bincount(labels, weights=correct, minlength=len(count))
    record.per_class_accuracy = [
        round(float(r / c), 6) if c else None for r, c in zip(right, count, strict=True)
    ]
    record.calibration_error = statistics.expected_calibration_error(
        top.values[:, 0].numpy().astype(np.float64), correct
    )
    record.test_images, record.evaluation_batch = len(labels), profiles.EVALUATION_BATCH
    if method.batch_dependent:
        alone = context.evaluate(model, test, batch_size=1).argmax(1).numpy()
        record.accuracy_alone = float((alone == labels).mean())
        record.flips_alone = int((alone != predicted).sum())
    content = _npz(
        {
            "labels": labels.astype(np.uint8),
            "classes": top.indices.numpy().astype(np.uint8),
            "probabilities": top.values.numpy().astype(np.float16),
        }
    )
    files.write(cell.predictions_path, content)
    record.predictions_sha256 = files.sha256(cell.predictions_path)
    vanilla = Cell(cell.profile, cell.dataset, "vanilla", cell.seed)
    if cell != vanilla:
        before = predictions(vanilla)["classes"][:, 0]
        for name, value in statistics.flips(before, predicted, labels).items():
            setattr(record, name, value)
    record.size_bytes = cell.artifact_path.stat().st_size
    record.size_mib = round(record.size_bytes / measure.MIB, 4)
    record.artifact_sha256 = files.sha256(cell.artifact_path)
    size, channels = context.profile.architecture.image_size, context.data.spec.channels
    packer = importlib.import_module(method.packer)
    if hasattr(packer, "facts"):  # an engine: torch's counters do not see into it
        for name, value in packer.facts(model, torch.zeros(1, channels, size, size)).items():
            setattr(record, name, value)
    else:
        record.parameters = measure.count_parameters(model)
        record.macs = measure.count_macs(model, size, channels)
    record.weight_bits, record.activation_bits = method.weight_bits, method.activation_bits
    if method.weight_bits is None:  # learned: they are in the file
        record.weight_bits = importlib.import_module(method.module).mean_bits(model)
    record.simulated = method.simulated
    record.threads = torch.get_num_threads()
    record.cpu, record.gpu = measure.cpu(), measure.gpu()


def predictions(cell: Cell) -> dict[str, np.ndarray]:
    """`labels` (N,), `classes` (N, 5) and `probabilities` (N, 5), likeliest first, of a cell."""
    with np.load(cell.predictions_path, allow_pickle=False) as found:
        return dict(found)


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


@contextlib.contextmanager
def _locked(cell: Cell) -> Iterator[None]:
    """Hold the cell: of two processes that want it, one computes and the other waits."""
    _barrier()  # all processes of one launch decide alike, before any of them writes
    if not _is_main():
        yield
        return
    waiting = f"{cell} is being computed by another process; waiting for it"
    with _exclusive(cell.artifact_path.with_name("lock"), waiting):
        yield


@contextlib.contextmanager
def _exclusive(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock in `path`, saying `waiting` where another process has it.

    The lock is the kernel's and dies with its process.
    """
    if fcntl is None:
        raise UserError(UNSUPPORTED)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                log.info("%s", waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _note_change(cell: Cell, before: Record | None, after: Record, reason: str) -> None:
    """Leave a line in results/CHANGES.csv where a committed cell was measured again."""
    if not profiles.get(cell.profile).committed or before is None or before.accuracy is None:
        return
    path = files.root() / "results" / "CHANGES.csv"
    columns = ["when", "cell", "accuracy_before", "accuracy", "size_before", "size", "why"]
    values = [after.created, str(cell), before.accuracy, after.accuracy]
    values += [before.size_bytes, after.size_bytes, reason]
    with _exclusive(files.root() / "artifacts" / "changes.lock"):  # jobs run side by side
        rows = (
            list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            if path.exists()
            else []
        )
        rows.append(dict(zip(columns, values, strict=True)))
        files.write_csv(path, columns, rows)


PRODUCTS = ("artifacts", "figures", "results")
"""Folders of the repository that hold what the study makes, not what makes it."""


@cache
def commit() -> str | None:
    """The repository's commit, with `+` where tracked files other than products differ from it.

    None where the package is no file of a repository of its own.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        done = subprocess.run(
            command, cwd=files.SOURCE, capture_output=True, encoding="utf-8", check=True
        )
        return done.stdout.strip()

    try:
        # An archive of the study may lie within another repository, whose commit is not its own.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != files.REPOSITORY.resolve():
            return None
        git("ls-files", "--error-unmatch", str(files.SOURCE / "study.py"))
        at = git("rev-parse", "--short=12", "HEAD")
        others = [f":(exclude,top){folder}" for folder in PRODUCTS]
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", *others)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{at}+" if changed else at


@cache
def _lock_hash() -> str | None:
    lock = files.REPOSITORY / "requirements.lock"
    return files.sha256(lock) if lock.exists() else None
