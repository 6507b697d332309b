"""Figures of how the papers' rows are ranked from scale to scale, and of how alike that is."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vitstudy.methods import METHODS
from vitstudy.report import style
from vitstudy.report.figures import FAMILIES
from vitstudy.report.scales import CLASSES, ENOUGH, PRINT, SCALES

COLOURS = (*style.PALETTE[:6], style.PALETTE[9])
"""Of the families of methods; the palette's seventh is too near to its fifth."""
TABLE_LOOKS = {1: ("o", style.PALETTE[0]), 2: ("s", style.PALETTE[1])}


@style.styled
def ranks(frame: pd.DataFrame) -> Figure:
    """Each row's place at every scale, of `scales.ranks`: a panel a table, a line a row.

    A colour and marker for each family of methods, a dash for each row in it. Fewer than thirteen
    rows are spread over the same height, the best at the top and the worst at the bottom.
    """
    tables = frame["table"].unique()
    figure = style.figure(height=0.9 + 3.9 * len(tables))
    panels = figure.subplots(len(tables), 1, squeeze=False)[:, 0]
    for axes, which in zip(panels, tables, strict=True):
        _ranks(axes, frame[frame["table"] == which])
        axes.set_title(CLASSES[which], loc="left")
    panels[-1].set_xlabel("scale, from the smallest; at the right, the papers' print")
    looks = _looks()
    families = {method.method: looks[method.key][:2] for method in METHODS}
    handles = [
        Line2D([], [], marker=marker, color=colour, label="vanilla" if name == "-" else name)
        for name, (marker, colour) in families.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=9)
    return figure


def _ranks(axes: Axes, own: pd.DataFrame) -> None:
    """One panel: the ranks of one table."""
    names = [name for name in SCALES if name in set(own["scale"])]
    rows = own.groupby("scale")["rank"].transform("size")
    own = own.assign(
        x=own["scale"].map(names.index),
        place=1 + (own["rank"] - 1) * (len(METHODS) - 1) / (rows - 1),
    )
    looks = _looks()
    for key, line in own.groupby("key", sort=False):
        marker, colour, dash = looks[key]
        if len(line) < len(names):  # a thin line leads over what is not measured
            axes.plot(line["x"], line["place"], color=colour, lw=1, alpha=0.4)
        line = line.set_index("x").reindex(range(len(names)))
        axes.plot(line.index, line["place"], marker + dash, color=colour, ms=6, lw=1.6)
    for row in own[own["scale"] == PRINT].itertuples():
        look = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        axes.annotate(row.model, (row.x, row.place), (8, 0), annotation_clip=False, **look)
    axes.set_xticks(range(len(names)), [_column(name, own) for name in names])
    axes.margins(x=0.02)
    axes.set_yticks(range(1, len(METHODS) + 1))
    axes.set_ylim(len(METHODS) + 0.5, 0.5)
    axes.set_ylabel("rank by accuracy")
    axes.grid(axis="y", visible=False)


def _column(name: str, own: pd.DataFrame) -> str:
    """A scale's name, with the number of its rows where it has not all."""
    rows = int((own["scale"] == name).sum())
    return name if rows == len(METHODS) else f"{name}\n({rows} of {len(METHODS)} rows)"


def _looks() -> dict[str, tuple[str, str, str]]:
    """Marker and colour by a row's family, and its dash within the family."""
    families = list(dict.fromkeys(method.method for method in METHODS))
    seen: dict[str, int] = {}
    looks = {}
    for method in METHODS:
        family = families.index(method.method)
        dash = style.LINES[seen.setdefault(method.method, 0)]
        seen[method.method] += 1
        looks[method.key] = (FAMILIES[family], COLOURS[family], dash)
    return looks


@style.styled
def intervals(frame: pd.DataFrame) -> Figure:
    """τ of every pair of scales that has one, of `scales.pairs`, with both its intervals."""
    frame = frame.dropna(subset="tau")
    names = list(dict.fromkeys(zip(frame["first"], frame["second"], strict=True)))
    figure, axes = style.axes(height=1.7 + 0.52 * len(names))
    for row in frame.itertuples():
        marker, colour = TABLE_LOOKS[row.table]
        place = names.index((row.first, row.second)) + (-0.15 if row.table == 1 else 0.15)
        axes.plot(
            [row.low, row.high], [place] * 2, color=colour, lw=6, alpha=0.35, solid_capstyle="butt"
        )
        if not pd.isna(row.rows_low):
            axes.plot([row.rows_low, row.rows_high], [place] * 2, "|-", color=colour, lw=1.4, ms=9)
        axes.plot(row.tau, place, marker, color=colour, ms=7)
    axes.axvline(0, color=style.GREY, lw=1)
    axes.axvline(ENOUGH, color=style.WARNING, lw=1.4, ls="--")
    axes.set_xlim(-1.02, 1.02)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [f"{first} and {second}" for first, second in names])
    axes.set_xlabel("Kendall's τ: 1 the same order, 0 none, −1 the opposite one")
    axes.grid(axis="y", visible=False)
    handles = [
        Line2D([], [], ls="", marker=TABLE_LOOKS[which][0], color=TABLE_LOOKS[which][1], label=name)
        for which, name in CLASSES.items()
    ]
    wide = {"lw": 6, "alpha": 0.5, "solid_capstyle": "butt"}
    handles += [
        Line2D([], [], color=style.GREY, label="95 % over images", **wide),
        Line2D([], [], color=style.GREY, lw=1.4, marker="|", ms=9, label="95 % over rows"),
        Line2D([], [], color=style.WARNING, lw=1.4, ls="--", label="what it takes to predict"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure
