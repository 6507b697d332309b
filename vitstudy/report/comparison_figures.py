"""Figures that compare rows with each other, with print, and claims with measurements."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from vitstudy import conditions
from vitstudy.methods import METHODS
from vitstudy.report import style
from vitstudy.report.tables import SIGNIFICANT

DIVERGING = "PuOr_r"
"""Blue-violet below, orange above: kept apart by colour-blind readers, white in the middle."""
VERDICT_COLOURS = dict(
    zip(
        conditions.VERDICTS,
        (*(style.PALETTE[n] for n in (0, 2, 9, 8, 3)), "#d9d9d9"),
        strict=True,
    )
)
WHITE_ON = (conditions.HOLDS, conditions.CONSTRUCTED, conditions.FAILS)


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
    figure = style.figure(height=0.42 * len(keys) + 1.8)
    axes = figure.subplots()
    axes.grid(visible=False)
    places = {key: place for place, key in enumerate(keys)}
    grid = np.full((len(keys) - 1, len(keys) - 1), np.nan)
    bound = max(1.0, float(pairs["points"].abs().max()))
    for pair in pairs.itertuples():
        row, column = places[pair.first] - 1, places[pair.second]
        grid[row, column] = pair.points
        dark = abs(pair.points) > 0.5 * bound
        axes.text(
            column,
            row,
            f"{_short(pair.points)}{SIGNIFICANT if pair.significant else ''}",
            ha="center",
            va="center",
            fontsize=8 if len(keys) > 8 else 10,
            color="white" if dark else "black",
        )
    drawn = axes.imshow(grid, cmap=DIVERGING, norm=TwoSlopeNorm(0, -bound, bound), aspect="auto")
    axes.set_yticks(range(len(keys) - 1), [titles[key] for key in keys[1:]])
    axes.set_xticks(
        range(len(keys) - 1), [titles[key] for key in keys[:-1]], rotation=35, ha="right"
    )
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, ax=axes, label="points", fraction=0.05)
    axes.set_title("accuracy of the row less that of the column, points", loc="left")
    return figure


def _short(points: float) -> str:
    """A difference in the room of a small square."""
    return f"{points:+.1f}" if abs(points) < 9.95 else f"{points:+.0f}"


@style.styled
def verdicts(counts: pd.DataFrame, total: int) -> Figure:
    """How many of `total` claims hold, of `verdicts.counts`, by their tables and as measured."""
    figure = style.figure(height=2.4)
    axes = figure.subplots()
    sides = [column for column in counts if column != "verdict"]
    left = np.zeros(len(sides))
    for _, row in counts.iterrows():
        values, colour = row[sides].to_numpy(int), VERDICT_COLOURS[row["verdict"]]
        bars = axes.barh(sides, values, left=left, color=colour, label=row["verdict"], height=0.6)
        axes.bar_label(
            bars,
            [str(value) if value else "" for value in values],
            label_type="center",
            color="white" if row["verdict"] in WHITE_ON else "black",
        )
        left += values
    axes.invert_yaxis()
    axes.set_xlim(0, total)
    axes.set_xlabel("claims")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3)
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
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2)
    return figure
