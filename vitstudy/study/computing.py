"""Computing a cell: artifact, measured as reloaded, then predictions and record.

Cell ─► artifact (a safetensors file) ─► measured as reloaded ─► predictions and record.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import logging
import os
import shutil
import subprocess
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np

try:
    import fcntl
except ModuleNotFoundError:  # Windows: what needs a lock says so
    fcntl = None

from vitstudy import data, files, methods, profiles
from vitstudy.errors import TrainingFailed, UserError, to_mend
from vitstudy.record import SCHEMA, Record
from vitstudy.study import staleness
from vitstudy.study.cell import Cell, check_installed
from vitstudy.study.staleness import is_done, read, why_not

log = logging.getLogger(__name__)

MOST_WATTS = 1_000
"""The most power that a processor takes: after how long an energy counter may have started again
more than once."""
UNSUPPORTED = "vitstudy runs on Linux, macOS and WSL: this system has no locks on files (fcntl)"


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
    check_installed(cell)
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
        fingerprint=staleness.fingerprint(cell, parents),
        options=staleness.options(cell),
        parents=parents,
        dataset_hash=data.dataset_hash(cell.dataset),
        created=_now(),
        sources=staleness.sources(cell),
        versions=staleness.made_with(cell),
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
    from vitstudy import making, measure, training
    from vitstudy.context import Context

    started, counters = time.monotonic(), measure.energy_counters()
    method, profile = methods.get(cell.method), profiles.get(cell.profile)
    context = Context(
        profile=profile,
        data=data.load(cell.dataset, profile.limit),
        seed=cell.seed,
        name=str(cell),
        config=method.config,
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
        made = making.made(method, context)
        if not _is_main():
            _barrier()
            return read(cell)
        model = making.kept(made, method, context, cell.artifact_path)
        model.requires_grad_(False)  # measured, not trained
        del made
        record.layers_touched, record.layers_skipped = (
            context.layers_touched,
            context.layers_skipped,
        )
        record.steps, record.images_seen = context.steps, context.images_seen
        record.training_seconds = round(context.training_seconds, 2)
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
    """Fill in what is measured from the reloaded artifact, and write its predictions."""
    from vitstudy import measure, statistics

    method = methods.get(cell.method)
    found, arrays = measure.on_test_images(context, model, alone=method.batch_dependent)
    files.write(cell.predictions_path, _npz(arrays))
    found["predictions_sha256"] = files.sha256(cell.predictions_path)
    vanilla = Cell(cell.profile, cell.dataset, "vanilla", cell.seed)
    if cell != vanilla:
        before = predictions(vanilla)["classes"][:, 0]
        found |= statistics.flips(before, arrays["classes"][:, 0], arrays["labels"])
    found |= measure.costs(context, model, importlib.import_module(method.packer))
    found["size_bytes"] = cell.artifact_path.stat().st_size
    found["size_mib"] = round(found["size_bytes"] / measure.MIB, 4)
    found["artifact_sha256"] = files.sha256(cell.artifact_path)
    found["weight_bits"], found["activation_bits"] = method.weight_bits, method.activation_bits
    if method.weight_bits is None:  # learned: they are in the file
        found["weight_bits"] = importlib.import_module(method.module).mean_bits(model)
    found["simulated"] = method.simulated
    for name, value in found.items():
        setattr(record, name, value)


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
        git("ls-files", "--error-unmatch", str(files.SOURCE / "study" / "computing.py"))
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
