"""The survey's figures 5 to 7, and two that it lacks: bubbles of Top-1 against EER."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation

from vitstudy.report import labels, style
from vitstudy.survey import pareto

BEST = style.PALETTE[1]
"""The survey's best trade-off is orange, as in its figures."""
LARGEST = 26.0
"""Radius in points of the largest bubble."""
TICKS = (3, 4, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300)
EDGE = "#444444"


@style.styled
def bubbles(
    models: pd.DataFrame, best: str, area: str, reference: tuple[tuple[float, str], ...]
) -> Figure:
    """Top-1 against EER of one category's models; area of a bubble is proportional to `area`.

    `models` as `survey.models.classification`, those without an EER left out by the caller; `best`
    is drawn orange; `reference` are the grey bubbles of the legend, value and label.
    """
    figure, axes = style.axes(height=6.6)
    scale = _scale(models[area], [value for value, _ in reference])
    chosen = (models["model"] == best).to_numpy()
    order = _order(models[area], np.flatnonzero(chosen))
    colours = np.where(chosen, BEST, style.PALETTE[0])
    _scatter(axes, models.iloc[order], "eer", area, scale, colours[order])
    _front(axes, models["eer"], models["top1"])
    _axes(axes, models["eer"], "EER, % (logarithmic; ViT-B/16 is 100)")
    low, high = models["top1"].min(), models["top1"].max()
    axes.set_ylim(low - 0.09 * (high - low), high + 0.09 * (high - low))
    box = _size_legend(axes, reference, scale, area)
    labels.place(
        axes,
        models[["eer", "top1"]].to_numpy(),
        _radii(models[area], scale),
        list(models["model"]),
        fontsize=7,
        emphasised=tuple(np.flatnonzero(chosen)),
        obstacles=(box,),
    )
    return figure


@style.styled
def many_bubbles(
    models: pd.DataFrame,
    cost: str,
    cost_title: str,
    groups: str,
    named: list[int],
    area: str,
    reference: tuple[tuple[float, str], ...],
) -> Figure:
    """Top-1 against a cost of many models, coloured by the column `groups`; Top-1 by its error.

    `named` are the positions of the survey's best trade-offs, orange; they and the front have
    labels. The y axis is logarithmic in 100 - Top-1, so that the top is not squeezed.
    """
    figure, axes = style.axes(height=7.0)
    axes.set_yscale("function", functions=(_from_top1, _to_top1))
    scale = _scale(models[area], [value for value, _ in reference]) / 2.2
    names = list(dict.fromkeys(models[groups]))
    palette = [style.PALETTE[each] for each in (0, 2, 4, 9, 6, 7)]
    colours = np.array([palette[names.index(each)] for each in models[groups]], object)
    colours[named] = BEST
    order = _order(models[area], named)
    _scatter(axes, models.iloc[order], cost, area, scale, colours[order])
    on = _front(axes, models[cost], models["top1"])
    _axes(axes, models[cost], cost_title)
    error = 100 - models["top1"]
    axes.set_ylim(100 - 1.25 * error.max(), 100 - 0.84 * error.min())
    axes.yaxis.set_major_locator(FixedLocator([20, 40, 50, 60, 70, 75, 80, 82, 84, 86]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    handles = [
        Line2D([], [], ls="", marker="o", ms=7, color=palette[each], label=name)
        for each, name in enumerate(names)
    ]
    handles.append(Line2D([], [], ls="", marker="o", ms=7, color=BEST, label="the survey's best"))
    handles.append(Line2D([], [], color=style.GREY, lw=1, label="front"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=9)
    box = _size_legend(axes, reference, scale, area)
    labels.place(
        axes,
        models[[cost, "top1"]].to_numpy(),
        _radii(models[area], scale),
        list(models["label"]),
        fontsize=7,
        emphasised=tuple(named),
        obstacles=(box,),
        labelled=sorted({*np.flatnonzero(on), *named}),
    )
    return figure


def _order(area: pd.Series, last) -> np.ndarray:
    """Large bubbles first, so that no small one hides behind them, and `last` over all."""
    order = [each for each in np.argsort(-area.to_numpy(), kind="stable") if each not in set(last)]
    return np.array([*order, *last])


def _from_top1(top1):
    return -np.log10(np.maximum(100 - np.asarray(top1, float), 1e-3))


def _to_top1(value):
    return 100 - 10.0 ** -np.asarray(value, float)


def _scale(values: pd.Series, others: list[float]) -> float:
    """Points squared of area for a unit, as scatter counts area: the square of the diameter."""
    return (2 * LARGEST) ** 2 / max(values.max(), *others)


def _radii(values: pd.Series, scale: float) -> np.ndarray:
    return np.sqrt(values.to_numpy() * scale) / 2


def _scatter(axes: Axes, models, cost, area, scale, colours) -> None:
    axes.scatter(
        models[cost],
        models["top1"],
        s=models[area] * scale,
        c=list(colours),
        alpha=0.6,
        edgecolors=EDGE,
        linewidths=0.6,
        zorder=3,
    )


def _front(axes: Axes, cost: pd.Series, top1: pd.Series) -> np.ndarray:
    on = pareto.front(cost, top1)
    order = np.argsort(cost.to_numpy()[on])
    axes.plot(
        cost.to_numpy()[on][order],
        top1.to_numpy()[on][order],
        drawstyle="steps-post",
        color=style.GREY,
        lw=1,
        zorder=1.5,
    )
    return on


def _axes(axes: Axes, cost: pd.Series, title: str) -> None:
    axes.set_xscale("log")
    axes.set_xlim(cost.min() / 1.35, cost.max() * 1.5)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(FixedLocator([each for each in TICKS if low < each < high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(title)
    axes.set_ylabel("Top-1 on ImageNet-1K, %")


TITLES = {"parameters": "#Param", "flops": "FLOPs", "size": "Size"}


def _size_legend(axes: Axes, reference, scale: float, area: str) -> Bbox:
    """Grey bubbles with their values in the lower right corner; the box that they take, pixels."""
    figure = axes.figure
    figure.draw_without_rendering()
    radii = [math.sqrt(value * scale) / 2 for value, _ in reference]

    def write(text: str, x: float, y: float, side: str) -> None:
        look = {"fontsize": 8, "ha": "center", "va": side, "color": "#555555"}
        place = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(text, (1, 0), (x, y), **place, **look).set_in_layout(False)

    x = -8.0  # points from the lower right corner
    for (value, text), radius in reversed(list(zip(reference, radii, strict=True))):
        room = max(radius, 13)
        shift = ScaledTranslation((x - room) / 72, (20 + radius) / 72, figure.dpi_scale_trans)
        look = {"color": "#c8c8c8", "edgecolors": "#8c8c8c", "linewidths": 0.6, "zorder": 1.2}
        bubble = axes.scatter(1, 0, s=value * scale, transform=axes.transAxes + shift, **look)
        bubble.set_in_layout(False)
        write(text, x - room, 16, "top")
        x -= 2 * room + 6
    top = 24 + 2 * max(radii)
    write(f"area: {TITLES[area]}", (x + 6) / 2, top, "bottom")
    frame, pixel = axes.get_window_extent(), figure.dpi / 72
    left, top = frame.x1 + (x + 2) * pixel, frame.y0 + (top + 14) * pixel
    return Bbox.from_extents(left, frame.y0, frame.x1, top)
