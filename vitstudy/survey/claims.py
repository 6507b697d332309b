"""What the survey says in numbers in Sections 4 to 4.5 and 6.3, sentence by sentence, computed.

The claims are in `claims.toml`, told in our words, with the line of the survey's text; what stands
here reads them. The verdict of each is computed from the tables: `holds` where what is printed
there gives the stated number, rounded or cut off, or makes the statement true; partly where a part
of it does and another fails, or where the number lies within what the inputs' own rounding allows,
so that it cannot be told; `does not hold`; `cannot be checked` where the tables say nothing of it.
"""

from __future__ import annotations

import operator
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitstudy.conditions import (
    COMPARISONS,
    OPEN,
    Value,
    check_keys,
    judge,
    naming,
    read_file,
    region,
)
from vitstudy.errors import UserError, unknown
from vitstudy.survey import judging, tables
from vitstudy.survey.judging import ARITHMETIC, Cell, Found
from vitstudy.survey.quantities import FUNCTIONS, NAMED_TABLES, Missing, Tables

FILE = Path(__file__).with_suffix(".toml")
COLUMNS = ["section", "claim", "computed", "verdict", "note", "line"]

NEEDED = ("section", "line", "says")
FURTHER = ("with", "computed", "stated", "note", "note_if")
KINDS = {
    "holds": ("computed",),
    "number": ("stated",),
    "repeats": (),
    "highest": (),
    "lowest": (),
    "best": (),
}
"""What a claim is judged by, and which keys it needs for that; a claim has one of them, or none
where no table says anything of it."""


def claims(folder: Path = tables.DATA, counted: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every claim with its verdict, `COLUMNS`, in the order of the text.

    `counted` (`counted.read`) checks what is said of the reference. Raises UserError as
    `tables.load` does, and for claims as `judged` does.
    """
    t = Tables(folder, counted)
    rows = []
    for claim in read_file(FILE)["claim"]:
        found = judged(claim, t)
        rows.append({**claim, **vars(found), "claim": claim["says"]})
    return pd.DataFrame(rows)[COLUMNS]


def judged(claim: Mapping[str, Any], t: Tables) -> Found:
    """What is computed for a claim of `claims.toml`, its verdict and its whole note.

    A quantity that the tables do not give makes a claim that cannot be checked, with the reason.
    Raises UserError, which names the claim, where its data are not as the file's head says.
    """
    with naming(f"claim {claim.get('says', claim)!r}"):
        kinds = [kind for kind in KINDS if kind in claim]
        if len(kinds) > 1:
            raise UserError(f"{' and '.join(kinds)} are given; valid is one")
        needed = (*NEEDED, *(key for kind in kinds for key in KINDS[kind]))
        check_keys(claim, needed, (*FURTHER, *KINDS))
        quantities = Quantities(t, claim.get("with", {}))
        try:
            found = _of_kind(claim, kinds[0], quantities) if kinds else Found("", OPEN)
            remark = quantities.text(claim.get("note", ""))
            if "note_if" in claim and not all(quantities.met(claim["note_if"])):
                remark = ""
        except Missing as reason:
            return Found("", OPEN, str(reason))
    return Found(found.computed, found.verdict, "; ".join(filter(None, (found.note, remark))))


def _of_kind(claim: Mapping[str, Any], kind: str, quantities: Quantities) -> Found:
    """What one kind of judging gives."""
    t, given = quantities.tables, claim[kind]
    if kind == "holds":
        met = [part for condition in given for part in quantities.met(condition)]
        return Found(quantities.text(claim["computed"]), judge(met))
    if kind == "number":
        return judging.number(claim["stated"], *quantities.formula(given))
    if kind == "repeats":
        return judging.repeated((text, quantities.value(each)) for text, each in given)
    if kind == "best":
        return judging.best(given, t.known, t.folder)
    table, model, column = given
    t.cell(table, model, column)
    which = {"highest": "max", "lowest": "min"}[kind]
    return judging.extreme(t.rows(table), column, model, which, claim.get("stated", ""))


# -- quantities, conditions and texts -------------------------------------------------------------

WORDS: dict[str, Callable[[Any, Any], bool]] = {
    "is": operator.eq,
    "among": lambda value, limit: value in limit,
    "not_among": lambda value, limit: value not in limit,
    "starts": lambda value, limit: value.startswith(limit),
    "reads": lambda value, limit: f"{value:.{len(limit.partition('.')[2])}f}" == limit,
}
"""Comparisons that no region is: equality, membership, a beginning, the digits of a number."""
REDUCED: dict[str, Callable[[Any], Any]] = {
    "count": len,
    "sum": sum,
    "min": min,
    "max": max,
    "unique": lambda values: list(dict.fromkeys(values)),
    "sorted": sorted,
}
"""What may be taken of a list, behind a dot."""


class Quantities:
    """The quantities of a claim: named ones (`with`), cells, arithmetic and functions.

    Raises UserError, which tells the quantity, for what none of them is, and Missing for what the
    tables do not give.
    """

    def __init__(self, t: Tables, named: Mapping[str, Any]) -> None:
        self.tables, self.named = t, named

    def value(self, given: Any) -> Any:
        """The value of a quantity as the data have it: a number, rows, a list, a word or a truth.

        A number stands for itself, a text for a named quantity, a list with a table, a model and a
        column for a cell, another list for the values of its members, and a table for rows, a row
        in words, the parts of a condition, arithmetic or a function, by its key.
        """
        if isinstance(given, (bool, int, float)):
            return given
        if isinstance(given, str):
            return self._path(given)
        if _is_cell(given):
            return self.tables.cell(*given).value
        if isinstance(given, list):
            return [self.value(each) for each in given]
        if "rows" in given:
            check_keys(given, ("rows",), ("where", "models", "least", "first"))
            return self._rows(**given)
        if "told" in given:
            check_keys(given, ("told", "row"), ("by", "none"))
            return self._told(**given)
        if "met" in given:
            return self.met(given["met"])
        return self._called(given)

    def _path(self, path: str) -> Any:
        """A named quantity, and behind dots a column of its rows or what is taken of a list."""
        name, *steps = path.split(".")
        if name not in self.named:
            raise unknown("quantity", name, self.named)
        with naming(f"quantity {path}"):
            found = self.value(self.named[name])
            for step in steps:
                if isinstance(found, pd.DataFrame) and step in found:
                    found = list(found[step])
                elif step in REDUCED:
                    found = REDUCED[step](found)
                else:
                    columns = found.columns if isinstance(found, pd.DataFrame) else ()
                    raise unknown("column or reduction", step, (*columns, *REDUCED))
        return found

    def _rows(
        self,
        rows: int | str,
        where: Mapping[str, Any] | None = None,
        models: list[str] | None = None,
        least: str = "",
        first: int = 1,
    ) -> pd.DataFrame:
        """The rows of a table: those `where` columns are so, of `models`, or the `least` few."""
        frame = self.tables.rows(rows)
        for column, said in (where or {}).items():
            values = self.tables.column(rows, column)[frame.index]
            frame = frame[np.array([self._compares(value, said) for value in values], dtype=bool)]
        if models is not None:
            places = [self.tables.place(rows, model) for model in models]
            frame = frame.loc[places]
        if least:
            frame = frame.loc[self.tables.column(rows, least)[frame.index].nsmallest(first).index]
        return frame

    def _told(self, told: str, row: str, by: str = ", ", none: str = "") -> str:
        """The rows named `told` in words: each is `row`, with its columns in braces."""
        frame = self.value(told)
        for _, column, _, _ in string.Formatter().parse(row):
            if column is not None and column not in frame:
                raise unknown(f"column of {told}", column, frame.columns)
        rows = frame.to_dict("records")
        return by.join(_Text(each.__getitem__).format(row) for each in rows) or none

    def _called(self, given: Mapping[str, Any]) -> Any:
        """Arithmetic on values, or a function of the tables, which takes what is given as it is."""
        name, arguments = next(iter(given.items()), ("", []))
        if len(given) != 1 or name not in (*ARITHMETIC, *FUNCTIONS):
            valid = ("rows", "told", "met", *ARITHMETIC, *FUNCTIONS)
            raise unknown("quantity", " and ".join(given), valid)
        listed = arguments if isinstance(arguments, list) else [arguments]
        if name in FUNCTIONS:
            return FUNCTIONS[name](self.tables, *listed)
        listed = [arguments] if _is_cell(arguments) else listed
        return ARITHMETIC[name](*map(self.value, listed))

    def formula(self, given: Any) -> tuple[Callable[..., float], list[Cell]]:
        """A quantity as a function of the cells that stand in it, and those, in order."""
        found: list[Cell] = []
        _replaced(given, lambda cell: found.append(self.tables.cell(*cell)))

        def formula(*values: float) -> float:
            each = iter(values)
            return self.value(_replaced(given, lambda cell: next(each)))

        return formula, found

    def met(self, condition: Mapping[str, Any]) -> list[bool]:
        """The parts of a condition, each met or not.

        `of` a quantity is one part, `each` of a list is one part for each of its values, `every`
        of a list is one part that is met where all its values are; `all` and `any` make one part
        of several conditions.
        """
        for key, combined in (("all", all), ("any", any)):
            if key in condition:
                return [combined(part for one in condition[key] for part in self.met(one))]
        kinds = [key for key in ("of", "each", "every") if key in condition]
        if len(kinds) != 1:
            raise UserError(f"condition {dict(condition)}: valid is one of `of`, `each`, `every`")
        said = {name: limit for name, limit in condition.items() if name != kinds[0]}
        values = self.value(condition[kinds[0]])
        if kinds[0] == "of":
            return [self._compares(values, said)]
        parts = [self._compares(value, said) for value in values]
        return parts if kinds[0] == "each" else [all(parts)]

    def _compares(self, value: Any, said: Any) -> bool:
        """Whether a value is as a table of one comparison says; what is no table it has to be."""
        if not isinstance(said, Mapping):
            return value == said
        if len(said) != 1:
            raise UserError(f"comparisons {', '.join(said) or 'none'}; valid is one")
        ((name, limit),) = said.items()
        if name in WORDS:
            return bool(WORDS[name](value, self.value(limit) if name == "is" else limit))
        if name not in COMPARISONS:
            raise unknown("comparison", name, (*WORDS, *COMPARISONS))
        return region({name: self.value(limit)}).holds(Value.exact(value)) is True

    def text(self, template: str) -> str:
        """A text with quantities in braces, each with its format."""
        return _Text(self._path).format(template)


class _Text(string.Formatter):
    """Writes what stands in braces: lists with commas, truths by two words, numbers as ever."""

    def __init__(self, value: Callable[[str], Any]) -> None:
        self.value = value

    def get_field(self, field_name: str, args, kwargs) -> tuple[Any, str]:
        return self.value(field_name), field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, list):
            return ", ".join(self.format_field(each, format_spec) for each in value)
        if "|" in format_spec:
            yes, no = format_spec.split("|")
            return yes if value else no
        return format(value, format_spec)


def _is_cell(given: Any) -> bool:
    """Whether a list tells a cell: a table, and the words of a model, a column and a variant."""
    return (
        isinstance(given, list)
        and len(given) in (3, 4)
        and (isinstance(given[0], int) or given[0] in NAMED_TABLES)
        and all(isinstance(each, str) for each in given[1:])
    )


def _replaced(given: Any, by: Callable[[list], Any]) -> Any:
    """`given` with something else in place of each cell, in order."""
    if _is_cell(given):
        return by(given)
    if isinstance(given, list):
        return [_replaced(each, by) for each in given]
    if isinstance(given, Mapping):
        return {key: _replaced(each, by) for key, each in given.items()}
    return given
