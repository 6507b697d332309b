"""What a profile's cells left, read in one place: records, predictions and analysis files.

Tables, figures and sentences ask here and open no file of a cell themselves. Which differences of
accuracy are more than chance is `significance`'s to say, of the same predictions.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vitstudy import methods, profiles, speed, study
from vitstudy.errors import UserError, unknown
from vitstudy.profiles import Profile
from vitstudy.record import Record
from vitstudy.study import Cell

TABLES = (1, 2)
"""The papers' tables, of ten classes and of a hundred."""


@dataclass(frozen=True)
class Evidence:
    """The evidence of one profile, by data set and method; without a seed, of its first seed."""

    profile: str

    @property
    def known(self) -> Profile:
        """The profile itself; raises UserError where there is none of this name."""
        return profiles.get(self.profile)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets of Table 1 and of Table 2."""
        return self.known.datasets

    def dataset(self, table: int) -> str:
        """The data set of Table 1 or 2; raises UserError for another."""
        if table not in TABLES:
            raise unknown("table", table, TABLES)
        return self.datasets[table - 1]

    def cell(self, dataset: str, method: str, seed: int | None = None) -> Cell:
        """The cell that everything here is read from."""
        seed = self.known.seeds[0] if seed is None else seed
        return Cell(self.profile, dataset, method, seed)

    def attempts(self, dataset: str, method: str) -> dict[int, Record | None]:
        """By seed of the profile, the record of a success or failure; None without a sound one."""
        seeds = self.known.seeds
        return {seed: study.read(self.cell(dataset, method, seed)) for seed in seeds}

    def record(self, dataset: str, method: str, seed: int | None = None) -> Record | None:
        """The record of a success; None where there is none."""
        record = study.read(self.cell(dataset, method, seed))
        return record if record and record.status == "done" else None

    def records(
        self, dataset: str, method: str, seeds: Iterable[int] | None = None
    ) -> dict[int, Record]:
        """The records of the successes, by seed; of the profile's seeds unless others are given."""
        seeds = self.known.seeds if seeds is None else seeds
        attempts = {seed: self.record(dataset, method, seed) for seed in seeds}
        return {seed: record for seed, record in attempts.items() if record}

    def mean(self, dataset: str, method: str, field: str) -> float | None:
        """The mean of a record's field over the seeds that are done; None where none is."""
        done = self.records(dataset, method).values()
        return statistics.fmean(getattr(record, field) for record in done) if done else None

    def accuracy(self, dataset: str, method: str) -> float | None:
        """Percent of the test images, the mean over the seeds that are done; None where none is."""
        share = self.mean(dataset, method, "accuracy")
        return None if share is None else 100 * share

    def size_share(self, dataset: str, method: str) -> float:
        """The file's size in percent of vanilla's; both have to be measured."""
        own, base = (self.record(dataset, key) for key in (method, "vanilla"))
        return 100 * own.size_mib / base.size_mib

    def cpu_ratio(self, dataset: str, method: str) -> float | None:
        """Images per second on the CPU over vanilla's, of the latest run; None where not timed."""
        timed = speed.latest(self.cell(dataset, method), "cpu")
        return timed["ratio_to_vanilla"] if timed else None

    def missing(self, keys: Iterable[str]) -> list[Cell]:
        """The cells of the methods `keys` that the profile computes and has no record of."""
        computed, keys = methods.computed(self.known.tiers), list(keys)
        return [
            self.cell(dataset, key)
            for dataset in self.datasets
            for key in keys
            if key in computed and self.record(dataset, key) is None
        ]

    # -- the files beside the records -------------------------------------------------------------

    def predictions(
        self, dataset: str, method: str, seed: int | None = None
    ) -> dict[str, np.ndarray]:
        """`labels` (N,), `classes` and `probabilities` (N, 5), likeliest first, of a test split."""
        return study.predictions(self.cell(dataset, method, seed))

    def analysis(self, dataset: str, method: str) -> dict[str, np.ndarray]:
        """The arrays that the method's `analyse` left; empty where there is no such file."""
        path = self.cell(dataset, method).analysis_path
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    def analyses(self, method: str) -> dict[str, dict[str, np.ndarray]]:
        """`analysis` of every data set that has one, by data set."""
        every = {dataset: self.analysis(dataset, method) for dataset in self.datasets}
        return {dataset: arrays for dataset, arrays in every.items() if arrays}

    def needed(self, method: str) -> list[Cell]:
        """The cells of `method` that are done, one a data set; raises UserError without any."""
        cells = [self.cell(name, method) for name in self.datasets if self.record(name, method)]
        if not cells:
            raise self.absent(f"record of {method}", method)
        return cells

    def absent(self, what: str, *keys: str, them: str = "it") -> UserError:
        """The error that says that there is no `what`, with the command that makes `keys`."""
        patterns = " ".join(f'"{self.profile}/*/{key}"' for key in keys)
        return UserError(
            f"no {what} on the profile {self.profile}; make {them} with "
            f"'python -m vitstudy run {patterns}'"
        )
