"""Figures that compare rows with each other, with print, and claims with measurements."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from vitstudy import conditions
from vitstudy.methods import METHODS
from vitstudy.report import labels, style
from vitstudy.report.figures import FAMILIES
from vitstudy.report.tables import SIGNIFICANT

DIVERGING = "PuOr_r"
"""Blue-violet below, orange above: kept apart by colour-blind readers, white in the middle."""
VERDICT_COLOURS = dict(
    zip(
        conditions.VERDICTS,
        (*(style.PALETTE[n] for n in (0, 2, 9, 8, 3)), "#d9d9d9"),
        strict=True,
    )
)
WHITE_ON = (conditions.HOLDS, conditions.CONSTRUCTED, conditions.FAILS)
COLOURS = (*style.PALETTE[:6], *style.PALETTE[7:])
"""Of the families of methods; the palette's seventh is too near to its fifth."""


@style.styled
def differences(pairs: pd.DataFrame) -> Figure:
    """Accuracy of each row less that of each row above it, points, of `tables.pairs`.

    Rows that are not measured are left out; a star marks what is significant. Raises ValueError
    where there is no pair.
    """
    if pairs.empty:
        raise ValueError("no two rows are measured: there is nothing to draw")
    titles = {method.key: method.title for method in METHODS}
    keys = [key for key in titles if key in {*pairs["first"], *pairs["second"]}]
    figure, axes = style.axes(height=0.42 * len(keys) + 1.8)
    marks = pairs["significant"].map({True: SIGNIFICANT, False: ""})
    shown = pairs.assign(text=pairs["points"].map(_short) + marks)
    rows, columns = ([titles[key] for key in some] for some in (keys[1:], keys[:-1]))
    values, texts = (
        shown.pivot(index="first", columns="second", values=name).loc[keys[1:], keys[:-1]]
        for name in ("points", "text")
    )
    bound = max(1.0, float(pairs["points"].abs().max()))
    look = {"cmap": DIVERGING, "fmt": "", "annot_kws": {"fontsize": 8 if len(keys) > 8 else 10}}
    labels = {"xticklabels": columns, "yticklabels": rows, "bar": {"fraction": 0.05}}
    style.heat(axes, values, "points", annot=texts, vmin=-bound, vmax=bound, **labels, **look)
    axes.set_xticks(axes.get_xticks(), columns, rotation=35, ha="right")
    axes.set(xlabel="", ylabel="")
    axes.set_title("accuracy of the row less that of the column, points", loc="left")
    return figure


def _short(points: float) -> str:
    """A difference in the room of a small square."""
    return f"{points:+.1f}" if abs(points) < 9.95 else f"{points:+.0f}"


@style.styled
def verdicts(counts: pd.DataFrame, total: int) -> Figure:
    """How many of `total` claims hold, of `verdicts.counts`, by their tables and as measured."""
    figure, axes = style.axes(height=2.4)
    sides = [column for column in counts if column != "verdict"]
    left = np.zeros(len(sides))
    for _, row in counts.iterrows():
        values, colour = row[sides].to_numpy(int), VERDICT_COLOURS[row["verdict"]]
        bars = axes.barh(sides, values, left=left, color=colour, label=row["verdict"], height=0.6)
        axes.bar_label(
            bars,
            [str(value) if value else "" for value in values],
            label_type="center",
            color="white" if row["verdict"] in WHITE_ON else "black",
        )
        left += values
    axes.invert_yaxis()
    axes.set_xlim(0, total)
    axes.set_xlabel("claims")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


SHORT = {
    "dynamic": "int8",
    "fq-vit": "FQ-ViT",
    "lsq-w4": "LSQ, 4 bits",
    "diffq": "DiffQ, ¼ width",
    "deit-base": "DeiT base",
    "deit-tiny": "DeiT tiny",
    "vtp-r0.1": "pruned 0.1",
    "vtp-r0.2": "pruned 0.2",
    "nystrom-m24": "Nyström 24",
    "nystrom-m32": "Nyström 32",
    "nystrom-m64": "Nyström 64",
    "deit-base+dynamic": "DeiT base, int8",
    "teacher": "CNN",
}
"""Names that fit beside a point."""
_AXES = {
    "size": ("file, share of vanilla's", "MiB, as measured"),
    "time": ("CPU time an image, share of vanilla's", "ms an image at batch 64, as measured"),
}


@style.styled
def overview(rows: pd.DataFrame, vanilla: dict[str, float]) -> Figure:
    """For the first page: accuracy lost against bytes and against milliseconds, a panel each.

    rows: `front.points`; vanilla: its `size` in MiB and its `time` in ms, for the second axes. A
    thin line leads from what the papers print (hollow) to what was measured (filled). Accuracy is
    linear within a point of vanilla's and logarithmic beyond.
    """
    figure = style.figure(width=11, height=5.6)
    panels = figure.subplots(1, 2, sharey=True)
    families = list(dict.fromkeys(rows["family"]))
    looks = {name: (FAMILIES[at], COLOURS[at]) for at, name in enumerate(families)}
    for axes, (name, (label, unit)) in zip(panels, _AXES.items(), strict=True):
        axes.axhline(0, color=style.GREY, lw=1)
        axes.axvline(1, color=style.GREY, lw=1)
        for row in rows.itertuples():
            marker, colour = looks[row.family]
            here = getattr(row, name), row.points
            printed = getattr(row, f"{name}_published"), row.points_published
            axes.plot(*zip(here, printed, strict=True), color=colour, lw=0.8, alpha=0.5)
            axes.plot(*printed, marker, mfc="white", mec=colour, ms=8)
            axes.plot(*here, marker, color=colour, ms=8)
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=1, linscale=0.8)
        axes.set_xlabel(label)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
        ticks = [0.02, 0.05, 0.1, 0.2, 0.5, 1] if name == "size" else [0.1, 0.2, 0.5, 1, 2, 3]
        axes.set_xticks(ticks)
        scale = vanilla[name]
        other = axes.secondary_xaxis(
            "top", functions=(lambda x, scale=scale: x * scale, lambda x, scale=scale: x / scale)
        )
        other.set_xlabel(unit)
        other.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        other.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        other.xaxis.set_minor_locator(NullLocator())
    panels[0].set_yticks([2, 1, 0, -1, -3, -10, -30, -50])
    panels[0].yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:+g}" if value else "0")
    )
    panels[0].set_ylabel("accuracy less vanilla's on CIFAR-100, points")
    panels[0].set_ylim(-70, 3)
    handles = [
        Line2D([], [], ls="", marker="o", color=style.GREY, label="measured"),
        Line2D([], [], ls="", marker="o", mfc="white", mec=style.GREY, label="the papers print"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    for axes, name in zip(panels, _AXES, strict=True):
        shown = rows.dropna(subset=[name, "points"])
        labels.place(
            axes,
            shown[[name, "points"]].to_numpy(float),
            np.full(len(shown), 4.0),
            [SHORT.get(key, key) for key in shown["key"]],
            fontsize=9,
        )
    return figure
