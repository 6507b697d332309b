"""A claim's number, read off the papers' tables and off the records alike.

A published number has no range; a measured difference of accuracy has its 95 % interval, and so
has a measured speed, from its turns; a size has none. What follows from a network's shape (sizes,
counts, speeds) is read where the claim is about it, at the papers' ViT-B/16, whose costs the study
has (`costs`); what training decides is the profile's own, and says of which scale it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitstudy import costs, data, profiles
from vitstudy.conditions import Region, Value
from vitstudy.report import published
from vitstudy.report.measured import (
    ANOTHER_NETWORK,
    ITSELF,
    SHAPE,
    TRAINED,
    VANILLA,
    Measured,
    Read,
    Unmeasured,
)


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
    of: str = TRAINED
    """SHAPE, TRAINED or ITSELF."""
    joint: str = ""
    """The name of the conditions that count as one with it; empty where it counts alone."""

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
        lambda found, which: found.shape(key, base, "size_bytes", which),
        base=base,
        of=SHAPE,
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
        lambda found, which: gone(found.shape(key, VANILLA, "size_bytes", which)),
        of=SHAPE,
    )


def saved(key: str, region: Region) -> Condition:
    """Share of vanilla's file or of its time that is gone, whichever is more."""

    def most(ratio: Read, *speeds: Read) -> Read:
        shares = [] if isinstance(ratio, str) else [Value.exact(1 - ratio.value)]
        shares += [
            Value(1 - 1 / speed.value, 1 - 1 / speed.low, 1 - 1 / speed.high)
            for speed in speeds
            if not isinstance(speed, str)
        ]
        if not shares:
            return Unmeasured(f"neither size nor speed of {key}: {ratio}")
        ends = ("value", "low", "high")
        return Value(*(max(getattr(share, end) for share in shares) for end in ends))

    return Condition(
        "share of the file or of the time gone, {}",
        key,
        region,
        lambda which: most(
            *(
                _printed_ratio(key, VANILLA, name, which)
                for name in ("size", "gpu_speed", "cpu_speed")
            )
        ),
        lambda found, which: most(
            found.shape(key, VANILLA, "size_bytes", which),
            found.shape_speed(key, VANILLA, "cpu", which),
        ),
        of=SHAPE,
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
        lambda found, which: found.shape_speed(key, base, device, which),
        base=base,
        of=SHAPE,
    )


def both(key: str, region: Region, base: str = VANILLA) -> tuple[Condition, Condition]:
    """Speed on either device: the papers' text mostly does not say which is meant."""
    return gpu(key, region, base), cpu(key, region, base)


def top1(key: str, region: Region) -> Condition:
    """A row's own accuracy, percent: a number of the papers' own network."""

    def measured_top1(found: Measured, which: int) -> Read:
        if not found.own:
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
    """Parameters of vanilla, in millions, at the papers' shape."""

    def counted(found: Measured, which: int) -> Read:
        number = found.counted(VANILLA, "parameters", which)
        return number if isinstance(number, str) else Value.exact(number / 1e6)

    return Condition(
        "parameters of {}, millions",
        VANILLA,
        region,
        lambda which: Value.exact(published.parameters(which) / 1e6),
        counted,
        of=SHAPE,
    )


def attention_share(region: Region) -> Condition:
    """Attention's share of the papers' ViT's multiply-accumulates, by formula: no model need be
    there.
    """

    def share(which: int) -> Value:
        profile = profiles.get(costs.PROFILE)
        spec = data.spec(profile.datasets[which - 1])
        return Value.exact(
            published.attention_share(profile.architecture, spec.num_classes, spec.channels)
        )

    return Condition(
        "attention products' share of the arithmetic of {}",
        VANILLA,
        region,
        share,
        lambda found, which: share(which),
        of=SHAPE,
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
            of=ITSELF,
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
        condition.of,
    )
