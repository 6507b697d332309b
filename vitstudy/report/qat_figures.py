"""Figures of quantization-aware training and of the bit-width sweep."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitstudy.report import style

SHARES = (50, 25, 12.5, 5, 2, 1, 0.5)
CHANGES = (-100, -50, -20, -10, -5, -2, -1, 0, 1, 2, 5)
"""Ticks of the sweep, percent and points: even between -2 and 2, beyond that logarithmic."""


@style.styled
def learned_step(found: dict[str, np.ndarray], bits: int) -> Figure:
    """LSQ's quantizer and its gradients over v = r / s; `found` as `qat.gradients` has it."""
    figure = style.figure(height=3.2)
    left, right = figure.subplots(1, 2)
    v = found["v"]
    left.plot(v, v, color=style.GREY, lw=1, label="$v$ itself")
    left.plot(v, found["q"], label="rounded and clipped")
    left.set_ylabel("integer $q$")
    left.legend(loc="upper left")
    right.plot(v, found["by_step"], label="by the step $s$")
    right.plot(v, found["by_value"], "--", color=style.PALETTE[1], label="by the value $r$")
    right.set_ylabel("gradient of $\\tilde r$")
    right.legend(loc="upper left")
    for axes in (left, right):
        axes.set_xlabel("$v = r / s$")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(f"LSQ, {bits} bits signed", fontsize=12)
    return figure


@style.styled
def steps(frame: pd.DataFrame, titles: list[str]) -> Figure:
    """How far each layer's step went, and what it clips; `qat.steps`' rows, a colour a data set."""
    figure = style.figure(height=4.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for table, rows in frame.groupby("table"):
        look = {"color": style.PALETTE[table - 1], "label": titles[table - 1], "ms": 5}
        upper.plot(rows["depth"], rows["step"], style.MARKERS[table - 1], **look)
        lower.plot(rows["depth"], 100 * rows["clipped"], style.MARKERS[table - 1], **look)
    upper.axhline(1, color=style.GREY, lw=1)
    upper.set_ylabel("learned step\nover its start")
    lower.set_ylabel("weights at the\noutermost codes, %")
    lower.set_ylim(bottom=0)
    names = frame.drop_duplicates("depth").sort_values("depth")["layers"]
    lower.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    style.legend(upper, "upper", 2)
    return figure


@style.styled
def learned_bits(shares: pd.DataFrame, title: str) -> Figure:
    """How many of each tensor's groups learned which width; `qat.learned_bits`' percent."""
    figure, axes = style.axes(width=6.8, height=1.5 + 0.26 * len(shares))
    look = {"annot": len(shares) <= 20, "fmt": ".0f", "annot_kws": {"fontsize": 8}}
    style.heat(axes, shares, "groups of the tensor, %", vmin=0, vmax=100, **look)
    axes.tick_params(axis="y", labelsize=9)
    axes.set(xlabel="bits", ylabel="", title=title)
    return figure


@style.styled
def sweep(frames: list[pd.DataFrame], published: list[pd.DataFrame], titles: list[str]) -> Figure:
    """Accuracy against bits and against size, a row a data set; the papers' points hollow.

    `frames` as `sweep.points`, `published` as `sweep.published` give them.
    """
    figure = style.figure(height=1.6 + 3.1 * len(frames))
    grid = figure.subplots(len(frames), 2, sharey="row", squeeze=False)
    families = list(dict.fromkeys(family for frame in frames for family in frame["family"]))
    for (left, right), frame, printed, title in zip(grid, frames, published, titles, strict=True):
        for position, family in enumerate(families):
            rows = frame[frame["family"] == family]
            look = {
                "color": style.PALETTE[position],
                "marker": style.MARKERS[position],
                "ms": 5,
                "label": family,
            }
            for axes, column in ((left, "bits"), (right, "size_share")):
                axes.plot(rows[column], rows["accuracy_change"], **look)
        for row, marker in zip(printed.itertuples(), "PXD", strict=True):
            look = {"mfc": "none", "color": style.PUBLISHED, "label": f"{row.model}, published"}
            right.plot(row.size_share, row.accuracy_change, marker, ms=8, zorder=3, **look)
        for axes in (left, right):
            axes.axhline(0, color=style.GREY, lw=1)
            axes.set_yscale("symlog", linthresh=2)
            axes.set_yticks(CHANGES, [f"{change:+g}" if change else "0" for change in CHANGES])
            axes.set_ylim(CHANGES[0], CHANGES[-1])
        left.set_ylabel("accuracy against vanilla, points")
        left.set_title(title, loc="left")
        left.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.invert_xaxis()
        right.set_xscale("log")
        right.set_xticks(SHARES, [f"{share:g} %" for share in SHARES])
        right.set_xticks([], minor=True)
        right.set_xlim(60, 0.4)
    grid[-1, 0].set_xlabel("bits of a weight (mean where they are learned)")
    grid[-1, 1].set_xlabel("file, share of vanilla's")
    style.legend(grid[0, 1], "lower", 2)
    return figure
