"""Figures of pairs of methods and of the front over everything."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.figure import Figure

from vitstudy.report import style


@style.styled
def front(frames: list[pd.DataFrame], titles: list[str]) -> Figure:
    """Every measured model by size and accuracy, a panel a data set, and the Pareto front.

    `frames` as `combined.field` gives them. Models beyond the axis' lower end are not shown, and
    the panel says how many.
    """
    figure = style.figure(height=4.2 * len(frames))
    for axes, frame, title in zip(
        figure.subplots(len(frames), 1, squeeze=False)[:, 0], frames, titles, strict=True
    ):
        if frame.empty:
            axes.set_title(f"{title}: nothing measured")
            continue
        vanilla = frame[frame["key"] == "vanilla"]
        best = frame[frame["front"]].sort_values("size_mib")
        least = min(frame["accuracy"].max() - 12, best["accuracy"].max() - 12)
        for pair, colour, marker, label in (
            (False, style.GREY, "o", "one method"),
            (True, style.PALETTE[0], "s", "two methods"),
        ):
            rows = frame[frame["pair"] == pair]
            axes.plot(rows["size_mib"], rows["accuracy"], marker, ms=5, color=colour, label=label)
        axes.plot(
            best["size_mib"],
            best["accuracy"],
            drawstyle="steps-post",
            color=style.PALETTE[1],
            lw=1.5,
            zorder=1,
            label="Pareto front",
        )
        axes.plot(
            vanilla["size_mib"],
            vanilla["accuracy"],
            "*",
            ms=12,
            color=style.PALETTE[3],
            label="vanilla",
        )
        axes.set_xscale("log")
        axes.set_ylim(least, frame["accuracy"].max() + 0.8)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        below = int((frame["accuracy"] < least).sum())
        axes.set_title(f"{title} ({below} models lie below)" if below else title)
        axes.set_ylabel("top-1 accuracy, %")
        _label(axes, best[best["accuracy"] >= least])
    axes.set_xlabel("file, MiB")
    style.legend(figure.axes[0], "lower", 4)
    return figure


def _label(axes, best: pd.DataFrame) -> None:
    """Number the points of the front, those on top of each other at once; names stand beside."""
    lines, groups = [], []
    height = axes.get_ylim()[1] - axes.get_ylim()[0]
    for number, row in enumerate(best.itertuples(), 1):
        lines.append(f"{number}  {textwrap.fill(row.model, 24, subsequent_indent='    ')}")
        before = groups[-1][0] if groups else None
        if (
            before
            and row.size_mib / before.size_mib < 1.1
            and row.accuracy - before.accuracy < 0.1 * height
        ):
            groups[-1] = row, [*groups[-1][1], str(number)]
        else:
            groups.append((row, [str(number)]))
    for row, numbers in groups:
        axes.annotate(
            ", ".join(numbers),
            (row.size_mib, row.accuracy),
            (0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.text(1.02, 0.5, "\n".join(lines), transform=axes.transAxes, va="center", fontsize=9)


@style.styled
def together(frames: list[pd.DataFrame], titles: list[str]) -> Figure:
    """What each pair loses beyond the sum of its parts, with its interval; `combined.pairs`."""
    rows = max(1, *map(len, frames))
    names: dict[str, int] = {}
    for frame in frames:
        for row in frame.itertuples():
            names.setdefault(f"{row.first}, then {row.second}", len(names))
    figure, grid = style.row(len(frames), 1.6 + 0.32 * rows)
    for axes, frame, title in zip(grid, frames, titles, strict=True):
        places = [names[f"{row.first}, then {row.second}"] for row in frame.itertuples()]
        limits = frame["low"], frame["high"]
        style.intervals(axes, frame["together"], places, *limits, color=style.MEASURED)
        axes.axvline(0, color=style.GREY, lw=1)
        axes.set_title(title)
        axes.set_xlabel("accuracy beyond the sum of its\nparts' changes, points (95 %)")
    grid[0].set_yticks(range(len(names)), list(names))
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    return figure
