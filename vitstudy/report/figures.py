"""Every figure of the study: each function takes plain data and returns a matplotlib Figure."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vitstudy import statistics
from vitstudy.report import style

FAMILIES = "os^Dv<>PX*"
"""Markers, one for each method family; within a family the colour tells the rows apart."""


# -- tables 1 and 2 -------------------------------------------------------------------------------


@style.styled
def accuracy(
    table: pd.DataFrame, intervals: dict[str, tuple[float, float]], measured_on: str, title: str
) -> Figure:
    """Accuracy of every row of `tables.table`, percent: published hollow, measured with interval.

    `intervals` by key, percent; `measured_on` names the data set of the measured points.
    """
    figure, axes = style.axes(height=5.2)
    rows = range(len(table))
    axes.plot(
        table["accuracy_published"],
        rows,
        "o",
        mfc="none",
        color=style.PUBLISHED,
        label=f"published ({title})",
    )
    done = [position for position in rows if table["key"][position] in intervals]
    values = table["accuracy"].iloc[done].astype(float).to_numpy()
    limits = np.array([intervals[table["key"][position]] for position in done]).reshape(-1, 2)
    label = f"measured ({measured_on})"
    style.intervals(axes, values, done, *limits.T, color=style.MEASURED, label=label)
    axes.set_yticks(list(rows), table["model"])
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel("top-1 accuracy, %; bars: 95 % over test images, or ± std over seeds")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@style.styled
def tradeoff(ratios: pd.DataFrame) -> Figure:
    """Accuracy lost against the size and the CPU speed that it buys, of `tables.ratios`.

    All against vanilla of the same source, so published (hollow) and measured (filled) compare.
    """
    figure = style.figure(height=5.0)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(5, 4))
    looks, handles = _looks(ratios["method"]), []
    for row, (marker, colour) in zip(ratios.itertuples(), looks, strict=True):
        for axes, x in ((left, "size_ratio"), (right, "cpu_ratio")):
            for suffix, filled in (("_published", False), ("", True)):
                axes.plot(
                    getattr(row, x + suffix),
                    getattr(row, "accuracy_change" + suffix),
                    marker,
                    color=colour,
                    mfc=colour if filled else "none",
                    ms=8,
                )
        if not all(math.isnan(value) for value in row[-4:]):  # sizes and speeds
            handles.append(Line2D([], [], ls="", marker=marker, color=colour, label=row.model))
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter(FuncFormatter(_fraction))
    left.set_xlabel("size, share of vanilla's")
    left.set_ylabel("accuracy against vanilla, points")
    right.set_xlabel("CPU speed, multiple of vanilla's")
    for filled, label in ((False, "hollow: published"), (True, "filled: measured")):
        face = style.GREY if filled else "none"
        handles.append(Line2D([], [], ls="", marker="o", color=style.GREY, mfc=face, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _fraction(value: float, _: int | None = None) -> str:
    return f"{value:g}" if value >= 1 else f"1/{1 / value:g}"


def _looks(families: pd.Series) -> list[tuple[str, str]]:
    """Marker and colour of each row, no two alike."""
    order, seen, looks = list(dict.fromkeys(families)), {}, []
    for family in families:
        position = order.index(family)
        seen[family] = seen.get(family, -1) + 1
        colour = style.PALETTE[(position + 3 * seen[family]) % len(style.PALETTE)]
        looks.append((FAMILIES[position % len(FAMILIES)], colour))
    return looks


@style.styled
def published_speeds(same_shape: pd.DataFrame) -> Figure:
    """The speeds printed for one and the same shape, of `published.same_shape`."""
    figure = style.figure(height=2.8)
    names = [f"{row.model}, {row[2]}" for row in same_shape.itertuples()]
    for axes, device, digits in zip(
        figure.subplots(1, 2, sharey=True), ("GPU", "CPU"), (2, 3), strict=True
    ):
        values = same_shape[f"{device}, it/s"]
        bars = axes.barh(names, values, color=style.GREY, height=0.6)
        axes.bar_label(bars, [f"{value:.{digits}f}" for value in values], padding=4)
        axes.set_xlabel(f"{device} speed, iterations/s")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.margins(x=0.2)
        axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    return figure


# -- baselines ------------------------------------------------------------------------------------


@style.styled
def samples(images: np.ndarray, labels: np.ndarray, names: list[str], count: int = 10) -> Figure:
    """The first image of each of `count` classes spread over all; images (N, C, H, W) bytes."""
    classes = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
    figure = style.figure(height=style.WIDTH / len(classes) + 0.45)
    for axes, label in zip(figure.subplots(1, len(classes)), classes, strict=True):
        axes.set_title(names[label], fontsize=10)
        axes.axis("off")
        if (found := np.flatnonzero(labels == label)).size:
            image = images[found[0]].transpose(1, 2, 0)
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    return figure


@style.styled
def per_class(accuracies: list[float | None], names: list[str], pairs: bool, title: str) -> Figure:
    """Accuracy of each class: bars for ten, a matrix for pairs of ten, else in order of accuracy.

    `accuracies` 0..1, None for a class of which the test split has no image.
    """
    values = 100 * np.array([np.nan if each is None else each for each in accuracies])
    if pairs:
        figure, axes = style.axes(width=6.4, height=5.0)
        grid = values.reshape(10, 10)
        # The scale begins just below the worst class, or a good model would be all one colour.
        least = 10 * math.floor(min(np.nanmin(values), 90) / 10)
        look = {"fmt": ".0f", "square": True, "annot_kws": {"fontsize": 8}}
        style.heat(axes, grid, "accuracy, %", vmin=least, vmax=100, **look)
        axes.tick_params(axis="x", rotation=0)
        axes.set(xlabel="right digit", ylabel="left digit")
    elif len(values) <= 20:
        figure, axes = style.axes(height=3.4)
        bars = axes.bar(names, np.nan_to_num(values), color=style.MEASURED, width=0.7)
        shown = ["no image" if np.isnan(value) else f"{value:.0f}" for value in values]
        axes.bar_label(bars, shown, padding=2, fontsize=9)
        axes.set(xlabel="class", ylabel="accuracy, %", ylim=(0, 110))
        axes.set_yticks(range(0, 101, 20))
        axes.grid(axis="x", visible=False)
        if max(map(len, names)) > 5:
            axes.tick_params(axis="x", rotation=30)
    else:
        figure, axes = style.axes(height=3.4)
        ordered = np.sort(values[~np.isnan(values)])
        axes.bar(range(len(ordered)), ordered, color=style.MEASURED, width=1, lw=0)
        axes.set(xlabel="classes, hardest first", ylabel="accuracy, %", ylim=(0, 103))
        axes.margins(x=0.01)
    axes.set_title(title)
    return figure


@style.styled
def confusion(labels: np.ndarray, predicted: np.ndarray, names: list[str], title: str) -> Figure:
    """Which class is taken for which; the right ones are left out. labels, predicted (N,).

    Pairs of ten classes are counted by their halves; of many classes, only the counts' colours.
    """
    halves = {"": (labels, predicted, names)}
    if names == [f"{number:02d}" for number in range(100)]:
        digits = list("0123456789")
        halves = {
            "left digit": (labels // 10, predicted // 10, digits),
            "right digit": (labels % 10, predicted % 10, digits),
        }
    figure = style.figure(width=4.6 * len(halves) + 0.9, height=4.8)
    for axes, (half, (truth, guess, classes)) in zip(
        figure.subplots(1, len(halves), squeeze=False)[0], halves.items(), strict=True
    ):
        counts = np.zeros((len(classes), len(classes)), int)
        np.add.at(counts, (truth.astype(int), guess.astype(int)), 1)
        diagonal = np.eye(len(classes), dtype=bool)
        wrong = int(counts[~diagonal].sum())
        few = len(classes) <= 20
        ticks = dict.fromkeys(("xticklabels", "yticklabels"), classes if few else 10)
        look = {"annot": few, "fmt": "d", "square": True, "linewidths": 0.5 if few else 0, **ticks}
        hidden = diagonal | (counts == 0)
        bar = {"shrink": 0.8}
        style.heat(axes, counts, "" if few else "images", bar, mask=hidden, vmin=0, **look)
        axes.collections[0].set_rasterized(not few)  # ten thousand cells as paths are megabytes
        axes.set(xlabel="predicted", ylabel="label")
        axes.set_title(f"{half or title}: {wrong:,} wrong of {len(labels):,}")
        axes.tick_params(axis="x", rotation=90 if few and max(map(len, classes)) > 2 else 0)
    if len(halves) > 1:
        figure.suptitle(title, fontsize=12)
    return figure


@style.styled
def reliability(confidence: np.ndarray, correct: np.ndarray, title: str, bins: int = 15) -> Figure:
    """Accuracy against confidence over equal bins, and how many images are in each; both (N,).

    The expected calibration error (ECE) is the mean distance from the diagonal, images counted.
    """
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(index, minlength=bins)
    some = count > 0
    share = np.bincount(index, weights=correct, minlength=bins)[some] / count[some]
    centres = (np.arange(bins) + 0.5) / bins
    figure = style.figure(width=5.6, height=4.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.bar(100 * centres[some], 100 * share, width=90 / bins, color=style.MEASURED)
    upper.plot([0, 100], [0, 100], "--", color=style.PUBLISHED, label="as sure as right")
    upper.set(ylabel="accuracy, %", ylim=(0, 102), xlim=(0, 100))
    figure.legend(loc="outside lower center")
    error = statistics.expected_calibration_error(confidence, correct, bins)
    upper.set_title(f"{title}: ECE {100 * error:.1f} points")
    lower.bar(100 * centres, count, width=90 / bins, color=style.GREY)
    lower.set(xlabel="confidence in the likeliest class, %", ylabel="images")
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    return figure


# -- quantization ---------------------------------------------------------------------------------


@style.styled
def staircase(
    inputs: np.ndarray, outputs: dict[str, np.ndarray], limits: tuple[float, float], title: str
) -> Figure:
    """What a quantizer makes of each input, and the error it leaves; all (N,), one line a scheme.

    `limits` is the clipping range of the data.
    """
    figure = style.figure(height=4.2)
    left, right = figure.subplots(1, 2)
    left.plot(inputs, inputs, color=style.GREY, lw=1, label="$r$ itself")
    for (name, values), line in zip(outputs.items(), style.LINES, strict=False):
        left.plot(inputs, values, line, label=name)
        right.plot(inputs, values - inputs, line, label=name)
    for axes in (left, right):
        axes.axvspan(*limits, color="#f0f0f0", zorder=0, label="range of the data")
        axes.set_xlabel("input $r$")
    left.set_ylabel(r"$\tilde r$ after the round trip")
    right.set_ylabel(r"error $\tilde r - r$")
    style.legend(left, "lower", 4)
    figure.suptitle(title, fontsize=12)
    return figure


@style.styled
def error_against_bits(errors: pd.DataFrame, rows: list[dict[str, str]]) -> Figure:
    """Signal to quantization noise, dB, against bits, a panel a tensor.

    `errors` as `quantizer.error_against_bits` has it; `rows` of panels, titles by tensor, the first
    row with room for the legend. The grey slope is 6.02 dB a bit.
    """
    columns = max(len(rows[0]) + 1, *map(len, rows))
    figure = style.figure(height=2.5 * len(rows))
    grid = figure.subplots(len(rows), columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    looks = {
        ("symmetric", "per tensor"): ("o-", style.PALETTE[0]),
        ("asymmetric", "per tensor"): ("s-", style.PALETTE[1]),
        ("symmetric", "per channel"): ("o--", style.PALETTE[2]),
        ("asymmetric", "per channel"): ("s--", style.PALETTE[4]),
    }
    bits = np.array([errors["bits"].min(), errors["bits"].max()])
    panels = [
        (grid[row, column], *panel)
        for row, titles in enumerate(rows)
        for column, panel in enumerate(titles.items())
    ]
    for axes, name, title in panels:
        axes.set_axis_on()
        for (scheme, granularity), (line, colour) in looks.items():
            here = errors["tensor"].eq(name) & errors["scheme"].eq(scheme)
            chosen = errors[here & errors["granularity"].eq(granularity)]
            if len(chosen):
                label = f"{scheme},\n{granularity}"
                axes.plot(chosen["bits"], chosen["sqnr"], line, color=colour, ms=4, label=label)
        axes.plot(bits, 6.02 * bits, color=style.GREY, lw=1, zorder=0, label="6.02 dB a bit")
        axes.set_title(_wrapped(title), fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in grid[-1]:
        axes.set_xlabel("bits")
    for axes in grid[:, 0]:
        axes.set_ylabel("SQNR, dB")
    grid[0, -1].legend(*grid[0, 0].get_legend_handles_labels(), loc="center", fontsize=9)
    return figure


def _wrapped(text: str, width: int = 20) -> str:
    """`text` on two lines where it is long."""
    if len(text) <= width:
        return text
    space = min(
        (place for place, letter in enumerate(text) if letter == " "),
        key=lambda place: abs(place - len(text) / 2),
    )
    return f"{text[:space]}\n{text[space + 1 :]}"


def _below_a_histogram(
    values: np.ndarray, rows: list[str], height: float, title: str
) -> tuple[Figure, Axes]:
    """How the values of a tensor lie, and the empty axes below it with a row for each name."""
    figure = style.figure(height=height)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.hist(values.ravel(), bins=100, color=style.GREY, lw=0, log=True)
    upper.set_ylabel("values in a bin (log scale)")
    upper.set_title(title)
    lower.set_yticks(range(len(rows)), rows)
    lower.set_ylim(len(rows) - 0.5, -0.5)
    lower.set_xlabel("value")
    return figure, lower


@style.styled
def clipping(values: np.ndarray, ranges: dict[str, tuple[float, float]], title: str) -> Figure:
    """How the values of a tensor lie, and the range that each calibration keeps of them."""
    figure, axes = _below_a_histogram(values, list(ranges), 4.4, title)
    for position, (name, limits) in enumerate(ranges.items()):
        axes.plot(limits, [position] * 2, "|-", ms=12, mew=2, lw=3, label=name)
    return figure


@style.styled
def levels(values: np.ndarray, found: dict[str, np.ndarray], title: str) -> Figure:
    """The values that each scheme can say, below those that the tensor has."""
    figure, axes = _below_a_histogram(values, list(found), 3.6, title)
    axes.eventplot(
        list(found.values()),
        lineoffsets=range(len(found)),
        linelengths=0.7,
        linewidths=1.2 if max(map(len, found.values())) <= 64 else 0.3,
        colors=style.PALETTE[: len(found)],
    )
    axes.grid(visible=False)
    return figure


@style.styled
def channel_ranges(low: np.ndarray, high: np.ndarray, title: str) -> Figure:
    """Least and greatest value of each channel, widest first, and of all; both (D,)."""
    order = np.argsort(low - high, kind="stable")
    figure, axes = style.axes(height=3.2)
    axes.axhspan(low.min(), high.max(), color="#f0f0f0", zorder=0, label="one scale for all")
    axes.bar(
        range(len(low)),
        (high - low)[order],
        bottom=low[order],
        width=0.8 if len(low) <= 100 else 1,  # gaps narrower than a pixel would flicker
        lw=0,
        color=style.MEASURED,
        label="each channel's own",
    )
    axes.set(xlabel="channels, widest first", ylabel="value", title=title)
    axes.margins(x=0.01)
    figure.legend(loc="outside lower center", ncols=2)
    return figure
