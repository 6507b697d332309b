"""The figures of notebook 04: soft targets, the two directions, the students."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from vitstudy import data
from vitstudy.distillation.soft import soft_targets
from vitstudy.report import style

LIKELIEST = 5


@style.styled
def targets(
    images: np.ndarray, logits: np.ndarray, labels: np.ndarray, names: list[str], temperature: float
) -> Figure:
    """Images (K, C, 32, 32) of bytes over their five likeliest classes at a temperature.

    logits (K, num_classes), labels (K,); the label's bar is drawn in another colour.
    """
    figure = style.figure(height=3.9)
    axes = figure.subplots(2, len(images), height_ratios=(3, 4), sharey="row", squeeze=False)
    columns = zip(axes.T, images, logits, labels, strict=True)
    for (top, bottom), image, found, label in columns:
        top.imshow(image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
        top.set_title(f"label: {names[label]}")
        top.axis("off")
        p = soft_targets(torch.from_numpy(found).float()[None], temperature)[0].numpy()
        order = np.argsort(-p, kind="stable")[:LIKELIEST]
        colours = [style.PALETTE[2] if each == label else style.MEASURED for each in order]
        bars = bottom.bar(range(len(order)), 100 * p[order], color=colours)
        bottom.bar_label(bars, [f"{100 * each:.0f}" for each in p[order]], fontsize=8)
        short = [names[each] if len(names[each]) < 6 else f"{names[each][:5]}." for each in order]
        rotation = 45 if max(map(len, short)) > 2 else 0
        bottom.set_xticks(range(len(order)), short, fontsize=9, rotation=rotation)
        bottom.grid(axis="x", visible=False)
    axes[1, 0].set(ylabel="soft target, %", ylim=(0, 112))
    title = f"the teacher's likeliest classes at τ = {temperature:g}; green: the label"
    figure.suptitle(title, fontsize=12)
    return figure


@style.styled
def softness(found: dict[str, pd.DataFrame]) -> Figure:
    """Probability of the likeliest class and entropy against the temperature, by data set."""
    figure = style.figure(height=3.2)
    left, right = figure.subplots(1, 2)
    for number, (title, frame) in enumerate(found.items()):
        look = {"marker": "os^D"[number % 4], "label": title, "ms": 5}
        left.plot(frame["temperature"], 100 * frame["top"], **look)
        right.plot(frame["temperature"], 100 * frame["entropy"], **look)
    left.set(ylabel="likeliest class, mean %", ylim=(0, 103))
    right.set(ylabel="entropy, % of knowing nothing", ylim=(0, 103))
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks([0.5, 1, 2, 4, 8, 16])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("temperature τ")
    left.legend()
    return figure


@style.styled
def directions(frame: pd.DataFrame, teacher: float) -> Figure:
    """Both divergences of two classes against the student's probability of the first."""
    figure, axes = style.axes(width=6.4, height=3.2)
    axes.plot(frame["student"], frame["as printed"], label="KL(student ‖ teacher), as printed")
    axes.plot(frame["student"], frame["usual"], "--", label="KL(teacher ‖ student), usual")
    axes.axvline(teacher, color=style.GREY, lw=1, ls=":")
    axes.annotate(
        "teacher", (teacher, 3.3), (-4, 0), textcoords="offset points", ha="right", fontsize=10
    )
    axes.set(xlabel="the student's probability of the class", ylabel="divergence, nats")
    axes.set(xlim=(0, 1), ylim=(0, 3.6))
    axes.legend(loc="upper center")
    return figure


@style.styled
def students(found: pd.DataFrame, order: list[str]) -> Figure:
    """Test accuracy of every student with its 95 % interval, percent; rows of `compare`.

    `order` of the values of `taught`, from the top; the dashed line is vanilla's accuracy.
    """
    datasets = list(dict.fromkeys(found["dataset"]))
    names = [name for name in order if name in set(found["taught"])]
    figure, panels = style.row(len(datasets), 0.42 * len(names) + 1.3)
    for axes, dataset in zip(panels, datasets, strict=True):
        part = found[found["dataset"] == dataset]
        for row in part.itertuples():
            colour = style.GREY if row.key == "teacher" else style.MEASURED
            place = names.index(row.taught)
            style.intervals(axes, row.accuracy, place, row.low, row.high, color=colour)
        vanilla = part.loc[part["key"] == "vanilla", "accuracy"]
        axes.axvline(vanilla.iloc[0], color=style.GREY, lw=1, ls="--")
        axes.set_title(data.spec(dataset).title)
        axes.set_xlabel("test accuracy, %; bars: 95 %")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    return figure
