"""A table as LaTeX, for a paper that loads `booktabs` and `graphicx`."""

from __future__ import annotations

from itertools import groupby

import pandas as pd

from vitstudy.report.readable import lettered

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{each: f"\\{each}" for each in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
}


def escape(text: str) -> str:
    """`text` as LaTeX prints it: special characters escaped, signs as signs."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _number(text: str) -> str:
    """A table's cell: a minus is a minus, and not a hyphen, before a digit."""
    if text[:1] in "+-" and text[1:2].isdigit():
        return f"${text[0]}${escape(text[1:])}"
    return escape(text)


def table(
    columns: list[tuple[str, str, pd.Series]],
    notes: pd.Series,
    caption: str,
    label: str,
    words: int = 1,
) -> str:
    """A floating table of `columns`: (group, heading, cells as text) each, neighbours of one group
    under a common heading; the first `words` of them are set left, the others right.

    `notes` holds each row's notes, parted by semicolons; each is written once beneath the table,
    and a row names it by its letter. `caption` is LaTeX already. The table is scaled to the line.
    """
    marks, letters = lettered(notes)
    groups, rules, start = [], [], 1
    for group, members in groupby(columns, key=lambda column: column[0]):
        width = len(list(members))
        if group:
            groups.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        else:
            groups += [""] * width
        start += width
    heading = " & ".join(escape(name) for _, name, _ in columns)
    lines = [
        r"\begin{table*}",
        rf"\caption{{{caption}}}\label{{{label}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{'l' * words}{'r' * (len(columns) - words)}l}}",
        r"\toprule",
    ]
    if rules:
        lines += [" & ".join(groups) + r" & \\", "".join(rules)]
    lines += [heading + r" & Notes \\", r"\midrule"]
    for position, mark in enumerate(marks):
        cells = [_number(cells.iloc[position]) for _, _, cells in columns]
        lines.append(" & ".join([*cells, mark]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}", r"\par\footnotesize"]
    lines += [rf"\textsuperscript{{{letter}}}~{escape(note)}." for letter, note in letters.items()]
    return "\n".join([*lines, r"\end{table*}", ""])
