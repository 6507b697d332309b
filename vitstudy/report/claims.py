"""The three papers' claims, read from `claims.toml`, and the quantities that they may name.

What can be checked has conditions, whose numbers `conditions` reads off the papers' tables and off
the records; `verdicts` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitstudy.conditions import NEEDS, Region, check_keys, naming, read_file, region
from vitstudy.errors import UserError, unknown
from vitstudy.methods import METHODS, VARIANTS
from vitstudy.report import conditions
from vitstudy.report.conditions import Condition
from vitstudy.report.measured import VANILLA

FILE = Path(__file__).with_suffix(".toml")
OF_ATTENTION = ("growth",)
"""Quantities of an attention by itself; all others are of a row of the study."""

Number = Callable[[str, Region, str], tuple[Condition, ...]]
"""A quantity: the conditions on a row, with a region, against a base."""


@dataclass(frozen=True)
class Claim:
    id: str
    papers: str
    """Those of A, B and C that say it."""
    section: str
    says: str
    conditions: tuple[Condition, ...] = ()
    """None where nothing that the study measures could tell."""
    tables: tuple[int, ...] = (1, 2)
    """Those of the papers' tables that it is about."""
    need: str = "all"
    """How many of the conditions it takes: `all`, `most` or `any`."""
    construction: str = ""
    """Why it holds by construction in this study; empty where it could turn out otherwise."""
    note: str = ""


# -- the quantities -------------------------------------------------------------------------------


def _against(number: Callable[[str, Region, str], Condition]) -> Number:
    """A quantity that holds a row against another."""
    return lambda row, region, base: (number(row, region, base),)


def _alone(number: Callable[[str, Region], Condition | tuple[Condition, ...]]) -> Number:
    """A quantity of one row, which takes no base."""

    def of_row(row: str, region: Region, base: str) -> tuple[Condition, ...]:
        if base != VANILLA:
            raise UserError(f"it takes no base, and {base!r} is given")
        found = number(row, region)
        return found if isinstance(found, tuple) else (found,)

    return of_row


def _of_vanilla(number: Callable[[Region], Condition]) -> Number:
    """A quantity of vanilla alone."""

    def of_row(row: str, region: Region) -> Condition:
        if row != VANILLA:
            raise UserError(f"it is of {VANILLA} alone, and {row!r} is given")
        return number(region)

    return _alone(of_row)


def _analysed(what: str, names: tuple[str, ...], number: Callable, printed: str) -> Number:
    """A quantity that `number` makes of the arrays `names` of a row's analysis file."""
    return _alone(
        lambda row, region: conditions.analysed(what, row, names, number, region, printed)
    )


def _less(number: Callable[[str, Region], Condition], what: str) -> Number:
    """The number of a row in Table 1 less that in Table 2."""
    return _alone(lambda row, region: conditions.between_tables(number(row, region), region, what))


def _quarter_rank_error(error: np.ndarray) -> float:
    """The mean over layers of `error` (layers, ranks) at a quarter of the rank."""
    return error[:, (error.shape[1] - 1) // 4].mean()


NUMBERS: dict[str, Number] = {
    "accuracy": _against(conditions.accuracy),
    "size": _against(conditions.size),
    "gpu_speed": _against(conditions.gpu),
    "cpu_speed": _against(conditions.cpu),
    "speed": conditions.both,
    "top1": _alone(conditions.top1),
    "removed": _alone(conditions.removed),
    "saved": _alone(conditions.saved),
    "seconds": _alone(conditions.seconds),
    "growth": _alone(conditions.growth),
    "parameters": _of_vanilla(conditions.parameters),
    "attention_share": _of_vanilla(conditions.attention_share),
    "small_attention": _analysed(
        "share of attention values below 0.1, {}",
        ("attention__vanilla",),
        lambda values: np.mean(values < 0.1),
        "figure 1 shows it, no number is printed",
    ),
    "large_attention": _analysed(
        "share of attention values above 0.9, {}",
        ("attention__vanilla",),
        lambda values: np.mean(values > 0.9),
        "figure 1 shows it, no number is printed",
    ),
    "open_gates": _analysed(
        "share of parameters whose gate is above 0.99, {}",
        ("score", "parameters"),
        lambda score, parameters: np.average(score > 0.99, weights=parameters),
        "figure 3 shows it, no number is printed",
    ),
    "quarter_rank_error": _analysed(
        "error of the best approximation by a quarter of the rank, {}",
        ("best_error",),
        _quarter_rank_error,
        "the papers print no singular values",
    ),
    "accuracy_10_less_100": _less(
        conditions.accuracy, "accuracy of {} on 10 classes less on 100, each less vanilla"
    ),
    "cpu_speed_10_less_100": _less(
        conditions.cpu, "CPU speed of {} on 10 classes less on 100, each over vanilla"
    ),
}


# -- reading --------------------------------------------------------------------------------------


class _Reader:
    """Reads claims from the content of a file, with its bounds and its groups of rows."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.bounds: Mapping[str, float] = content["bounds"]
        self.groups: Mapping[str, list[str]] = content["rows"]
        self.known = {method.key for method in (*METHODS, *VARIANTS)}

    def claim(self, given: Mapping[str, Any]) -> Claim:
        with naming(f"claim {given.get('id', given)}"):
            needed = ("id", "papers", "section", "says")
            check_keys(given, needed, ("conditions", "tables", "need", "construction", "note"))
            if given.get("need", "all") not in NEEDS:
                raise unknown("need", given["need"], NEEDS)
            found = [each for one in given.get("conditions", ()) for each in self.conditions(one)]
            tables = tuple(given.get("tables", (1, 2)))
            return Claim(**{**given, "conditions": tuple(found), "tables": tables})

    def conditions(self, given: Mapping[str, Any]) -> Iterator[Condition]:
        """The conditions of a table: every quantity of every row against every base, in order.

        `jointly` makes those of a row count as one.
        """
        further = ("base", "jointly")
        check_keys(given, ("of",), (*further, *NUMBERS))
        numbers = {name: said for name, said in given.items() if name in NUMBERS}
        of_study = not numbers.keys() & set(OF_ATTENTION)
        for base in self.rows(given.get("base", VANILLA)):
            for row in self.rows(given["of"], of_study):
                for name, said in numbers.items():
                    with naming(f"quantity {name}"):
                        found = NUMBERS[name](row, region(said, self.limit), base)
                    joint = row if given.get("jointly") else ""
                    yield from (replace(each, joint=joint) for each in found)

    def rows(self, given: str | list[str], of_study: bool = True) -> list[str]:
        """The keys that a key, a group's name or a list of them stands for."""
        names = given if isinstance(given, list) else [given]
        keys = [key for name in names for key in self.groups.get(name, [name])]
        for key in keys if of_study else ():
            if key not in self.known:
                raise UserError(
                    f"unknown row {key!r}; valid: the keys of `vitstudy list methods` and "
                    f"{', '.join(self.groups)}"
                )
        return keys

    def limit(self, given: float | str) -> float:
        """A number, or the bound of that name, negative behind a minus sign."""
        if not isinstance(given, str):
            return float(given)
        name = given.removeprefix("-")
        if name not in self.bounds:
            raise unknown("bound", name, self.bounds)
        return -self.bounds[name] if given.startswith("-") else self.bounds[name]


def read(content: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims of a file's content: `bounds`, `rows` and a list `claim`, as `claims.toml` says.

    Raises UserError, which names the claim and the quantity, for a key, row, quantity, comparison
    or bound that is unknown.
    """
    reader = _Reader(content)
    return tuple(reader.claim(given) for given in content["claim"])


_CONTENT = read_file(FILE)
BOUNDS: Mapping[str, float] = _CONTENT["bounds"]
"""How words without a number are read, by their names in `claims.toml`."""
CLAIMS = read(_CONTENT)
