"""Verdicts on kinds of claims that come up again and again, and the arithmetic of their numbers.

HOLDS is where what the tables print gives the stated number, rounded or cut off; PARTLY where a
part of a claim is right and another is not; UNTOLD where the number lies within what the inputs'
own rounding allows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitstudy.conditions import FAILS, HOLDS, PARTLY, UNTOLD, judge
from vitstudy.errors import unknown
from vitstudy.survey import pareto, tables


@dataclass(frozen=True)
class Cell:
    """A printed number and half a unit of its last digit."""

    value: float
    half: float


@dataclass(frozen=True)
class Found:
    """What was computed for a claim, the verdict, and what the verdict itself has to remark."""

    computed: str
    verdict: str
    note: str = ""


def says(text: str, value: float) -> bool:
    """Whether `value`, rounded or cut off, is the stated number."""
    stated, half = float(text), tables.half_unit(text)
    beyond = (value - stated) * math.copysign(1, stated)  # away from zero, where cutting off ends
    return abs(value - stated) <= half + 1e-9 or 0 <= beyond < 2 * half - 1e-9


def number(stated: str, formula: Callable[..., float], cells: Sequence[Cell]) -> Found:
    """Judge that `formula` of `cells` is `stated` (its sign as in the text)."""
    value = formula(*(cell.value for cell in cells))
    digits = len(stated.partition(".")[2]) + 1
    shown = f"{value:.{digits}f}"
    if says(stated, value):
        return Found(shown, HOLDS)
    ends = itertools.product(*((cell.value - cell.half, cell.value + cell.half) for cell in cells))
    corners = [formula(*corner) for corner in ends]
    low, high, half = min(corners), max(corners), tables.half_unit(stated)
    if low < float(stated) + half and high > float(stated) - half:
        within = f"{stated} only within the rounding of the inputs ({low:.3g} to {high:.3g})"
        return Found(shown, UNTOLD, within)
    return Found(shown, FAILS)


def repeated(pairs: Iterable[tuple[str, float]]) -> Found:
    """Judge a repetition of numbers of the tables: each stated text against its value."""
    pairs = list(pairs)
    computed = ", ".join(f"{value:g}" for _, value in pairs)
    return Found(computed, judge([says(text, value) for text, value in pairs]))


def extreme(frame: pd.DataFrame, column: str, model: str, which: str, stated: str = "") -> Found:
    """Judge that `model` has the least or the greatest (`which`: min, max) of a column, alone.

    Where the text says how much that is, it is `stated`. A model that shares its place, or whose
    number is another, is partly right.
    """
    value = getattr(frame[column], which)()
    holders = sorted(set(frame["model"][frame[column] == value]))
    parts = [len(holders) == 1, not stated or says(stated, value)]
    verdict = FAILS if model not in holders else HOLDS if all(parts) else PARTLY
    return Found(f"{value:g}: {', '.join(holders)}", verdict)


def best(scopes: Sequence[str], known: pd.DataFrame, folder: Path) -> Found:
    """Judge that a model is the best trade-off of each of `scopes`, those of `pareto.BEST`.

    It holds where the model is on the front and nobody else is, partly where it shares the front,
    and does not where another model is better in both. `known` is `models.classification`.
    """
    named = {each.scope: each for each in pareto.BEST}
    verdicts, told = set(), []
    for scope in scopes:
        if scope not in named:
            raise unknown("scope", scope, named)
        frame = pareto.field(named[scope], known, folder)
        costs = ["recomputed"] if frame["printed"].isna().all() else ["printed", "recomputed"]
        for cost in costs:
            found, others = pareto.verdict(named[scope], frame, cost)
            verdicts.add(found)
        told.append(f"{found} ({len(others)} others)")
    if pareto.OFF in verdicts:
        return Found("; ".join(told), FAILS)
    return Found("; ".join(told), HOLDS if verdicts == {pareto.ON_ALONE} else PARTLY)


# -- arithmetic -----------------------------------------------------------------------------------


def difference(first: float, second: float) -> float:
    return first - second


def differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """What each of the first numbers is more than the second at its place."""
    return [one - other for one, other in zip(first, second, strict=True)]


def union(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """The numbers that stand in either list, each once, in order of size."""
    return sorted({*first, *second})


def quotient(first: float, second: float) -> float:
    return first / second


def product(first: float, second: float) -> float:
    return first * second


def mean(*values: float) -> float:
    return float(np.mean(values))


def rounded(value: float, digits: int) -> float:
    return round(value, digits)


def less_percent(after: float, before: float) -> float:
    """How many percent `after` is less than `before`."""
    return 100 * (1 - after / before)


def more_percent(after: float, before: float) -> float:
    """How many percent `after` is more than `before`."""
    return 100 * (after / before - 1)


def outlier_limit(values: Sequence[float]) -> float:
    """The value above which one is an outlier: one and a half quartile ranges above the upper.

    NaN counts as no value.
    """
    lower, upper = pd.Series(values).quantile([0.25, 0.75])
    return float(upper + 1.5 * (upper - lower))


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "difference": difference,
    "differences": differences,
    "union": union,
    "quotient": quotient,
    "product": product,
    "mean": mean,
    "greatest": max,
    "rounded": rounded,
    "less_percent": less_percent,
    "more_percent": more_percent,
    "outlier_limit": outlier_limit,
}
"""What claims may do to quantities, by name."""
