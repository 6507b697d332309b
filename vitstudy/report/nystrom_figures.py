"""The figures of notebook 06; each takes what `report.nystrom` computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from vitstudy.report import nystrom, style


def _plain(axis, ticks) -> None:
    """Those ticks on a logarithmic axis, as plain numbers."""
    axis.set_ticks(list(ticks))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


@style.styled
def spectra(found: dict[str, dict]) -> Figure:
    """Singular values of the attention matrices over the largest, one line a layer.

    Thin lines: the same rows with their entries in another order.
    """
    figure, grid = style.row(len(found), 3.9)
    for axes, (title, analysis) in zip(grid, found.items(), strict=True):
        shown = analysis["shown_layers"]
        for place, layer in enumerate(shown):
            colour = style.PALETTE[place]
            places = np.arange(1, analysis["singular_values"].shape[1] + 1)
            values = analysis["singular_values"][layer]
            shuffled = analysis["singular_values_shuffled"][layer]
            axes.plot(places, values, color=colour, label=f"layer {layer + 1}")
            axes.plot(
                places, shuffled, "--", lw=1, color=colour, label=f"layer {layer + 1}, shuffled"
            )
        axes.set_yscale("log")
        axes.set_ylim(1e-6, 1.5)
        axes.set(title=title, xlabel="singular value, in order")
    grid[0].set_ylabel("over the largest")
    style.legend(grid[0], "lower", 3)
    return figure


@style.styled
def matrices(shown: list[dict], num_landmarks: int) -> Figure:
    """One head's matrix in each layer: softmax, by landmarks, and the difference of the two."""
    figure = style.figure(height=2.55 * len(shown))
    grid = figure.subplots(len(shown), 3, squeeze=False)
    for row, (line, found) in enumerate(zip(grid, shown, strict=True)):
        top = np.quantile(found["softmax"], 0.995)  # a few entries would leave the rest dark
        for axes, name in zip(line[:2], ("softmax", "landmarks"), strict=True):
            image = axes.imshow(found[name], vmin=0, vmax=top, cmap=style.HEAT)
        figure.colorbar(image, ax=line[1], shrink=0.85, extend="both")
        difference = found["landmarks"] - found["softmax"]
        reach = max(np.abs(difference).max(), 1e-12)
        image = line[2].imshow(difference, vmin=-reach, vmax=reach, cmap="PuOr")
        figure.colorbar(image, ax=line[2], shrink=0.85)
        line[0].set_ylabel(f"layer {found['layer']}\nquery")
        line[2].set_title(f"difference: {100 * found['error']:.1f} %", fontsize=10)
        if row == 0:
            line[0].set_title("softmax", fontsize=10)
            line[1].set_title(f"{num_landmarks} landmarks", fontsize=10)
        for axes in line:
            axes.grid(visible=False)
            axes.set_xticks([0, len(difference) - 1])
            axes.set_yticks([0, len(difference) - 1])
    for axes in grid[-1]:
        axes.set_xlabel("key")
    return figure


@style.styled
def errors(frame: pd.DataFrame, layers: list[int]) -> Figure:
    """Error of the matrix against landmarks, of `nystrom.errors`: data sets down, layers across."""
    titles = list(dict.fromkeys(frame["data set"]))
    figure = style.figure(height=0.9 + 2.3 * len(titles))
    grid = figure.subplots(len(titles), len(layers), sharex=True, sharey=True, squeeze=False)
    for row, title in zip(grid, titles, strict=True):
        for axes, layer in zip(row, layers, strict=True):
            here = frame[(frame["data set"] == title) & (frame["layer"] == layer)]
            for place, (label, part) in enumerate(here.groupby("inverse", sort=False)):
                some = part[part["error"] > 1e-5]  # at m = n there is none, which no log axis shows
                look = (
                    style.MARKERS[place % len(style.MARKERS)]
                    + style.LINES[place % len(style.LINES)]
                )
                colour = style.GREY if label == nystrom.BEST else style.PALETTE[place]
                axes.plot(
                    some["landmarks"], 100 * some["error"], look, ms=3.5, color=colour, label=label
                )
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_title(f"{title}, layer {layer}", fontsize=10)
            _plain(
                axes.xaxis,
                [m for m in (1, 2, 4, 8, 16, 32, 64, 128) if m <= here["landmarks"].max()],
            )
            _plain(axes.yaxis, [0.01, 0.1, 1, 10, 100])
        row[0].set_ylabel("error, % of ‖S‖")
    for axes in grid[-1]:
        axes.set_xlabel("landmarks $m$")
    style.legend(grid[0, 0], "lower", 2)
    return figure


@style.styled
def residuals(found: dict[str, dict], iterations: int) -> Figure:
    """The inverse's residual by iteration at the papers' m, mean over layers, and their spread."""
    figure, grid = style.row(len(found), 3.7)
    for axes, (title, analysis) in zip(grid, found.items(), strict=True):
        numbers = [m for m in analysis["landmarks"] if m in nystrom.scaling.LANDMARKS]
        for place, number in enumerate(numbers):
            left = nystrom.residual(analysis, number)
            steps = np.arange(len(left))
            colour = style.PALETTE[place]
            axes.plot(
                steps, left.mean(1), style.LINES[place], color=colour, label=f"{number} landmarks"
            )
            axes.fill_between(steps, left.min(1), left.max(1), color=colour, alpha=0.15, lw=0)
        axes.axvline(iterations, color=style.GREY, lw=1, label=f"{iterations} iterations")
        axes.set_yscale("log")
        axes.set(title=title, xlabel="iterations")
    grid[0].set_ylabel("‖AZA − A‖ / ‖A‖; band: layers")
    style.legend(grid[0], "lower", 4)
    return figure


@style.styled
def accuracy(frame: pd.DataFrame) -> Figure:
    """Accuracy against vanilla by landmarks, of `nystrom.accuracies`, published hollow."""
    titles = list(dict.fromkeys(frame["data set"]))
    figure, grid = style.row(len(titles), 4.0)
    looks = {
        ("segment", False): ("o-", style.PALETTE[0], "drop-in"),
        ("own", False): ("D:", style.PALETTE[2], "drop-in, class token a landmark"),
        ("segment", True): ("s--", style.PALETTE[1], "fine-tuned"),
    }
    for axes, title in zip(grid, titles, strict=True):
        here = frame[(frame["data set"] == title) & frame["landmarks"].notna()]
        for (place, trained), (look, colour, label) in looks.items():
            part = here[(here["class token"] == place) & (here["trained"] == trained)]
            part = part.sort_values("landmarks")
            axes.plot(part["landmarks"], part["change"], look, color=colour, ms=6, label=label)
        published = here.dropna(subset="published change").sort_values("landmarks")
        axes.plot(
            published["landmarks"],
            published["published change"],
            "o",
            mfc="none",
            color=style.PUBLISHED,
            label="published (ViT-B/16, n = 197)",
        )
        control = frame[(frame["data set"] == title) & (frame["key"] == nystrom.CONTROL)]
        for change in control["change"]:
            axes.axhline(change, color=style.GREY, ls="-.", lw=1.2, label="vanilla, trained on")
        axes.axhline(0, color="#444444", lw=0.8)
        axes.set(title=title, xlabel="landmarks $m$")
        axes.set_yscale("symlog", linthresh=2)
        axes.set_yticks([-50, -20, -10, -5, -2, -1, 0, 1, 2])
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:+g}" if value else "0")
        )
        axes.yaxis.set_minor_formatter(NullFormatter())
    grid[0].set_ylabel("accuracy against vanilla, points\n(linear between -2 and +2)")
    style.legend(grid[0], "lower", 3)
    return figure


@style.styled
def scaling(frame: pd.DataFrame, marks: list[int]) -> Figure:
    """Time and memory of one image's attention against tokens, of `nystrom.timings`."""
    figure = style.figure(height=4.4)
    left, right = figure.subplots(1, 2)
    for axes, column, label in (
        (left, "milliseconds", "milliseconds an image"),
        (right, "mib", "peak memory, MiB an image"),
    ):
        for place, (name, part) in enumerate(frame.groupby("attention", sort=False)):
            axes.plot(
                part["tokens"],
                part[column],
                style.MARKERS[place % len(style.MARKERS)] + style.LINES[place % len(style.LINES)],
                ms=4,
                color=style.PALETTE[place % len(style.PALETTE)],
                label=NAMES.get(name) or nystrom.attention_name(name, "landmarks: "),
            )
        for mark in marks:
            axes.axvline(mark, color=style.GREY, lw=0.8, zorder=0)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set(xlabel="tokens $n$", ylabel=label)
        _plain(axes.xaxis, [n for n in sorted(set(frame["tokens"])) if n & (n - 1) == 0])
        axes.tick_params(axis="x", labelsize=9)
    style.legend(left, "lower", 3)
    return figure


NAMES = {"explicit": "softmax, matrix written out", "fused": "softmax, fused kernel"}
