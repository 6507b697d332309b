"""The figures of notebook 02: each function takes plain data and returns a matplotlib Figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitstudy import data
from vitstudy.report import style

QUANTIZERS = {"uniform": style.PALETTE[1], "log2": style.PALETTE[2]}


@style.styled
def remedies(frame: pd.DataFrame) -> Figure:
    """`ptq.remedies`: accuracy with its interval and the logits' SQNR, a row of panels a data set.

    The float model's accuracy is the dashed line.
    """
    datasets = list(dict.fromkeys(frame["dataset"]))
    figure = style.figure(height=0.7 + 2.9 * len(datasets))
    panels = figure.subplots(len(datasets), 2, squeeze=False, width_ratios=(3, 2))
    bits = list(dict.fromkeys(frame["bits"]))
    for (left, right), dataset in zip(panels, datasets, strict=True):
        part = frame[frame["dataset"] == dataset].reset_index(drop=True)
        left.axvline(part["baseline"].iloc[0], ls="--", color=style.GREY, label="float baseline")
        for name, colour in zip(bits, (style.PALETTE[0], style.PALETTE[1]), strict=False):
            some = part[part["bits"] == name]
            limits = some["low"], some["high"]
            style.intervals(left, some["accuracy"], some.index, *limits, color=colour)
            right.barh(some.index, some["sqnr"], color=colour, height=0.6, label=name)
        for axes in (left, right):
            axes.set_ylim(len(part) - 0.5, -0.5)
            axes.set_yticks(part.index, part["setting"] if axes is left else [""] * len(part))
        left.set_title(data.spec(dataset).title, loc="left")
    panels[-1, 0].set_xlabel("top-1 accuracy on test, %, 95 % interval")
    panels[-1, 1].set_xlabel("SQNR of the logits\non validation, dB")
    style.legend(panels[0], "upper", 3)
    return figure


@style.styled
def calibration(draws: pd.DataFrame) -> Figure:
    """`ptq.calibration`: every draw, and the mean of each size, as change from the float model."""
    datasets = list(dict.fromkeys(draws["dataset"]))
    figure = style.figure(height=5.6)
    panels = figure.subplots(2, len(datasets), squeeze=False, sharex="col")
    for position, dataset in enumerate(datasets):
        part = draws[draws["dataset"] == dataset]
        change = part["accuracy"] - part["float"]
        image = part["image"].iloc[0]
        panels[0, position].axhspan(
            -image, image, color="#eeeeee", zorder=0, label="one validation image"
        )
        for axes, values in ((panels[0, position], change), (panels[1, position], part["sqnr"])):
            means = values.groupby(part["images"]).mean()
            axes.plot(part["images"], values, "o", mfc="none", color=style.GREY, label="one draw")
            axes.plot(means.index, means, "s-", color=style.MEASURED, label="mean of the draws")
            axes.set_xscale("log", base=2)
            axes.set_xticks(means.index, [str(size) for size in means.index])
            axes.minorticks_off()
            axes.set_xlim(means.index[0] / 1.3, means.index[-1] * 1.3)
        panels[0, position].set_title(data.spec(dataset).title)
        panels[1, position].set_xlabel("calibration images")
    for other in panels[0, 1:]:
        other.sharey(panels[0, 0])
    panels[0, 0].set_ylabel("accuracy on validation,\npoints from the float model")
    panels[1, 0].set_ylabel("SQNR of the logits, dB")
    style.legend(panels[0, 0], "upper", 3)
    return figure


@style.styled
def figure1(
    ranges: tuple[np.ndarray, np.ndarray],
    values: np.ndarray,
    levels: dict[str, np.ndarray],
    titles: tuple[str, str],
) -> Figure:
    """The papers' Figure 1: channel ranges of the last LayerNorm's inputs, and attention values.

    ranges: least and greatest of each channel (D,) each, in the channels' own order. Right, a
    histogram of attention `values` on a logarithmic axis, below it the `levels` of each quantizer;
    a level of zero lies at the left end.
    """
    figure = style.figure(height=4.4)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15))
    _ranges(left.subplots(), *ranges, titles[0])
    _attention(*right.subplots(2, 1, sharex=True, height_ratios=(3, 1)), values, levels, titles[1])
    return figure


def _ranges(axes, low: np.ndarray, high: np.ndarray, title: str) -> None:
    channels = np.arange(len(low))
    for values, colour, name in (
        (high, style.PALETTE[0], "maximum"),
        (low, style.PALETTE[3], "minimum"),
    ):
        axes.vlines(channels, 0, values, color=colour, lw=1.6 if len(low) <= 100 else 0.6)
        axes.plot(channels, values, ".", ms=3, color=colour, label=name)
    axes.axhline(0, color="#444444", lw=0.8)
    axes.set(xlabel="channel", ylabel="input of the last LayerNorm")
    axes.set_title(title, fontsize=11)
    axes.margins(x=0.02)
    axes.figure.legend(loc="outside lower center", ncols=2, markerscale=3)


@style.styled
def attention(values: np.ndarray, levels: dict[str, np.ndarray], title: str) -> Figure:
    """Attention values on a logarithmic axis and, below, the levels of each quantizer."""
    figure = style.figure(height=3.8)
    _attention(*figure.subplots(2, 1, sharex=True, height_ratios=(3, 1)), values, levels, title)
    return figure


def _attention(upper, lower, values: np.ndarray, levels: dict[str, np.ndarray], title: str) -> None:
    positive = values[values > 0]
    least = min(float(np.floor(np.log2(positive.min()))), -16.0)
    zero = least - 2  # where the axis, which has no zero, shows it
    upper.hist(np.log2(positive), bins=120, range=(least, 0), color=style.GREY, lw=0, log=True)
    upper.set_ylabel("values in a bin (log scale)")
    upper.set_title(title, fontsize=11)
    places = [[np.log2(level) if level > 0 else zero for level in some] for some in levels.values()]
    lower.eventplot(
        places,
        lineoffsets=range(len(places)),
        linelengths=0.7,
        linewidths=1.4 if max(map(len, places)) <= 32 else 0.5,
        colors=[QUANTIZERS[name] for name in levels],
    )
    lower.set_yticks(range(len(levels)), list(levels))
    lower.set_ylim(len(levels) - 0.5, -0.5)
    lower.grid(visible=False)
    ticks = [tick for tick in MaxNLocator(6, integer=True).tick_values(least, 0) if least <= tick]
    ticks = [int(tick) for tick in ticks if tick <= 0]
    lower.set_xticks([zero, *ticks], ["0", *(f"$2^{{{tick}}}$" for tick in ticks)])
    lower.set_xlim(zero - 0.7, 0.7)
    lower.set_xlabel("attention value (logarithmic)")
