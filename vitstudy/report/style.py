"""How every figure looks, and how it is saved: the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitstudy import files

PALETTE = seaborn.color_palette("colorblind").as_hex()
MEASURED, PUBLISHED, WARNING, GREY = PALETTE[0], "#555555", PALETTE[3], "#8c8c8c"
HEAT = "viridis"
"""For values; it keeps its order in grey and for colour-blind readers."""
LINES = ("-", "--", "-.", ":")
MARKERS = "os^Dv*"
WIDTH = 8.0
"""Inches of a figure that fills a notebook's column."""
DPI = 160

RC = {
    **seaborn.axes_style("whitegrid"),
    **seaborn.plotting_context("notebook"),
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "axes.edgecolor": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e3e3e3",
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.dpi": DPI,
    "font.family": "sans-serif",
    # The font that comes with matplotlib, so that the bytes do not depend on the machine's fonts.
    "font.sans-serif": ["DejaVu Sans"],
    # Text stays text, and the names of clip paths do not change from run to run.
    "svg.fonttype": "none",
    "svg.hashsalt": "vitstudy",
}

styled = matplotlib.rc_context(rc=RC)
"""Decorates what draws: the look is the same whatever the session's own settings are."""


def apply() -> None:
    """Use the look for everything that the session draws from now on."""
    matplotlib.rcParams.update(RC)


def figure(width: float = WIDTH, height: float = 4.0) -> Figure:
    """An empty figure, inches; pyplot does not know it, so nothing shows or keeps it twice."""
    return Figure(figsize=(width, height), layout="constrained")


def axes(width: float = WIDTH, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure, inches, with one pair of axes."""
    drawn = figure(width, height)
    return drawn, drawn.subplots()


def row(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure, `height` in inches, with `count` panels side by side on one y axis."""
    drawn = figure(height=height)
    return drawn, list(drawn.subplots(1, count, sharey=True, squeeze=False)[0])


def legend(axes: Axes | Sequence[Axes], side: str, columns: int) -> None:
    """A legend of what `axes`, one or several, hold, at the figure's `upper` or `lower` side."""
    several = [axes] if isinstance(axes, Axes) else list(axes)
    entries = [each.get_legend_handles_labels() for each in several]
    handles, labels = (
        [item for part in parts for item in part] for parts in zip(*entries, strict=True)
    )
    several[0].figure.legend(handles, labels, loc=f"outside {side} center", ncols=columns)


def heat(axes: Axes, values, label: str, bar: dict | None = None, **options) -> None:
    """A matrix as colours in `axes`, NaN grey, with the scale's `label` unless it is empty.

    `bar` holds what else the colour bar is given, `options` what `seaborn.heatmap` is.
    """
    options = {"cmap": HEAT, "annot": True, "linewidths": 0.5, "cbar": bool(label)} | options
    bar = {"label": label, **(bar or {})} if label else {}
    seaborn.heatmap(values, ax=axes, cbar_kws=bar, **options)
    axes.grid(visible=False)
    axes.set_facecolor("#f0f0f0")
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    if label:
        axes.collections[0].colorbar.outline.set_visible(False)


def intervals(axes: Axes, values, places, low, high, **look) -> None:
    """Dots at `values` in the rows `places`, each with its interval from `low` to `high`."""
    values = np.atleast_1d(np.asarray(values, float))
    reach = np.stack([values - low, high - values])
    # Rounding may leave an end of the interval a hair inside the dot.
    axes.errorbar(values, places, xerr=np.maximum(0, reach), fmt="o", capsize=3, **look)


@styled
def render(figure: Figure, kind: str) -> bytes:
    """The figure as `svg` or `png`, without a date or a version in it."""
    content = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()


def save(figure: Figure, profile: str, name: str) -> Path:
    """Write `figures/<profile>/<name>.svg` and `.png`; the path of the PNG."""
    path = files.figures(profile) / f"{name}.png"
    files.write(path.with_suffix(".svg"), render(figure, "svg"))
    files.write(path, render(figure, "png"))
    return path
