"""What a profile's committed results took: on what, from which commit, how long, with what energy.

Everything is read off the records and the timings; `tables.write` keeps it as
`results/<profile>/manifest.json`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from vitstudy import data, files, formulas, methods, profiles, speed, study
from vitstudy.record import Record
from vitstudy.report.evidence import Evidence
from vitstudy.study import Cell

NO_ENERGY = "no counter was read"
ENERGY = "joules of each cell by counter, which counts what ran beside it too, so no sum"


def manifest(profile: str) -> dict:
    """Commits, lock hashes, machines, software, data and seconds of the profile's whole records.

    `seconds` is the sum over the cells, `elapsed_seconds` how long at least one of them was being
    computed, since several may have been side by side. `cells` has seconds (training apart), joules
    where a counter gave them, and the commit of each; `not_measured` the cells of the profile that
    have no record of a success; a surveyed method that nobody has measured there is not among them,
    so that a new one leaves what is committed as it is. Raises UserError for an unknown profile.
    """
    evidence, every = Evidence(profile), study.cells(profile, not_installed=True)
    done, absent = {}, []
    # Rows and variants that are computed only by name count where they are there.
    for cell in study.cells(profile, left_out=True, left_out_data=True, not_installed=True):
        if record := evidence.record(cell.dataset, cell.method, cell.seed):
            done[cell] = record
        elif cell in every and methods.get(cell.method).tier != "survey":
            absent.append(str(cell))
    records = list(done.values())
    return {
        "profile": profile,
        "title": profiles.get(profile).title,
        "commits": _distinct(record.commit for record in records),
        "lock_sha256": _distinct(record.lock_sha256 for record in records),
        "cpus": _distinct(record.cpu for record in records),
        "gpus": _distinct(record.gpu for record in records),
        "threads": _distinct(record.threads for record in records),
        "python": _distinct((record.versions or {}).get("python") for record in records),
        "torch": _distinct((record.versions or {}).get("torch") for record in records),
        "datasets": {cell.dataset: record.dataset_hash for cell, record in done.items()},
        "first": min(_distinct(record.created for record in records), default=None),
        "last": max(_distinct(record.created for record in records), default=None),
        "seconds": round(sum(record.seconds or 0 for record in records), 2),
        "elapsed_seconds": _elapsed(records),
        "energy": ENERGY if any(record.energy_joules for record in records) else NO_ENERGY,
        "speed": [
            {
                name: run.get(name)
                for name in ("started", "device", "cpu", "gpu", "threads", "busy_elsewhere")
            }
            | {"models": len(run["models"])}
            for run in speed.read(profile)
        ],
        "cells": {
            str(cell).removeprefix(f"{profile}/"): _cell(record) for cell, record in done.items()
        },
        "not_measured": absent,
    }


def not_computed(profile: str) -> list[str]:
    """The keys of the methods that are no rows of the profile: it computes them by name only, and
    has no record of them.
    """
    evidence, computed = Evidence(profile), methods.computed(profiles.get(profile).tiers)
    every = (*methods.METHODS, *methods.VARIANTS, *methods.SURVEYED)
    return [
        method.key
        for method in every
        if method.key not in computed
        and not any(evidence.records(dataset, method.key) for dataset in evidence.datasets)
    ]


def stem_share(profile: str) -> tuple[float, float]:
    """Shares of vanilla's parameters and of its multiply-accumulates that are its stem's, 0..1.

    By formula, of the profile's first data set. The stem turns an image into tokens; dynamic int8,
    pruning and low-rank attention leave it alone.
    """
    known = profiles.get(profile)
    spec = data.spec(known.datasets[0])
    given = (known.architecture, spec.num_classes, spec.channels)
    parameters, macs = formulas.stem(known.architecture, spec.channels)
    return parameters / formulas.vit_parameters(*given), macs / formulas.vit_macs(*given)


def _distinct(values: Iterable) -> list:
    """The values that there are, each once, in order."""
    return sorted({value for value in values if value is not None})


def _elapsed(records: Iterable[Record]) -> float:
    """Seconds covered by the records' computing, each of which ended when the record was made."""
    ends = sorted(
        (datetime.fromisoformat(record.created).timestamp(), record.seconds or 0)
        for record in records
        if record.created
    )
    covered, earliest = 0.0, float("inf")
    for end, seconds in reversed(ends):
        start = end - seconds
        covered += max(0.0, min(end, earliest) - start)
        earliest = min(earliest, start)
    return round(covered, 2)


def _cell(record: Record) -> dict:
    found = {
        "seconds": record.seconds,
        "training_seconds": record.training_seconds,
        "images_seen": record.images_seen,
        "commit": record.commit,
    }
    return found | ({"energy_joules": record.energy_joules} if record.energy_joules else {})


def record_rows(profile: str) -> tuple[list[str], list[dict]]:
    """Columns and rows of `records.csv`: each record on disk with its plain fields, path and hash.

    A damaged record is a row too, with the status `damaged`.
    """
    plain = [
        field.name
        for field in dataclasses.fields(Record)
        if not field.type.startswith(("dict", "list"))
    ]
    rows = []
    for path in (files.results(profile) / "records").glob("*/*/seed*.json"):
        dataset, method, seed = path.relative_to(files.results(profile) / "records").parts
        cell = Cell(profile, dataset, method, int(Path(seed).stem.removeprefix("seed")))
        row = {"profile": profile, "dataset": dataset, "method": method}
        row |= {"seed": cell.seed, "status": "damaged"}
        if record := study.read(cell):
            row = {name: getattr(record, name) for name in plain}
        row["path"] = path.relative_to(files.root()).as_posix()
        row["sha256"] = files.sha256(path)
        rows.append(row)
    datasets = profiles.get(profile).datasets
    keys = [method.key for method in (*methods.METHODS, *methods.VARIANTS, *methods.SURVEYED)]

    def order(row: dict) -> tuple:
        return _place(datasets, row["dataset"]), _place(keys, row["method"]), row["seed"]

    return [*plain, "path", "sha256"], sorted(rows, key=order)


def _place(names, name: str) -> tuple[int, str]:
    """Where `name` stands in `names`; behind all of them, by its letters, where it does not."""
    return (list(names).index(name) if name in names else len(names), name)


def write(profile: str) -> None:
    """Write `results/<profile>/records.csv` and `manifest.json`."""
    files.write_csv(files.results(profile) / "records.csv", *record_rows(profile))
    files.write_json(files.results(profile) / "manifest.json", manifest(profile))
