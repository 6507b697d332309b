"""Numbers as text for a reader: one way to write a column, and a table of columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import chain
from string import ascii_lowercase

import pandas as pd

Form = str | Callable[[object], str]
"""How a value is written: a format such as "{:.2f}", or a function."""
SHORT = 13
"""Rows of a table that is still short: as many as the papers' own have."""


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


def _letter(number: int) -> str:
    """a, b, …, z, aa, ab, …"""
    before, last = divmod(number, len(ascii_lowercase))
    return (_letter(before - 1) if before else "") + ascii_lowercase[last]


def lettered(notes: Iterable[str], least: int = 1) -> tuple[list[str], dict[str, str]]:
    """Notes, parted by semicolons, with a letter in place of each part that `least` rows share.

    Also what each of the letters stands for, to be written once beneath the table.
    """
    parts = [list(filter(None, note.split("; "))) for note in notes]
    count = Counter(part for own in parts for part in own)
    shared = [part for part in dict.fromkeys(chain(*parts)) if count[part] >= least]
    letters = {part: _letter(at) for at, part in enumerate(shared)}
    shown = [
        "; ".join(
            filter(
                None,
                [
                    ", ".join(letters[part] for part in own if part in letters),
                    *(part for part in own if part not in letters),
                ],
            )
        )
        for own in parts
    ]
    return shown, {letter: part for part, letter in letters.items()}


def notes_below(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """A table whose notes are letters, and the line that says beneath it what they stand for.

    A short table has all notes there, a long one those that rows share. Without a column `Note` the
    table stays as it is, and the line is empty.
    """
    if "Note" not in frame:
        return frame, ""
    notes, letters = lettered(frame["Note"], 1 if len(frame) <= SHORT else 2)
    said = "; ".join(f"{letter}: {note}" for letter, note in letters.items())
    return frame.assign(Note=notes), said and f"Notes: {said}."


def markdown(
    headings: Iterable[str], rows: Iterable[Iterable], words: tuple[str, ...]
) -> list[str]:
    """The lines of a Markdown table; the columns of `words` are set left, the others right."""
    headings = list(headings)
    sides = ["---" if heading in words else "---:" for heading in headings]
    return [_pipes(cells) for cells in (headings, sides, *rows)]


def _pipes(cells: Iterable) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
