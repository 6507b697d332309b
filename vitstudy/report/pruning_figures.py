"""The figures of notebook 05: the papers' Figures 2 and 3, accuracy by score, and what goes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from vitstudy.pruning.slim import KINDS, Shape
from vitstudy.report import pruning, style

COLOURS = (style.PALETTE[0], style.PALETTE[3])
"""Of the set with 10 classes and of that with 100: blue and red, as the papers have them."""
GATE = style.PALETTE[1]
LAYER, OPERATION = "#dce6f2", "#f1f1f1"


# -- figure 2 -------------------------------------------------------------------------------------


@style.styled
def schematics(shape: Shape) -> Figure:
    """The soft-gate model and the skip-dimension model, a block of each, with its dimensions."""
    figure = style.figure(height=7.4)
    left, right = figure.subplots(1, 2)
    for axes, title in ((left, "(a) soft gates"), (right, "(b) skip-dimension model")):
        axes.set_axis_off()
        axes.set_xlim(-0.2, 10.2)
        axes.set_ylim(-1.2, 15.6)
        axes.set_title(title)
    inner = shape.heads * shape.head_dim
    parts = [
        ("LayerNorm", OPERATION),
        (f"gate: {shape.width} inputs", GATE),
        (f"W_q, W_k, W_v: {shape.heads} heads of {shape.head_dim}", LAYER),
        (f"gates: {inner} of q, k; {inner} of v", GATE),
        ("softmax(q kᵀ / √d) v", OPERATION),
        ("W_proj", LAYER),
        None,
        ("LayerNorm", OPERATION),
        (f"gate: {shape.width} inputs", GATE),
        (f"W_1: {shape.hidden} hidden", LAYER),
        (f"GELU, gate: {shape.hidden}", GATE),
        ("W_2", LAYER),
        None,
    ]
    for axes in (left, right):
        _block(axes, parts)
    _around(right)
    left.text(5, -1.1, "loss + λ Σ |g|", ha="center", va="bottom")
    right.text(5, -1.1, "loss + KL(gated || full) + λ Σ |g|", ha="center", va="bottom")
    return figure


def _block(axes: Axes, parts: list) -> None:
    """Boxes from the top down; None is the sum that ends a residual branch."""
    y, began = 14.6, 15.2
    axes.text(5, 15.3, "tokens", ha="center", va="bottom", fontsize=9)
    for part in parts:
        _arrow(axes, (5, y + 0.62), (5, y + 0.38))
        if part is None:
            axes.text(5, y, "+", ha="center", va="center", fontsize=13)
            axes.plot([5], [y], "o", ms=15, mfc="white", mec="#444444", zorder=1)
            axes.plot([5, 9.3, 9.3], [began, began, y], color="#444444", lw=1)
            _arrow(axes, (9.3, y), (5.5, y))
            began = y - 0.5
        else:
            text, colour = part
            _box(axes, y, text, colour)
        y -= 1.1
    _arrow(axes, (5, y + 0.72), (5, y + 0.3))


def _around(axes: Axes) -> None:
    """The way past the whole block, and the gate that weighs both ways."""
    y = -0.05
    axes.plot([5, 0.5, 0.5], [15.2, 15.2, y], color=GATE, lw=1.8)
    _arrow(axes, (0.5, y), (4.2, y), GATE)
    axes.text(0.75, 7.4, "past the block: weight 1 - g", rotation=90, va="center", fontsize=9)
    axes.text(5, y, "g", ha="center", va="center", fontsize=10)
    axes.plot([5], [y], "D", ms=15, mfc=GATE, mec="#444444", zorder=1)


def _box(axes: Axes, y: float, text: str, colour: str) -> None:
    gate = colour == GATE
    box = FancyBboxPatch(
        (1.7, y - 0.34),
        6.6,
        0.68,
        boxstyle=f"round,pad=0,rounding_size={0.34 if gate else 0.1}",
        fc=colour,
        ec="#444444",
        lw=0.8,
        alpha=0.85 if gate else 1,
    )
    axes.add_patch(box)
    axes.text(5, y, text, ha="center", va="center", fontsize=9)


def _arrow(axes: Axes, start: tuple, end: tuple, colour: str = "#444444") -> None:
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=8, color=colour, lw=1, shrinkA=0, shrinkB=0
    )
    axes.add_patch(arrow)


# -- figure 3 -------------------------------------------------------------------------------------


@style.styled
def importance(found: pd.DataFrame, bins: int = 40) -> Figure:
    """Number of parameters against importance score, of `pruning.units`: a panel a score."""
    rows = [row for row in pruning.ROWS if row in set(found["row"]) and row != "random"]
    panels = [("vtp-slow", True)] if "vtp-slow" in rows else []
    panels += [(row, False) for row in rows]
    # The papers' own figure first: gates of a plain fine-tuning, and the same seen from closer by.
    panels.sort(key=lambda panel: (panel[0] != "vtp-slow", rows.index(panel[0]), panel[1]))
    if not panels:
        return _nothing()
    figure = style.figure(height=0.4 + 2.6 * -(-len(panels) // 2))
    grid = figure.subplots(-(-len(panels) // 2), 2, squeeze=False).flatten()
    datasets = list(dict.fromkeys(found["dataset"]))
    for axes, (row, near) in zip(grid, panels, strict=False):
        _histogram(axes, found[found["row"] == row], datasets, row, near, bins)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    style.legend(grid[0], "upper", 3)
    return figure


def _histogram(
    axes: Axes, found: pd.DataFrame, datasets: list[str], row: str, near: bool, bins: int
) -> None:
    scores = found["score"].to_numpy(float)
    gates, logarithmic = row in pruning.GATES, row in ("taylor", "kl")
    if logarithmic:
        positive = scores[scores > 0]
        least = np.percentile(positive, 0.5) if len(positive) else 1e-12
        edges = np.geomspace(least, max(scores.max(), 2 * least), bins + 1)
        scores = np.maximum(scores, least)
    elif gates and not near:
        edges = np.linspace(0, max(1.3, scores.max()), bins + 1)
    else:
        edges = np.linspace(scores.min(), scores.max() + 1e-9, bins + 1)
    for dataset, colour in zip(datasets, COLOURS, strict=False):
        mine = (found["dataset"] == dataset).to_numpy()
        heights, _ = np.histogram(
            np.clip(scores[mine], edges[0], edges[-1]),
            bins=edges,
            weights=found["parameters"].to_numpy(float)[mine],
        )
        axes.stairs(heights, edges, color=colour, alpha=0.3, fill=True)
        axes.stairs(heights, edges, color=colour, lw=1.4, label=pruning.title(dataset))
    if gates and not near:
        label = f"{pruning.IMPORTANT}"
        axes.axvline(pruning.IMPORTANT, color="#444444", lw=1, ls="--", label=label)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_title(_titles(row) + (", closer" if near else ""), fontsize=11)
    axes.set_xlabel("score" + ("; the lowest 0.5 % at the left end" if logarithmic else ""))
    axes.set_ylabel("parameters")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    if near:
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.locator_params(axis="x", nbins=5)


def _titles(row: str) -> str:
    return {
        "vtp": "gates that can move",
        "vtp-slow": "gates at the network's rate",
        "taylor": "Eq. 7, squared change of the loss",
        "kl": "Eq. 8, KL of the outputs",
        "magnitude": "control: mean size of the weights",
        "random": "control: chance",
    }[row]


def _nothing() -> Figure:
    """What stands where a profile holds no row that could be drawn."""
    figure, axes = style.axes(height=1.2)
    axes.set_axis_off()
    axes.text(0.5, 0.5, "not measured on this profile", ha="center", va="center")
    return figure


# -- accuracy, and what goes ----------------------------------------------------------------------


@style.styled
def accuracy(found: pd.DataFrame, unpruned: dict[str, float]) -> Figure:
    """Accuracy of each score at each r, before (hollow) and after fine-tuning (filled).

    found: `pruning.accuracies`; unpruned: by data set, the control that lost nothing.
    """
    datasets = list(dict.fromkeys(found["dataset"]))
    if not datasets:
        return _nothing()
    figure, grid = style.row(len(datasets), 3.9)
    rows = [row for row in pruning.ROWS if row in set(found["row"])]
    rates = sorted(set(found["r"]))
    for axes, dataset in zip(grid, datasets, strict=True):
        here = found[found["dataset"] == dataset]
        for place, row in enumerate(rows):
            mine = here[here["row"] == row]
            colour = style.PALETTE[place]
            x = [rates.index(r) + 0.11 * (place - (len(rows) - 1) / 2) for r in mine["r"]]
            axes.vlines(x, mine["cut"], mine["tuned"], color=colour, lw=1)
            axes.plot(x, mine["cut"], "o", color=colour, mfc="white", ms=7)
            axes.plot(x, mine["tuned"], "o", color=colour, ms=7, label=pruning.ROWS[row])
        if dataset in unpruned:
            label = "nothing cut, as many steps"
            axes.axhline(unpruned[dataset], color="#444444", lw=1, ls="--", label=label)
        axes.set_xticks(range(len(rates)), [f"r = {r}" for r in rates])
        axes.set_xlim(-0.5, len(rates) - 0.5)
        axes.set_xlabel("share of all parameters removed")
        axes.set_title(pruning.title(dataset), fontsize=11)
        axes.grid(axis="x", visible=False)
    grid[0].set_ylabel("accuracy, %: hollow before,\nfilled after fine-tuning")
    style.legend(grid[0], "upper", 4)
    return figure


@style.styled
def what_goes(gone: np.ndarray, title: str) -> Figure:
    """Share of the dimensions that go, percent, by block and kind: (depth, kinds) of 0..1."""
    figure, axes = style.axes(height=1.4 + 0.45 * len(gone))
    kinds = [pruning.KIND_NAMES[kind] for kind in KINDS]
    blocks = [f"block {block}" for block in range(len(gone))]
    percent = pd.DataFrame(100 * gone, index=blocks, columns=kinds)
    texts = percent.map("{:.0f} %".format)
    style.heat(axes, percent, "", annot=texts, fmt="", vmin=0, vmax=100)
    axes.set_title(title, fontsize=11)
    return figure
