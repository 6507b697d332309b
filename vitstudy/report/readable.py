"""Numbers as text for a reader: one way to write a column, and a table of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

import pandas as pd

Form = str | Callable[[object], str]
"""How a value is written: a format such as "{:.2f}", or a function."""


def written(values: Iterable, form: Form, absent: str = "") -> list[str]:
    """Each of `values` by `form`; `absent` where there is none (None, NaN)."""
    write = form.format if isinstance(form, str) else form
    return [absent if pd.isna(value) else write(value) for value in values]


def significant(value: float, digits: int = 4) -> str:
    """`value` to so many significant digits, never with an exponent."""
    return f"{Decimal(f'{value:.{digits}g}'):f}"


def interval(points: float, low: float, high: float) -> str:
    """A difference in points with its 95 % interval."""
    return f"{points:+.2f} ({low:+.2f} to {high:+.2f})"


def table(frame: pd.DataFrame, columns: dict[str, tuple[str, Form] | str]) -> pd.DataFrame:
    """Columns of `frame` under headings: by heading, the column's name, or its name and form.

    Without a form the values stay what they are.
    """
    shown = {}
    for heading, column in columns.items():
        name, form = (column, None) if isinstance(column, str) else column
        shown[heading] = frame[name] if form is None else written(frame[name], form)
    return pd.DataFrame(shown)


def markdown(
    headings: Iterable[str], rows: Iterable[Iterable], words: tuple[str, ...]
) -> list[str]:
    """The lines of a Markdown table; the columns of `words` are set left, the others right."""
    headings = list(headings)
    sides = ["---" if heading in words else "---:" for heading in headings]
    return [_pipes(cells) for cells in (headings, sides, *rows)]


def _pipes(cells: Iterable) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
