"""Adopting records after a change of the code that computes nothing else, proven by computing.

A change of the code makes each cell stale that runs it. Where the change is no change of what is
computed (a function moved, a name that explains itself), the records are still true: `adopt` proves
it and re-marks them. The proof is made with the package as it was at a commit and as it is now, on
this machine, one after the other: each method is computed for a few steps on a few images of the
profile, everything else as the profile has it (`probe`). A method that is not trained is the same
where its artifact or its predictions are, byte by byte, and all that is counted; one that is
trained must have the same losses and gradients, too, in every step.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitstudy import data, files, methods
from vitstudy.errors import UserError
from vitstudy.record import TIMES, Record
from vitstudy.study import computing, probe, staleness
from vitstudy.study.cell import Cell

log = logging.getLogger(__name__)

MARKS = {"commit", "command", "fingerprint", "lock_sha256", "options", "parents", "sources"}
"""The fields of a record that tell what made it, not what came out."""


def adopt(cells: list[Cell], since: str | None = None) -> tuple[list[Cell], dict[Cell, str]]:
    """Re-mark the records of `cells` that a change of the code leaves true.

    since: the commit at which the records were made; by default the one that each of them names.

    Returns the cells that were adopted, and the others with the reason. A cell that is marked by
    the code as it is now already, and one that has no record, is in neither. Raises UserError where
    git cannot check a commit out.
    """
    refused: dict[Cell, str] = {}
    adopted: list[Cell] = []
    by_commit: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        record = staleness.read(cell)
        if record is None or record.status != "done" or _is_marked(cell, record):
            continue
        commit = since or record.commit or ""
        if reason := _other_than_code(cell, record) or _no_commit(commit):
            refused[cell] = reason
        else:
            by_commit.setdefault((commit, cell.profile), []).append(cell)
    for (commit, profile), group in by_commit.items():
        with _checked_out(commit) as tree:
            unlike = {cell: reason for cell in group if (reason := _other_sources(cell, tree))}
            refused |= unlike
            group = [cell for cell in group if cell not in unlike]
            pairs = list(dict.fromkeys((cell.dataset, cell.method) for cell in group))
            if not pairs:
                continue
            log.info("%d methods as they were at %s", len(pairs), commit)
            before = _probe(tree, profile, pairs)
            log.info("%d methods as they are", len(pairs))
            after = _probe(files.repository(), profile, pairs)
        for cell in group:
            pair = cell.dataset, cell.method
            if reason := difference(before[pair], after[pair]):
                refused[cell] = reason
            else:
                _mark(cell, commit, after[pair]["sources"])
                adopted.append(cell)
    return adopted, refused


def difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Say in one line how two answers of `probe` about one cell differ; empty for not at all."""
    for when, answer in (("before", before), ("now", after)):
        if "failed" in answer:
            return f"it could not be computed {when}: {answer['failed']}"
    fields = [name for name in {**before, **after} if name not in {*MARKS, *TIMES}]
    unlike = [name for name in fields if before.get(name) != after.get(name)]
    if "training" in unlike:
        return "the losses or the gradients of its training differ"
    if unlike == ["artifact_sha256"]:  # the file is written otherwise and holds the same
        return ""
    return f"it gives another {', '.join(unlike)}" if unlike else ""


def _is_marked(cell: Cell, record: Record) -> bool:
    """Tell whether the record is marked by the code as it is now.

    Unlike a hit this needs no artifact, since the record names the code that builds its parents.
    """
    names = {**(record.sources or {}), **staleness.sources(cell)}
    paths = {name: files.SOURCE / name for name in names}
    now = {name: staleness.digest(path) for name, path in paths.items() if path.exists()}
    mark = staleness.fingerprint(cell, record.parents, record.versions, record.sources)
    return now == record.sources and record.fingerprint == mark


def _other_than_code(cell: Cell, record: Record) -> str:
    """Say what differs from what the record was made with, besides the code; empty for nothing."""
    method, now = methods.get(cell.method), json.loads(json.dumps(staleness.options(cell)))
    if unlike := _unlike(record.options, now):
        return f"other options: {', '.join(unlike)}"
    if record.dataset_hash != data.dataset_hash(cell.dataset):
        return "other data"
    if sorted(record.parents) != sorted(parent.method for parent in cell.parents()):
        return "it starts from other methods"
    for parent in cell.parents():
        if staleness.artifact_hash(parent) != record.parents[parent.method]:
            return f"{parent.method} was made again"
    bits = (method.activation_bits, method.simulated)
    learned = method.weight_bits is None
    if bits != (record.activation_bits, record.simulated) or not (
        learned or method.weight_bits == record.weight_bits
    ):
        return "other bits"
    return ""


def _unlike(before: dict[str, Any], now: dict[str, Any], above: str = "") -> list[str]:
    """List the options that differ, by their names with the dictionaries above them.

    An option that did not exist before is left out: if it does anything, the results differ.
    """
    names = []
    for name in sorted({*before, *now}):
        if name not in before:
            continue
        old, new = before[name], now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            names += _unlike(old, new, f"{above}{name}.")
        elif old != new:
            names.append(f"{above}{name} was {json.dumps(old)} and is {json.dumps(new)}")
    return names


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(files.repository()), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def _no_commit(commit: str) -> str:
    """Say why the package cannot be checked out as it was at `commit`; empty where it can."""
    if not commit or commit.endswith("+"):
        return "its record names no commit; give one with --since"
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        return f"commit {commit} is not in this repository"
    return ""


@contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    """Make a folder with the repository as it was at `commit`."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        done = _git("worktree", "add", "--detach", str(tree), commit)
        if done.returncode:
            raise UserError(f"git cannot check {commit} out: {done.stderr.strip()}")
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _other_sources(cell: Cell, tree: Path) -> str:
    """Say which file that made the record is another in `tree`; empty where none is.

    The first records name SHA-256 of whole files, later ones digests.
    """
    for name, digest in (staleness.recorded(cell).sources or {}).items():
        path = tree / "vitstudy" / name
        if not path.exists() or digest not in (files.sha256(path), staleness.digest(path)):
            return f"its record was made by another {name} than that commit's"
    return ""


def _probe(
    repository: Path, profile: str, pairs: list[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Run `probe` with the package in `repository`; return its answers by (data set, method)."""
    request = json.dumps({"profile": profile, "cells": pairs})
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "PYTHONPATH": str(repository),
            "VITSTUDY_HOME": home,
            "CUDA_VISIBLE_DEVICES": "",  # on the CPU one thread gives the same bits each time
        }
        if root := os.environ.get("VITSTUDY_DATA"):
            environment["VITSTUDY_DATA"] = str((files.REPOSITORY / root).resolve())
        done = subprocess.run(
            [sys.executable, "-P", probe.__file__],
            env=environment,
            input=request,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    by_pair = {(answer["dataset"], answer["method"]): answer for answer in answers}
    ended = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
    return {pair: by_pair.get(pair, {"failed": ended}) for pair in pairs}


def _mark(cell: Cell, since: str, sources: dict[str, str]) -> None:
    record = staleness.recorded(cell)
    record.sources = sources
    record.fingerprint = staleness.fingerprint(cell, record.parents, record.versions, sources)
    record.adopted = {"since": since, "commit": computing.commit()}
    files.write_json(cell.record_path, record.to_json())
