"""Conditions of claims: where a number has to lie, and which verdict follows.

The claims of the survey (`survey/claims.toml`) and of the papers (`report/claims.toml`) are data;
both are read with what stands here. A condition names a quantity, a comparison and its limit, such
as `below = 1`. It is met where the whole range of the quantity lies in the region that the
comparison describes, it is not met where none of the range does, and it is open in between.

What a network of another scale tells of a claim is less: `elsewhere`.
"""

from __future__ import annotations

import contextlib
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitstudy.errors import UserError, unknown

HOLDS, CONSTRUCTED = "holds", "holds by construction"
PARTLY, UNTOLD = "partly: some fail", "partly: some cannot be told"
FAILS, OPEN = "does not hold", "cannot be checked"
VERDICTS = (HOLDS, CONSTRUCTED, PARTLY, UNTOLD, FAILS, OPEN)
NEEDS = ("all", "most", "any")
"""How many of its conditions a claim may need."""


@dataclass(frozen=True)
class Value:
    """A number and the range in which it is known to lie."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Value:
        return cls(value, value, value)


@dataclass(frozen=True)
class Region:
    """Where a number has to lie, its ends included unless it is open."""

    low: float = -math.inf
    high: float = math.inf
    open: bool = False

    def holds(self, value: Value) -> bool | None:
        """Whether the whole range of `value` lies in the region; None where a part of it does."""
        inside, outside = value.low >= self.low, value.high < self.low
        inside, outside = inside and value.high <= self.high, outside or value.low > self.high
        if self.open:
            inside = inside and value.low != self.low and value.high != self.high
            outside = outside or value.high == self.low or value.low == self.high
        return True if inside else False if outside else None

    @property
    def is_ordering(self) -> bool:
        """Whether it says only which of two is greater: it has one end, at nought."""
        return 0 in (self.low, self.high) and not self.is_number

    @property
    def is_number(self) -> bool:
        """Whether it is around a number: it has two ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def words(self, form: str) -> str:
        """The region in words, its ends written by `form`."""
        if self.high == math.inf:
            return f"{'above' if self.open else 'at least'} {form.format(self.low)}"
        if self.low == -math.inf:
            return f"{'below' if self.open else 'at most'} {form.format(self.high)}"
        return f"{form.format(self.low)} to {form.format(self.high)}"


# -- comparisons ----------------------------------------------------------------------------------

ABOUT = 0.1
"""How far off a number may be, as a share of it, that a text calls by another: "a quarter"."""


def above(bound: float) -> Region:
    """All that is greater than `bound`."""
    return Region(low=bound, open=True)


def below(bound: float) -> Region:
    """All that is less than `bound`."""
    return Region(high=bound, open=True)


def at_least(bound: float) -> Region:
    """`bound` and all that is greater."""
    return Region(low=bound)


def at_most(bound: float) -> Region:
    """`bound` and all that is less."""
    return Region(high=bound)


def about(number: float) -> Region:
    """What is off from `number` by at most the share ABOUT of it, either way."""
    return Region(*sorted((number * (1 - ABOUT), number * (1 + ABOUT))))


def between(low: float, high: float) -> Region:
    """`low`, `high` and all that is in between."""
    return Region(low, high)


def within(number: float, distance: float) -> Region:
    """What is off from `number` by at most `distance`, either way."""
    return Region(number - distance, number + distance)


COMPARISONS: dict[str, Callable[..., Region]] = {
    each.__name__: each for each in (above, below, at_least, at_most, about, between, within)
}


def region(said: Mapping[str, Any], limit: Callable[[Any], float] = float) -> Region:
    """The region that a table of one comparison describes, such as `{at_most = 0.1}`.

    `limit` makes a number of each limit. Raises UserError where there is not one comparison, it is
    unknown, or it has too few limits or too many.
    """
    if len(said) != 1:
        raise UserError(f"comparisons {', '.join(said) or 'none'}; valid is one of {_VALID}")
    ((name, limits),) = said.items()
    if name not in COMPARISONS:
        raise unknown("comparison", name, COMPARISONS)
    limits = limits if isinstance(limits, list) else [limits]
    try:
        return COMPARISONS[name](*map(limit, limits))
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} = {limits!r} gives no limits: {error}") from error


_VALID = ", ".join(COMPARISONS)


# -- verdicts -------------------------------------------------------------------------------------


def judge(met: list[bool | None], need: str = "all") -> str:
    """The verdict on a claim whose conditions are met, are not, or are open (None).

    `need` says how many of them it takes: "all", "most" (more than half) or "any". A claim that
    needs all and has some is partly met: PARTLY where others are not, UNTOLD where all the others
    are open. Raises ValueError for another `need`.
    """
    count, true, false = len(met), met.count(True), met.count(False)
    if need not in NEEDS:
        raise ValueError(f"need is {need!r}; valid: {', '.join(NEEDS)}")
    if not true and not false:
        return OPEN
    if need == "any":
        return HOLDS if true else FAILS if false == count else OPEN
    if true == count or (need == "most" and 2 * true > count):
        return HOLDS
    if need == "most":
        return FAILS if 2 * false >= count else UNTOLD
    return (PARTLY if false else UNTOLD) if true else FAILS


def jointly(parts: Iterable[bool | None]) -> bool | None:
    """Whether all parts of one condition are met; None where one is open and none fails."""
    parts = list(parts)
    return False if False in parts else None if None in parts else True


def elsewhere(region: Region, holds: bool | None) -> bool | None:
    """What a number of a trained network tells of a claim about one of another scale.

    An ordering is met or not there as here. A bound that is kept here speaks for the claim; one
    that is not refutes no number of another network, and a number that a claim gives is neither
    confirmed nor refuted by another network's.
    """
    if region.is_number or (holds is False and not region.is_ordering):
        return None
    return holds


# -- files of claims ------------------------------------------------------------------------------


def read_file(path: Path) -> dict[str, Any]:
    """The content of a TOML file of claims. Raises UserError where it is absent or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is absent; it comes with the package") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} is no TOML: {error}") from error


@contextlib.contextmanager
def naming(claim: str) -> Iterator[None]:
    """Name the claim in the errors from inside: in front of a UserError, as a note of others."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{claim}: {error}") from error
    except Exception as error:
        error.add_note(f"in {claim}")
        raise


def check_keys(given: Mapping[str, Any], needed: tuple[str, ...], further: tuple[str, ...]) -> None:
    """Raise UserError where `given` lacks a key of `needed`, or has one of neither tuple."""
    for key in given:
        if key not in (*needed, *further):
            raise unknown("key", key, (*needed, *further))
    if missing := [key for key in needed if key not in given]:
        raise UserError(f"no {', '.join(missing)} is given")
