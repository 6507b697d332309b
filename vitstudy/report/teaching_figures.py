"""The figures under the cells that teach: each takes plain tensors and returns a Figure."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from vitstudy.pruning.slim import KINDS
from vitstudy.report import style
from vitstudy.report.pruning import KIND_NAMES

KEPT, GONE = style.PALETTE[0], style.PALETTE[1]


# -- 01: a quantized weight -----------------------------------------------------------------------


@style.styled
def quantized(values: Tensor, restored: Tensor, scale: float, title: str) -> Figure:
    """How values lie over the levels they are rounded to, and the error of each; same shape."""
    r, back = values.detach().flatten().numpy(), restored.detach().flatten().numpy()
    figure = style.figure(height=3.8)
    left, right = figure.subplots(1, 2)
    left.hist(r, bins=80, color=style.GREY, lw=0)
    for level in np.unique(back) if len(np.unique(back)) <= 64 else ():
        left.axvline(level, color=style.PALETTE[1], lw=0.9)
    left.set(xlabel="weight $r$; lines: levels in use", ylabel="weights in a bin")
    right.axhspan(-scale / 2, scale / 2, color="#eeeeee", zorder=0, label="half a step, $S/2$")
    right.plot(r, back - r, ".", ms=2, color=style.MEASURED, rasterized=True)
    right.set(xlabel="weight $r$", ylabel=r"error $\tilde r - r$")
    right.legend(loc="lower left")
    right.margins(y=0.25)
    figure.suptitle(title, fontsize=12)
    return figure


# -- 02: attention maps and channels --------------------------------------------------------------


@style.styled
def maps(shown: dict[str, Tensor], title: str) -> Figure:
    """Attention maps (n, n) of one head side by side, logarithmic; a zero is grey."""
    figure = style.figure(height=3.3)
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    norm = LogNorm(2.0**-12, 1)
    for axes, (name, values) in zip(grid, shown.items(), strict=True):
        values = values.detach().numpy()
        axes.set_facecolor("#cccccc")
        picture = np.ma.masked_equal(values, 0)
        image = axes.imshow(picture, norm=norm, cmap=style.HEAT, interpolation="nearest")
        axes.set_title(f"{name}\n{len(np.unique(values)):,} different values", fontsize=10)
        axes.set(xlabel="key")
        _ends(axes, values.shape)
    grid[0].set_ylabel("query")
    ticks = [2.0**-power for power in (12, 8, 4, 0)]
    bar = figure.colorbar(image, ax=grid, shrink=0.8, label="attention; grey: 0", ticks=ticks)
    bar.ax.set_yticklabels([f"$2^{{-{power}}}$" for power in (12, 8, 4)] + ["1"])
    bar.ax.minorticks_off()
    figure.suptitle(title, fontsize=12)
    return figure


def _ends(axes, shape) -> None:
    axes.grid(visible=False)
    axes.set_xticks([0, shape[1] - 1])
    axes.set_yticks([0, shape[0] - 1])


@style.styled
def factors(x: Tensor, scale: Tensor, factor: Tensor, errors: dict[str, Tensor]) -> Figure:
    """Each channel's range, coloured by its factor, and its error under each choice of scales.

    x: (tokens, C); scale: (C,); factor: (C,), whole; errors: by name, root mean squares (C,).
    """
    low, high = x.amin(0).numpy(), x.amax(0).numpy()
    order = np.argsort(low - high, kind="stable")
    places, chosen = np.arange(len(order)), factor.numpy().astype(int)[order]
    figure = style.figure(height=4.8)
    upper, lower = figure.subplots(2, 1, sharex=True)
    colours = np.array([style.PALETTE[3], style.PALETTE[2], style.PALETTE[1], style.PALETTE[0]])
    for value in sorted(set(chosen), reverse=True):
        mine = chosen == value
        step = float(scale[factor == value][0])
        upper.bar(
            places[mine],
            (high - low)[order][mine],
            bottom=low[order][mine],
            color=colours[value % len(colours)],
            lw=0,
            label=f"$a={value}$, step {step:.3g}",
        )
    upper.set(ylabel="range of the channel")
    upper.legend(loc="upper right", ncols=2)
    for (name, values), line in zip(errors.items(), ("-", "--"), strict=False):
        colour = style.GREY if line == "-" else style.PALETTE[4]
        lower.plot(places, values.numpy()[order], line, color=colour, label=name)
    lower.set(xlabel="channels, widest first", ylabel="error, root mean square")
    lower.set_ylim(0, 1.35 * max(float(values.max()) for values in errors.values()))
    lower.legend(loc="upper right", ncols=2)
    lower.margins(x=0.01)
    upper.margins(y=0.2)
    return figure


# -- 03: a learned step, and noise ----------------------------------------------------------------


@style.styled
def learning(curve: dict[float, float], step: float, slope: float, after: float) -> Figure:
    """The error over the step, LSQ's gradient at `step` as a tangent, and the step `after`.

    curve: by step, the error there.
    """
    x, y = np.array(list(curve)), np.array(list(curve.values()))
    here = np.interp(step, x, y)
    figure = style.figure(height=3.6)
    axes = figure.subplots()
    axes.plot(x, y, color=style.GREY, label="error at each step $s$")
    span = np.array([-0.2, 0.2]) * step
    axes.plot(
        step + span, here + slope * span, "--", color=style.PALETTE[1], label="LSQ's gradient"
    )
    axes.plot(step, here, "o", ms=9, color=style.PALETTE[1], label="$s$ before")
    axes.plot(after, np.interp(after, x, y), "s", ms=9, color=style.PALETTE[2], label="$s$ after")
    axes.set(xlabel="step size $s$", ylabel="squared error\nof the layer's output", ylim=(0, None))
    axes.set_title(f"$s$ = {step:.4g}, gradient {slope:+.3g}: $s$ becomes {after:.4g}")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@style.styled
def noises(errors: dict[str, Tensor], bits: float) -> Figure:
    """Histograms of errors in steps: of rounding, and of what stands for it in training."""
    figure = style.figure(height=3.4)
    axes = figure.subplots()
    edges = np.linspace(-1.75, 1.75, 71)
    looks = zip(errors.items(), style.PALETTE, ("-", "--", ":"), strict=False)
    for (name, values), colour, line in looks:
        values = values.detach().flatten().numpy()
        label = f"{name}: {np.sqrt(np.mean(values**2)):.2f}"
        share, _ = np.histogram(values, edges)
        axes.stairs(share / values.size, edges, color=colour, ls=line, lw=2, label=label)
    axes.set(xlabel="error, in steps of the grid", ylabel="share of the weights in a bin")
    axes.set_title(f"{bits:g} bits")
    axes.legend(title="root mean square", loc="upper right")
    return figure


# -- 04: soft targets -----------------------------------------------------------------------------

SHOWN = 10
"""Classes that a figure of soft targets shows: the teacher's likeliest."""


@style.styled
def by_class(
    image: Tensor, label: str, names: list[str], likely: Tensor, bars: dict[str, Tensor], what: str
) -> Figure:
    """An image (C, H, W) of bytes beside values (classes,) by name, of its likeliest classes.

    likely: (classes,), what tells which those are; what: the name of the values' axis.
    """
    order = likely.argsort(descending=True, stable=True)[:SHOWN]
    figure = style.figure(height=3.4)
    left, right = figure.subplots(1, 2, width_ratios=(1, 3))
    left.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
    left.set_title(f"label: {label}")
    left.axis("off")
    places = np.arange(len(order))
    for position, ((name, values), colour) in enumerate(
        zip(bars.items(), (style.GREY, style.PALETTE[0], style.PALETTE[1]), strict=False)
    ):
        shift = (position - (len(bars) - 1) / 2) * 0.8 / len(bars)
        right.bar(places + shift, values[order].numpy(), 0.8 / len(bars), color=colour, label=name)
    ticks = [names[each] for each in order.tolist()]
    right.set_xticks(places, ticks, rotation=45 if max(map(len, ticks)) > 4 else 0)
    right.grid(axis="x", visible=False)
    right.axhline(0, color="#444444", lw=0.8)
    right.set(xlabel="class, the teacher's likeliest first", ylabel=what)
    figure.legend(loc="outside upper right", ncols=len(bars))
    return figure


# -- 05: scores and the cut -----------------------------------------------------------------------


@style.styled
def cut(scores: dict[str, Tensor], masks: dict[str, Tensor], label: str, title: str) -> Figure:
    """The score of every dimension by kind, sorted, coloured by whether it stays."""
    figure = style.figure(height=3.6)
    grid = figure.subplots(1, len(KINDS), sharey=True)
    for axes, kind in zip(grid, KINDS, strict=True):
        own = [name for name in scores if name.endswith(f".{kind}")]
        values = torch.cat([scores[name] for name in own])
        stays = torch.cat([masks[name] for name in own])
        order = values.argsort(stable=True)
        values, stays = values[order].numpy(), stays[order].numpy()
        places = np.arange(len(values))
        for chosen, colour, mark, name in (
            (~stays, GONE, "x", "goes"),
            (stays, KEPT, ".", "stays"),
        ):
            axes.plot(places[chosen], values[chosen], mark, ms=4, color=colour, label=name)
        share = 100 * (~stays).mean()
        axes.set_title(f"{KIND_NAMES[kind]}\n{share:.0f} % go", fontsize=10)
        axes.set_xticks([0, len(values) - 1])
        axes.grid(axis="x", visible=False)
    grid[0].set_ylabel(label)
    figure.supxlabel("dimensions of all blocks, lowest score first", fontsize=11)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, markerscale=2)
    figure.suptitle(title, fontsize=12, x=0.02, ha="left")
    return figure


@style.styled
def first_order(predicted: Tensor, measured: Tensor) -> Figure:
    """What removing a dimension does to the loss, by its derivative and as measured; (U,) each."""
    x, y = predicted.numpy(), measured.numpy()
    reach = max(np.abs(x).max(), np.abs(y).max()) * 1.1 + 1e-12
    figure = style.figure(width=5.6, height=4.2)
    axes = figure.subplots()
    axes.plot([-reach, reach], [-reach, reach], color=style.GREY, lw=1, label="as the sum says")
    axes.plot(x, y, "o", ms=5, color=style.MEASURED, label="one dimension")
    axes.set(
        xlabel=r"$-\sum_b \frac{\partial L}{\partial w_b}\,w_b$", ylabel="measured change of $L$"
    )
    axes.legend(loc="upper left")
    return figure


# -- 06: landmarks --------------------------------------------------------------------------------


@style.styled
def landmarks(softmax: Tensor, factors: dict[str, Tensor], product: Tensor, error: float) -> Figure:
    """One head's matrix (n, n), the three factors by name, their product, and the difference."""
    figure = style.figure(height=5.4)
    upper, lower = figure.subplots(2, 3)
    difference = (product - softmax).numpy()
    top = float(np.quantile(softmax.numpy(), 0.995))  # a few entries would leave the rest dark
    reach = max(float(np.abs(difference).max()), 1e-12)
    shown = {"softmax": softmax.numpy(), "product of the three": product.numpy()}
    for axes, (name, values) in zip(upper, shown.items(), strict=False):
        image = axes.imshow(values, vmin=0, vmax=top, cmap=style.HEAT)
        axes.set_title(name, fontsize=10)
    figure.colorbar(image, ax=upper[1], shrink=0.8, extend="both")
    image = upper[2].imshow(difference, vmin=-reach, vmax=reach, cmap="PuOr")
    upper[2].set_title(f"difference: {100 * error:.1f} %", fontsize=10)
    figure.colorbar(image, ax=upper[2], shrink=0.8)
    for axes, (name, values) in zip(lower, factors.items(), strict=True):
        values = values.numpy()
        reach = float(np.quantile(np.abs(values), 0.995))
        signed = bool((values < 0).any())
        image = axes.imshow(
            values,
            vmin=-reach if signed else 0,
            vmax=reach,
            cmap="PuOr" if signed else style.HEAT,
        )
        axes.set_title(f"{name}\n{values.shape[0]} × {values.shape[1]}", fontsize=10)
        figure.colorbar(image, ax=axes, shrink=0.8, extend="both" if signed else "max")
    for axes in (*upper, *lower):
        rows, columns = axes.images[0].get_array().shape
        _ends(axes, (rows, columns))
    upper[0].set(xlabel="key", ylabel="query")
    return figure


# -- 07: two methods ------------------------------------------------------------------------------


@style.styled
def together(changes: dict[str, float], right: dict[str, float]) -> Figure:
    """Change of the logits by method, the two alone, both, and both if they were independent.

    changes: relative, of "one", "other" and "both" by their names, in this order; right: percent.
    """
    first, second, both = changes
    expected = float(np.hypot(changes[first], changes[second]))
    figure = style.figure(height=2.9)
    axes = figure.subplots()
    rows = [first, second, both]
    colours = [style.PALETTE[0], style.PALETTE[2], style.PALETTE[4]]
    values = [100 * changes[row] for row in rows]
    axes.barh(rows, values, color=colours, height=0.6)
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        text = f"  {value:.1f} %; {right[row]:.1f} % of the images right"
        axes.text(max(value, 100 * expected if row == both else 0), place, text, va="center")
    axes.plot(
        [100 * expected] * 2,
        [1.6, 2.4],
        color="#222222",
        lw=2,
        label="both, if they were independent",
    )
    axes.invert_yaxis()
    axes.set_xlim(0, 1.9 * max(*values, 100 * expected, 1e-6))
    axes.set_xlabel("change of the logits, % of their norm")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper right")
    return figure
