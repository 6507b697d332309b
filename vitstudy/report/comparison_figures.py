"""Figures that compare rows with each other, with print, and claims with measurements."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vitstudy.methods import METHODS
from vitstudy.report import style
from vitstudy.report.tables import SIGNIFICANT

DIVERGING = "PuOr_r"
"""Blue-violet below, orange above: kept apart by colour-blind readers, white in the middle."""
VERDICT_COLOURS = (style.PALETTE[0], style.PALETTE[9], style.PALETTE[3], "#d9d9d9")
"""Holds, partly, does not hold, cannot be checked."""


@style.styled
def differences(pairs: pd.DataFrame) -> Figure:
    """Accuracy of each row less that of each row above it, points, of `tables.pairs`.

    Rows that are not measured are left out; a star marks what is significant. Raises ValueError
    where there is no pair.
    """
    if pairs.empty:
        raise ValueError("no two rows are measured: there is nothing to draw")
    titles = {method.key: method.title for method in METHODS}
    keys = [key for key in titles if key in {*pairs["first"], *pairs["second"]}]
    figure, axes = style.axes(height=0.42 * len(keys) + 1.8)
    marks = pairs["significant"].map({True: SIGNIFICANT, False: ""})
    shown = pairs.assign(text=pairs["points"].map(_short) + marks)
    rows, columns = ([titles[key] for key in some] for some in (keys[1:], keys[:-1]))
    values, texts = (
        shown.pivot(index="first", columns="second", values=name).loc[keys[1:], keys[:-1]]
        for name in ("points", "text")
    )
    bound = max(1.0, float(pairs["points"].abs().max()))
    look = {"cmap": DIVERGING, "fmt": "", "annot_kws": {"fontsize": 8 if len(keys) > 8 else 10}}
    labels = {"xticklabels": columns, "yticklabels": rows, "bar": {"fraction": 0.05}}
    style.heat(axes, values, "points", annot=texts, vmin=-bound, vmax=bound, **labels, **look)
    axes.set_xticks(axes.get_xticks(), columns, rotation=35, ha="right")
    axes.set(xlabel="", ylabel="")
    axes.set_title("accuracy of the row less that of the column, points", loc="left")
    return figure


def _short(points: float) -> str:
    """A difference in the room of a small square."""
    return f"{points:+.1f}" if abs(points) < 9.95 else f"{points:+.0f}"


@style.styled
def verdicts(counts: pd.DataFrame, total: int) -> Figure:
    """How many of `total` claims hold, of `verdicts.counts`, by their tables and as measured."""
    figure, axes = style.axes(height=2.4)
    sides = [column for column in counts if column != "verdict"]
    left = np.zeros(len(sides))
    for (_, row), colour in zip(counts.iterrows(), VERDICT_COLOURS, strict=True):
        values = row[sides].to_numpy(int)
        bars = axes.barh(sides, values, left=left, color=colour, label=row["verdict"], height=0.6)
        white = colour in VERDICT_COLOURS[::2]
        axes.bar_label(
            bars,
            [str(value) if value else "" for value in values],
            label_type="center",
            color="white" if white else "black",
        )
        left += values
    axes.invert_yaxis()
    axes.set_xlim(0, total)
    axes.set_xlabel("claims")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=len(counts))
    return figure


@style.styled
def overview(frames: list[pd.DataFrame], published: list[pd.Series], titles: list[str]) -> Figure:
    """For the README: how far each row lies from vanilla, measured and published, a panel a table.

    frames: `tables.compared` of each table; published: the papers' change of accuracy, in points.
    """
    figure = style.figure(width=11, height=6.2)
    panels = figure.subplots(1, len(frames), sharey=True)
    for axes, frame, printed, title in zip(panels, frames, published, titles, strict=True):
        rows, printed = frame.iloc[1:], printed.iloc[1:]  # vanilla is the line at nought
        places = np.arange(len(rows))
        axes.axvline(0, color=style.GREY, lw=1)
        axes.plot(
            printed, places, "o", mfc="none", ms=8, color=style.PUBLISHED, label="the papers print"
        )
        names = ("difference", "difference_low", "difference_high")
        values, low, high = (rows[name].to_numpy(float) for name in names)
        label = "measured here, 95 % interval on the same images"
        style.intervals(axes, values, places, low, high, color=style.MEASURED, label=label)
        vanilla = frame["accuracy"].iloc[0]
        said = "" if np.isnan(vanilla) else f" (vanilla {vanilla:.2f} %)"
        axes.set(title=title + said, xlabel="accuracy less vanilla's, points")
        axes.set_yticks(places, rows["model"])
        axes.set_ylim(len(rows) - 0.5, -0.5)
    style.legend(panels[0], "upper", 2)
    return figure
