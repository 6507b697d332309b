"""A profile's numbers that claims ask for, each with its range or the reason why there is none.

What follows from a network's shape is read at the papers' ViT-B/16, whose costs the study has
(`costs`); what training decides is the profile's own.
"""

from __future__ import annotations

import statistics
from functools import cached_property

import numpy as np
import pandas as pd

from vitstudy import costs, data, files, methods, profiles, speed
from vitstudy.conditions import ABOUT, Value
from vitstudy.errors import UserError
from vitstudy.record import Record
from vitstudy.report import published, significance
from vitstudy.report.evidence import Evidence
from vitstudy.study import Cell

VANILLA = "vanilla"
AT = "ViT-B/16"
SHAPE, TRAINED, ITSELF = "shape", "trained", "itself"
"""What a number depends on: the network's shape, its training too, or no network at all."""
LANDMARKS = (24, 64)
"""Of the papers' fewest and most, for the 197 tokens of ViT-B/16."""


class Unmeasured(str):
    """The reason for a number that could be had and is not: it leaves its condition open."""


ANOTHER_NETWORK = Unmeasured("a number of the papers' own network: the profile `paper` has it")


Read = Value | str
"""A value, or the reason why there is none."""


class Measured:
    """What the records, timings and analysis files of a profile say; each a value or a reason."""

    def __init__(self, profile: str) -> None:
        self.evidence = Evidence(profile)
        self.profile = self.evidence.known
        self.own = bool(self.profile.architecture.timm_name)
        """Whether the profile's network is the papers'."""
        self._known = {method.key for method in (*methods.METHODS, *methods.VARIANTS)}

    def cell(self, key: str, which: int) -> Cell:
        """The first seed's cell of a row."""
        return self.evidence.cell(self.profile.datasets[which - 1], key)

    def records(self, key: str, which: int) -> list[Record] | str:
        """The row's records, one a seed that is done; else why there is none."""
        if key not in self._known:
            return Unmeasured(f"the study has no method {key}")
        dataset = self.profile.datasets[which - 1]
        if done := self.evidence.records(dataset, key):
            return list(done.values())
        failed = any(self.evidence.attempts(dataset, key).values())
        return Unmeasured(f"{key} failed" if failed else f"{key} not measured")

    def mean(self, key: str, field: str, which: int) -> Read:
        """The mean of a record's field over the seeds."""
        found = self.records(key, which)
        if isinstance(found, str):
            return found
        values = [getattr(record, field) for record in found]
        if None in values:
            return f"{field} of {key} not recorded"
        return Value.exact(statistics.fmean(values))

    def ratio(self, key: str, base: str, field: str, which: int) -> Read:
        """The mean of a field over that of another row."""
        first, second = (self.mean(each, field, which) for each in (key, base))
        for each in (first, second):
            if isinstance(each, str):
                return each
        if second.value == 0:
            return f"{field} of {base} is 0"
        return Value.exact(first.value / second.value)

    def accuracy(self, key: str, base: str, which: int) -> Read:
        """Points of accuracy of a row more than those of another, on the same images and seeds."""
        for each in (key, base):
            if isinstance(reason := self.records(each, which), str):
                return reason
        for each in (key, base):
            if reason := self._other_landmarks(each):
                return Unmeasured(reason)
        dataset = self.profile.datasets[which - 1]
        found = significance.comparison(self.profile.name, dataset).difference(key, base)
        if isinstance(found, str):
            return found
        return Value(found.points, found.low, found.high)

    def speed(self, key: str, base: str, device: str, which: int) -> Read:
        """The speed of a row over that of another, each by its ratio to vanilla in its own run."""
        values = []
        for each in (key, base):
            found = self._to_vanilla(each, device, which)
            if isinstance(found, str):
                return found
            values.append(found)
        first, second = values
        return Value(first.value / second.value, first.low / second.high, first.high / second.low)

    def _to_vanilla(self, key: str, device: str, which: int) -> Read:
        found = self.records(key, which)
        if isinstance(found, str):
            return found
        if any(record.simulated for record in found):
            return f"{key} is simulated: no speed"
        if key == VANILLA:
            return Value.exact(1.0)
        timed = speed.latest(self.cell(key, which), device)
        if timed is None:
            return f"{key} not timed on {device}"
        ratio = timed["ratio_to_vanilla"]
        return Value(ratio, *timed.get("ratio_interval", (ratio, ratio)))

    def _other_landmarks(self, key: str) -> str:
        """That a row's share of landmarks is not the papers'; empty where it is, or without."""
        number = methods.get(key).options.get("num_landmarks")
        if self.own or number is None:
            return ""
        here, theirs = (
            published.tokens(profiles.get(name).architecture)
            for name in (self.profile.name, costs.PROFILE)
        )
        least, most = (each / theirs for each in LANDMARKS)
        if (1 - ABOUT) * least <= number / here <= (1 + ABOUT) * most:
            return ""
        return (
            f"{key} has m/n = {number / here:.2f} here, of {here} tokens; the papers' rows have "
            f"{least:.2f} to {most:.2f} of {theirs}"
        )

    # -- at the papers' shape ---------------------------------------------------------------------

    def scale(self, of: str) -> str:
        """Of which network a number is that depends on `of`; empty for what is of none."""
        if of == ITSELF:
            return ""
        if of == SHAPE or self.own:
            return AT
        found = self.evidence.mean(self.profile.datasets[0], VANILLA, "parameters")
        return f"{found / 1e6:.2g} M parameters" if found else f"the profile {self.profile.name}"

    def shape(self, key: str, base: str, field: str, which: int) -> Read:
        """A count of a row (`costs.COUNTED`) over that of another, at the papers' shape."""
        if self.own and not isinstance(found := self.ratio(key, base, field, which), str):
            return found
        counts = [self.counted(each, field, which) for each in (key, base)]
        for each in counts:
            if isinstance(each, str):
                return each
        return Value.exact(counts[0] / counts[1])

    def shape_speed(self, key: str, base: str, device: str, which: int) -> Read:
        """The speed of a row over that of another at the papers' shape, where it is timed there."""
        if self.own and not isinstance(found := self.speed(key, base, device, which), str):
            return found
        if device != "cpu":
            return f"not timed at {AT} on {device}"
        values = []
        for each in (key, base):
            row = self._costs(each, 1)  # of ten classes: a hundred differ in the head alone
            if isinstance(row, str):
                return row
            if row["simulated"]:
                return f"{each} is simulated: no speed"
            unit = "images" if pd.isna(row["iterations_ratio"]) else "iterations"
            if pd.isna(row[f"{unit}_ratio"]):
                return f"{each} not timed at {AT}"
            values.append(Value(*(row[f"{unit}_ratio{end}"] for end in ("", "_low", "_high"))))
        first, second = values
        return Value(first.value / second.value, first.low / second.high, first.high / second.low)

    def counted(self, key: str, field: str, which: int) -> float | str:
        """A count of a row at the papers' shape; else why there is none."""
        row = self._costs(key, which)
        if isinstance(row, str):
            return row
        if pd.isna(row[field]):
            return Unmeasured(f"{field} of {key} at {AT} is decided by training: not measured")
        return float(row[field])

    @cached_property
    def _every_cost(self) -> pd.DataFrame | str:
        try:
            return costs.read()
        except UserError as error:
            return Unmeasured(str(error))

    def _costs(self, key: str, which: int) -> pd.Series | str:
        """A row's costs at the papers' shape; else why there are none."""
        classes = data.spec(profiles.get(costs.PROFILE).datasets[which - 1]).num_classes
        found = self._every_cost
        if isinstance(found, str):
            return found
        row = found[(found["key"] == key) & (found["num_classes"] == classes)]
        return row.iloc[0] if len(row) else Unmeasured(f"{key} not counted at {AT}")

    def analysis(self, key: str, which: int, names: tuple[str, ...]) -> dict[str, np.ndarray] | str:
        """The arrays `names` of a row's analysis file, first seed; else what is missing."""
        if isinstance(reason := self.records(key, which), str):
            return reason
        found = self.evidence.analysis(self.profile.datasets[which - 1], key)
        if not found:
            return f"no analysis file of {key}"
        absent = [name for name in names if name not in found]
        if absent:
            return f"no {', '.join(absent)} in the analysis file of {key}"
        return {name: found[name] for name in names}

    def growth(self, attention: str, field: str) -> Read:
        """The power of the number of tokens by which an attention's time or memory grows, CPU.

        The slope of log cost over log tokens, by least squares over the longest sequences timed,
        down to a quarter of the longest: of 1,024 tokens a plain attention's matrices are 32 MiB an
        image, more than caches hold, and no step from cache to memory is in the slope. `field` is
        one of `attention_speed.json`'s rows.
        """
        path = files.results(self.profile.name) / "attention_speed.json"
        runs = (files.read_json(path) or {}).get("runs", [])
        rows = [row for run in runs if run["device"] == "cpu" for row in run["rows"]]
        found = {row["tokens"]: row[field] for row in rows if row["attention"] == attention}
        longest = {n: cost for n, cost in found.items() if 4 * n >= max(found) and cost > 0}
        if len(longest) < 2:
            return Unmeasured(f"attention {attention} not timed on cpu")
        slope, _ = np.polyfit(np.log(list(longest)), np.log(list(longest.values())), 1)
        return Value.exact(float(slope))
