"""A claim's number, read off the papers' tables and off the records alike.

A published number has no range; a measured difference of accuracy has its 95 % interval, a measured
speed the quartiles of its turns, a size none.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vitstudy import data, files, methods, profiles, speed
from vitstudy.conditions import Region, Value
from vitstudy.record import Record
from vitstudy.report import published, significance
from vitstudy.report.evidence import Evidence
from vitstudy.study import Cell

VANILLA = "vanilla"
ANOTHER_NETWORK = "a number of the papers' own network: the profile `paper` has it"


class Unmeasured(str):
    """The reason for a number that the study could have, of a row that has no record here."""


Read = Value | str
"""A value, or the reason why there is none."""


@dataclass(frozen=True)
class Condition:
    what: str
    """What the number is, with {} for the row, such as `size, {} / vanilla`."""
    key: str
    """The row, by its key."""
    region: Region
    """Where it has to lie."""
    printed: Callable[[int], Read]
    """The number by the papers' Table 1 or 2."""
    measured: Callable[[Measured, int], Read]
    form: str = "{:.3g}"
    """How the number is written."""
    base: str = ""
    """The row that it is held against; empty where there is none."""

    def write(self, value: Value) -> str:
        """The number with its range, as it is shown."""
        text = self.form.format(value.value)
        if value.low == value.high:
            return text
        return f"{text} ({self.form.format(value.low)} to {self.form.format(value.high)})"

    @property
    def label(self) -> str:
        return self.what.format(self.key)

    def wanted(self, keys: list[str]) -> str:
        """The condition in words, the same for all rows of `keys`."""
        return f"{self.what.format(', '.join(keys))}: {self.region.words(self.form)}"


# -- what the records hold ------------------------------------------------------------------------


class Measured:
    """What the records, timings and analysis files of a profile say; each a value or a reason."""

    def __init__(self, profile: str) -> None:
        self.evidence = Evidence(profile)
        self.profile = self.evidence.known
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
        return Value(ratio, *timed.get("ratio_quartiles", (ratio, ratio)))

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
        down to an eighth of the longest. `field` is one of `attention_speed.json`'s rows.
        """
        path = files.results(self.profile.name) / "attention_speed.json"
        runs = (files.read_json(path) or {}).get("runs", [])
        rows = [row for run in runs if run["device"] == "cpu" for row in run["rows"]]
        found = {row["tokens"]: row[field] for row in rows if row["attention"] == attention}
        longest = {n: cost for n, cost in found.items() if 8 * n >= max(found) and cost > 0}
        if len(longest) < 2:
            return Unmeasured(f"attention {attention} not timed on cpu")
        slope, _ = np.polyfit(np.log(list(longest)), np.log(list(longest.values())), 1)
        return Value.exact(float(slope))


# -- the numbers ----------------------------------------------------------------------------------


def _printed(key: str, base: str, field: str, which: int) -> tuple[float, float] | str:
    """A printed number of two rows; or that a row, or its number, is not in the papers."""
    values = []
    for each in (key, base):
        try:
            value = getattr(published.printed(each, which), field)
        except KeyError:
            return f"the papers have no row {each}"
        if value is None:
            return f'"-" is printed for {each}'
        values.append(value)
    return values[0], values[1]


def _printed_ratio(key: str, base: str, field: str, which: int) -> Read:
    pair = _printed(key, base, field, which)
    return pair if isinstance(pair, str) else Value.exact(pair[0] / pair[1])


def size(key: str, region: Region, base: str = VANILLA) -> Condition:
    """Bytes of a row's file over those of another."""
    return Condition(
        f"size, {{}} / {base}",
        key,
        region,
        lambda which: _printed_ratio(key, base, "size", which),
        lambda found, which: found.ratio(key, base, "size_bytes", which),
        base=base,
    )


def removed(key: str, region: Region) -> Condition:
    """Share of vanilla's file that is gone."""

    def gone(ratio: Read) -> Read:
        return ratio if isinstance(ratio, str) else Value.exact(1 - ratio.value)

    return Condition(
        "share of the file gone, {}",
        key,
        region,
        lambda which: gone(_printed_ratio(key, VANILLA, "size", which)),
        lambda found, which: gone(found.ratio(key, VANILLA, "size_bytes", which)),
    )


def accuracy(key: str, region: Region, base: str = VANILLA) -> Condition:
    """Points of accuracy of a row more than those of another."""

    def printed_points(which: int) -> Read:
        pair = _printed(key, base, "accuracy", which)
        # The papers print two decimals.
        return pair if isinstance(pair, str) else Value.exact(round(pair[0] - pair[1], 2))

    return Condition(
        f"accuracy, {{}} - {base}",
        key,
        region,
        printed_points,
        lambda found, which: found.accuracy(key, base, which),
        "{:+.2f}",
        base,
    )


def gpu(key: str, region: Region, base: str = VANILLA) -> Condition:
    """GPU speed of a row over that of another."""
    return _speed("GPU", "gpu_speed", "cuda", key, region, base)


def cpu(key: str, region: Region, base: str = VANILLA) -> Condition:
    """CPU speed of a row over that of another."""
    return _speed("CPU", "cpu_speed", "cpu", key, region, base)


def _speed(name: str, field: str, device: str, key: str, region: Region, base: str) -> Condition:
    return Condition(
        f"{name} speed, {{}} / {base}",
        key,
        region,
        lambda which: _printed_ratio(key, base, field, which),
        lambda found, which: found.speed(key, base, device, which),
        base=base,
    )


def both(key: str, region: Region, base: str = VANILLA) -> tuple[Condition, Condition]:
    """Speed on either device: the papers' text mostly does not say which is meant."""
    return gpu(key, region, base), cpu(key, region, base)


def top1(key: str, region: Region) -> Condition:
    """A row's own accuracy, percent: a number of the papers' own network."""

    def measured_top1(found: Measured, which: int) -> Read:
        if not found.profile.architecture.timm_name:
            return ANOTHER_NETWORK
        mean = found.mean(key, "accuracy", which)
        return mean if isinstance(mean, str) else Value.exact(100 * mean.value)

    return Condition(
        "accuracy of {}, %",
        key,
        region,
        lambda which: Value.exact(published.printed(key, which).accuracy),
        measured_top1,
        "{:.2f}",
    )


def parameters(region: Region) -> Condition:
    """Parameters of vanilla, in millions: a number of the papers' own network."""

    def measured_parameters(found: Measured, which: int) -> Read:
        if not found.profile.architecture.timm_name:
            return ANOTHER_NETWORK
        mean = found.mean(VANILLA, "parameters", which)
        return mean if isinstance(mean, str) else Value.exact(mean.value / 1e6)

    return Condition(
        "parameters of {}, millions",
        VANILLA,
        region,
        lambda which: Value.exact(published.parameters(which) / 1e6),
        measured_parameters,
    )


def attention_share(region: Region) -> Condition:
    """Attention's share of a ViT's multiply-accumulates, by formula: no model need be there."""

    def share(profile: profiles.Profile, which: int) -> Value:
        spec = data.spec(profile.datasets[which - 1])
        return Value.exact(
            published.attention_share(profile.architecture, spec.num_classes, spec.channels)
        )

    return Condition(
        "attention products' share of the arithmetic of {}",
        VANILLA,
        region,
        lambda which: share(profiles.get("paper"), which),
        lambda found, which: share(found.profile, which),
    )


def seconds(key: str, region: Region) -> Condition:
    """Seconds that making and measuring a row took over those of vanilla."""
    return Condition(
        f"seconds to make, {{}} / {VANILLA}",
        key,
        region,
        lambda which: "the papers print no times of making",
        lambda found, which: found.ratio(key, VANILLA, "seconds", which),
    )


def analysed(
    what: str,
    key: str,
    names: tuple[str, ...],
    number: Callable[..., float],
    region: Region,
    printed: str,
) -> Condition:
    """A number that `number` makes of the arrays `names` of a row's analysis file."""

    def measured_number(found: Measured, which: int) -> Read:
        arrays = found.analysis(key, which, names)
        if isinstance(arrays, str):
            return arrays
        return Value.exact(float(number(*(arrays[name] for name in names))))

    return Condition(what, key, region, lambda which: printed, measured_number)


def growth(attention: str, region: Region) -> tuple[Condition, Condition]:
    """The powers of the tokens by which an attention's time and memory grow."""
    return tuple(
        Condition(
            f"{name} of {attention} attention grows by the power",
            "",
            region,
            lambda which: "the papers print no times by length",
            lambda found, which, field=field: found.growth(attention, field),
        )
        for name, field in (("time", "milliseconds"), ("memory", "mib"))
    )


def between_tables(condition: Condition, region: Region, what: str) -> Condition:
    """The number of `condition` in Table 1 less that in Table 2."""

    def less(read: Callable[[int], Read]) -> Read:
        first, second = read(1), read(2)
        for each in (first, second):
            if isinstance(each, str):
                return each
        return Value(first.value - second.value, first.low - second.high, first.high - second.low)

    return Condition(
        what,
        condition.key,
        region,
        lambda which: less(condition.printed),
        lambda found, which: less(lambda table: condition.measured(found, table)),
        condition.form,
        condition.base,
    )
