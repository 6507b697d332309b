"""What the survey says in numbers in Sections 4 to 4.5 and 6.3, sentence by sentence, computed.

A claim is told in our words, with the line of the survey's text. Its verdict is computed from the
tables: `holds` where what is printed there gives the stated number, rounded or cut off, or makes
the statement true; `partly` where a part of it does, or the number lies within what the inputs'
own rounding allows; `does not hold`; `cannot be checked` where the tables say nothing of it.
A "best trade-off" holds where the model is on the front and nobody else is, partly where it shares
the front, and does not where another model is better in both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vitstudy.survey import models, pareto, tables

HOLDS, PARTLY, NOT, UNKNOWN = "holds", "partly", "does not hold", "cannot be checked"
COLUMNS = ["section", "claim", "computed", "verdict", "note", "line"]


@dataclass(frozen=True)
class Claim:
    section: str
    line: int
    claim: str
    computed: str
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A printed number and half a unit of its last digit."""

    value: float
    half: float


class Tables:
    """The survey's tables, as text and as numbers, all models in one, and what was counted."""

    def __init__(self, folder: Path = tables.DATA, counted: pd.DataFrame | None = None):
        self.folder, self.counted = folder, counted
        self.text = {number: tables.printed(number, folder) for number in tables.NUMBERS}
        self.frame = {number: tables.load(number, folder) for number in tables.NUMBERS}
        self.known = models.classification(counted, folder)

    def _place(self, number: int, model: str, bits: tuple[int, int] | None, **where) -> int:
        frame = self.frame[number]
        fits = frame["encoder" if "encoder" in frame else "model"] == model
        if bits:
            fits &= (frame["weight_bits"] == bits[0]) & (frame["activation_bits"] == bits[1])
        for column, value in where.items():
            fits &= frame[column] == value
        return int(np.flatnonzero(fits)[0])

    def cell(self, number: int, model: str, column: str, bits=None, **where) -> Cell:
        place = self._place(number, model, bits, **where)
        text = self.text[number][column].iloc[place]
        return Cell(float(text) if text else math.nan, tables.half_unit(text))

    def value(self, number: int, model: str, column: str, bits=None, **where) -> float:
        return self.cell(number, model, column, bits, **where).value


# -- verdicts -------------------------------------------------------------------------------------


def _says(text: str, value: float) -> bool:
    """Whether `value`, rounded or cut off, is the stated number."""
    stated, half = float(text), tables.half_unit(text)
    beyond = (value - stated) * math.copysign(1, stated)  # away from zero, where cutting off ends
    return abs(value - stated) <= half + 1e-9 or 0 <= beyond < 2 * half - 1e-9


def number(
    section: str,
    line: int,
    claim: str,
    stated: str,
    formula: Callable[..., float],
    cells: list[Cell],
    note: str = "",
) -> Claim:
    """A claim that `formula` of `cells` is `stated` (its sign as in the text)."""
    value = formula(*(cell.value for cell in cells))
    corners = [
        formula(*corner)
        for corner in itertools.product(
            *((cell.value - cell.half, cell.value + cell.half) for cell in cells)
        )
    ]
    digits = len(stated.partition(".")[2]) + 1
    shown = f"{value:.{digits}f}"
    if _says(stated, value):
        return Claim(section, line, claim, shown, HOLDS, note)
    half = tables.half_unit(stated)
    low, high = min(corners), max(corners)
    if low < float(stated) + half and high > float(stated) - half:
        within = f"{stated} only within the rounding of the inputs ({low:.3g} to {high:.3g})"
        return Claim(section, line, claim, shown, PARTLY, "; ".join(filter(None, [within, note])))
    return Claim(section, line, claim, shown, NOT, note)


def numbers(section: str, line: int, claim: str, pairs: list[tuple[str, Cell]], note="") -> Claim:
    """A claim that repeats numbers of the tables: each stated text against its cell."""
    right = [_says(text, cell.value) for text, cell in pairs]
    verdict = HOLDS if all(right) else PARTLY if any(right) else NOT
    computed = ", ".join(f"{cell.value:g}" for _, cell in pairs)
    return Claim(section, line, claim, computed, verdict, note)


def judged(
    section: str, line: int, claim: str, computed: str, parts: list[bool], note: str = ""
) -> Claim:
    """A claim that holds where all of `parts` do, partly where some do."""
    verdict = HOLDS if all(parts) else PARTLY if any(parts) else NOT
    return Claim(section, line, claim, computed, verdict, note)


def unknown(section: str, line: int, claim: str, note: str) -> Claim:
    return Claim(section, line, claim, "", UNKNOWN, note)


def extreme(
    section: str,
    line: int,
    claim: str,
    frame: pd.DataFrame,
    column: str,
    model: str,
    which: str,
    stated: str = "",
    note: str = "",
) -> Claim:
    """A claim that `model` has the least or the greatest (`which`: min, max) of a column, alone.

    Where the text says how much that is, it is `stated`.
    """
    names = frame["encoder" if "encoder" in frame else "model"]
    values = frame[column]
    best = getattr(values, which)()
    holders = sorted(set(names[values == best]))
    parts = [model in holders, len(holders) == 1, not stated or _says(stated, best)]
    verdict = HOLDS if all(parts) else PARTLY if parts[0] else NOT
    return Claim(section, line, claim, f"{best:g}: {', '.join(holders)}", verdict, note)


def best(
    t: Tables, line: int, claim: str, scopes: tuple[pareto.Named, ...], note: str = ""
) -> Claim:
    """A claim that a model is the best trade-off, of one scope or of several gains."""
    verdicts, told = [], []
    for named in scopes:
        frame = pareto.field(named, t.known, t.folder)
        costs = ["recomputed"] if frame["printed"].isna().all() else ["printed", "recomputed"]
        for cost in costs:
            found, others = pareto.verdict(named, frame, cost)
            verdicts.append(found)
            if cost == "recomputed":
                told.append(f"{found} ({len(others)} others)")
    if pareto.OFF in verdicts:
        verdict = NOT
    else:
        verdict = HOLDS if set(verdicts) == {pareto.ON_ALONE} else PARTLY
    return Claim(scopes[0].section, line, claim, "; ".join(told), verdict, note)


def difference(first: float, second: float) -> float:
    return first - second


def quotient(first: float, second: float) -> float:
    return first / second


def _mean_of(change: Callable[[float, float], float]) -> Callable[..., float]:
    """The mean of `change` over pairs given one after the other."""

    def formula(*values: float) -> float:
        pairs = zip(values[::2], values[1::2], strict=True)
        return float(np.mean([change(*pair) for pair in pairs]))

    return formula


def _less_percent(after: float, before: float) -> float:
    return 100 * (1 - after / before)


def claims(folder: Path = tables.DATA, counted: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every claim with its verdict, `COLUMNS`, in the order of the text.

    `counted` (`counted.read`) checks what is said of the reference. Raises UserError as
    `tables.load` does.
    """
    from vitstudy.survey import claims_of_categories, claims_of_comparison

    t = Tables(folder, counted)
    found = [
        *claims_of_comparison.section_4(t),
        *claims_of_categories.section_4_1(t),
        *claims_of_categories.section_4_2(t),
        *claims_of_categories.section_4_3(t),
        *claims_of_categories.section_4_4(t),
        *claims_of_comparison.section_4_5(t),
        *claims_of_comparison.section_6_3(t),
    ]
    rows = [[getattr(each, column) for column in COLUMNS] for each in found]
    return pd.DataFrame(rows, columns=COLUMNS)
