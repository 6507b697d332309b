"""The survey's figures 1 to 4, its schematics, drawn anew; figure 3 from a real tensor."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from vitstudy.errors import check_bits
from vitstudy.report import style

PLAIN, DATA, QUADRATIC, TRAINED = "#eef2f7", "#ffffff", "#f6c9b8", "#dcefe3"
INK = "#333333"


def _canvas(figure: Figure, axes: Axes) -> Axes:
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    return axes


def _box(axes: Axes, x: float, y: float, text: str, colour=PLAIN, width=0.2, height=0.085, **look):
    """A box with its middle at (x, y), shares of the axes; its middle and half its sides."""
    look = {"boxstyle": "round,pad=0,rounding_size=0.012", "ec": INK, "lw": 1.1, **look}
    corner = x - width / 2, y - height / 2
    axes.add_patch(FancyBboxPatch(corner, width, height, fc=colour, **look))
    axes.text(x, y, text, ha="center", va="center", fontsize=9.5, color=INK)
    return x, y, width / 2, height / 2


def _arrow(axes: Axes, start, end, **look) -> None:
    """From the edge of one box to the edge of another, straight."""
    (x0, y0, w0, h0), (x1, y1, w1, h1) = start, end
    if abs(x1 - x0) > w0 + w1:
        way = 1 if x1 > x0 else -1
        ends = (x0 + way * w0, y0), (x1 - way * w1, y1)
    else:
        way = 1 if y1 > y0 else -1
        ends = (x0, y0 + way * h0), (x1, y1 - way * h1)
    look = {"arrowstyle": "-|>", "mutation_scale": 11, "lw": 1.1, "color": INK, **look}
    axes.add_patch(FancyArrowPatch(*ends, **{"shrinkA": 1, "shrinkB": 1, **look}))


def _arrows(axes: Axes, *pairs) -> None:
    """An arrow from the first to the second box of each pair."""
    for start, end in pairs:
        _arrow(axes, start, end)


@style.styled
def attention() -> Figure:
    """Figure 1: one self-attention, and the multi-head block that is made of several."""
    figure = style.figure(height=4.2)
    left, right = (_canvas(figure, axes) for axes in figure.subplots(1, 2))
    left.set_title("self-attention", fontsize=11)
    q, k, v = (
        _box(left, x, 0.07, name, DATA, 0.16) for x, name in ((0.2, "Q"), (0.5, "K"), (0.8, "V"))
    )
    scores = _box(left, 0.35, 0.27, "MatMul  $QK^T$", QUADRATIC, 0.4)
    scaled = _box(left, 0.35, 0.45, r"scale  $1/\sqrt{d_k}$", PLAIN, 0.4)
    softmax = _box(left, 0.35, 0.63, "Softmax", PLAIN, 0.4)
    product = _box(left, 0.55, 0.81, "MatMul  with $V$", QUADRATIC, 0.4)
    out = _box(left, 0.55, 0.955, "$A(Q, K, V)$", DATA, 0.3, 0.07)
    _arrows(left, (q, scores), (k, scores), (scores, scaled), (scaled, softmax))
    _arrows(left, (softmax, product), (v, product), (product, out))
    left.text(0.14, 0.27, "$O(n^2 d_k)$", fontsize=9.5, ha="right", va="center", color="#a33b12")
    left.text(0.34, 0.81, "$O(n^2 d_v)$", fontsize=9.5, ha="right", va="center", color="#a33b12")
    left.set_xlim(-0.12, 1)
    right.set_title("multi-head self-attention (MSA)", fontsize=11)
    tokens = _box(right, 0.5, 0.07, "tokens  $X$  ($n$ × $d$)", DATA, 0.5)
    joined = _box(right, 0.5, 0.74, "concatenate", PLAIN, 0.6)
    last = _box(right, 0.5, 0.86, "linear", PLAIN, 0.6)
    out = _box(right, 0.5, 0.955, "MSA(X)", DATA, 0.3, 0.07)
    for x, name in ((0.17, "1"), (0.5, "2"), (0.83, "h")):
        linear = _box(right, x, 0.29, "linear\nQ, K, V", PLAIN, 0.24, 0.13)
        head = _box(right, x, 0.53, f"self-attention\nhead {name}", QUADRATIC, 0.29, 0.13)
        above = (x, *joined[1:]) if x != 0.5 else joined
        _arrows(right, (tokens, linear), (linear, head), (head, above))
    right.text(0.665, 0.53, "…", ha="center", va="center", fontsize=13)
    _arrows(right, (joined, last), (last, out))
    return figure


@style.styled
def distillation() -> Figure:
    """Figure 2: vanilla knowledge distillation."""
    figure = style.figure(height=3.1)
    axes = _canvas(figure, figure.subplots())
    image = _box(axes, 0.07, 0.5, "image\n$x$", DATA, 0.11, 0.2)
    teacher = _box(axes, 0.28, 0.8, "teacher\n(deep, frozen)", PLAIN, 0.19, 0.24)
    student = _box(axes, 0.28, 0.28, "student\n(shallow, trained)", TRAINED, 0.19, 0.24)
    soft_t = _box(axes, 0.5, 0.8, "soft labels\n$p^t$", DATA, 0.14, 0.2)
    soft_s = _box(axes, 0.5, 0.42, "soft labels\n$p^s$", DATA, 0.14, 0.2)
    hard = _box(axes, 0.5, 0.14, "class\nscores", DATA, 0.14, 0.2)
    distilled = _box(axes, 0.725, 0.61, r"$L_{Dstl} = CE(p^t, p^s)$", PLAIN, 0.22, 0.15)
    classed = _box(axes, 0.725, 0.14, r"$L_{Class}$", PLAIN, 0.22, 0.15)
    truth = _box(axes, 0.725, 0.4, "ground truth", DATA, 0.15, 0.11)
    total = _box(axes, 0.93, 0.36, "$L_{KD}=$\n$L_{Class}+L_{Dstl}$", QUADRATIC, 0.13, 0.24)
    _arrows(axes, (image, teacher), (image, student), (teacher, soft_t), (student, soft_s))
    _arrows(axes, (student, hard), (soft_t, distilled), (soft_s, distilled), (hard, classed))
    _arrows(axes, (truth, classed), (distilled, total), (classed, total))
    below = -0.04
    axes.plot([0.93, 0.93, 0.28], [0.24, below, below], "--", color=style.WARNING, lw=1.2)
    _arrow(axes, (0.28, below, 0, 0), student, color=style.WARNING)
    axes.text(0.6, -0.12, "gradient, to the student alone", ha="center", fontsize=9, color=INK)
    axes.set_ylim(-0.15, 1)
    return figure


@style.styled
def quantization(values: np.ndarray, step_size: float, bits: int, name: str) -> Figure:
    """Figure 3: a real tensor in 32 bits, Eq. 5, and what is left of it in `bits` bits.

    `values` (R, C); a corner of it is shown in numbers, all of it as histograms.
    """
    check_bits(bits)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    codes = np.clip(np.round(values / step_size), low, high).astype(int)
    figure = style.figure(height=4.4)
    grid = figure.subplots(2, 2, height_ratios=(3, 2))
    limit = np.abs(values[:5, :6]).max()
    for axes, shown, unit, write in (
        (grid[0, 0], values[:5, :6], 1, "{:.3f}"),
        (grid[0, 1], codes[:5, :6], step_size, "{:d}"),
    ):
        limits = {"vmin": -1.6 * limit, "vmax": 1.6 * limit}
        axes.imshow(unit * shown, cmap="PuOr", aspect="auto", **limits)
        for (row, column), value in np.ndenumerate(shown):
            axes.text(column, row, write.format(value), ha="center", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    grid[0, 0].set_title(f"{name}: 32-bit floats $x$")
    grid[0, 1].set_title(rf"{bits}-bit integers $\Psi_{{{bits}}}(x, \Delta)$, Δ = {step_size:.4f}")
    grid[1, 0].hist(values.ravel(), bins=60, color=style.MEASURED)
    grid[1, 0].set(xlabel="value", ylabel="count")
    counts = np.bincount((codes - low).ravel(), minlength=2**bits)
    grid[1, 1].bar(range(low, high + 1), counts, color=style.PALETTE[1], width=0.8)
    ticks = range(low, high + 1, max(1, 2**bits // 8))
    grid[1, 1].set(xlabel="code", ylabel="count", xticks=ticks)
    return figure


@style.styled
def techniques() -> Figure:
    """Figure 4: where each of the four techniques takes hold of a transformer block."""
    figure = style.figure(height=4.6)
    top, bottom = figure.subplots(2, 1, height_ratios=(1.1, 2))
    _canvas(figure, top)
    _canvas(figure, bottom)
    names = ("tokens $X$", "Norm", "MSA", "+", "Norm", "FFN", "+", "$X_{out}$")
    widths = (0.12, 0.09, 0.11, 0.05, 0.09, 0.11, 0.05, 0.11)
    colours = (DATA, PLAIN, QUADRATIC, DATA, PLAIN, TRAINED, DATA, DATA)
    places = np.cumsum([0.075, 0.13, 0.125, 0.11, 0.1, 0.125, 0.11, 0.115])
    boxes = [
        _box(top, x, 0.32, name, colour, width, 0.36)
        for x, name, width, colour in zip(places, names, widths, colours, strict=True)
    ]
    _arrows(top, *itertools.pairwise(boxes))
    for start, end in ((0, 3), (3, 6)):
        ends = ((boxes[place][0], 0.5, 0, 0) for place in (start, end))
        look = {"connectionstyle": "arc3,rad=-0.25", "shrinkA": 2, "shrinkB": 2}
        _arrow(top, *ends, color=style.GREY, **look)
    top.set_title("one transformer block, and what each technique changes in it", fontsize=11)
    panels = (
        ("CA: compact design", QUADRATIC, "MSA", r"$O(n^2)$  →  $O(n)$"),
        ("P: pruning", PLAIN, "MSA, FFN, tokens", r"$P_{0/1} \odot W'$"),
        ("KD: distillation", TRAINED, "the whole network", "$CE(p^t, p^s)$"),
        ("Q: quantization", DATA, "weights, activations", r"$\Psi_k(x, \Delta)$"),
    )
    words = (
        ("pooled keys, values;", "kernels; windows"),
        ("dimensions, heads,", "layers or tokens out"),
        ("a small student", "learns from a teacher"),
        ("32 bits  →  8, 6, 4;", "a smaller file"),
    )
    for number, (title, colour, where, formula) in enumerate(panels):
        x = 0.125 + 0.25 * number
        _box(bottom, x, 0.49, "", "#fafafa", 0.23, 0.9, ec=style.GREY, lw=0.9)
        bottom.text(x, 0.87, title, ha="center", va="center", fontsize=9.5, fontweight="bold")
        _box(bottom, x, 0.68, where, colour, 0.2, 0.14)
        bottom.text(x, 0.45, formula, ha="center", va="center", fontsize=11)
        bottom.text(x, 0.22, "\n".join(words[number]), ha="center", va="center", fontsize=9)
    return figure


def schematics() -> dict[str, Figure]:
    """Figures 1, 2 and 4, which need no data, by the name of their files."""
    return {
        "figure_1_attention": attention(),
        "figure_2_distillation": distillation(),
        "figure_4_techniques": techniques(),
    }
