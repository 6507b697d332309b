"""What the survey's claims may name: cells of its tables, columns that follow, and counts of rows.

A cell is told by its table, its model and its column, and, where a model has several rows, by the
row's variant: its bits (`W6A6`) or its decoder. The tables' own columns keep their names, except
that an encoder is called `model` and a decoder `variant` everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitstudy.errors import UserError, unknown
from vitstudy.survey import models, pareto, tables
from vitstudy.survey.audit import ALL, COST, network, row_metrics
from vitstudy.survey.eer import VIT_B16, eer
from vitstudy.survey.judging import Cell

QUANTIZED = (5, 6, 7)
NAMED_TABLES = ("quantized", "known")
NAMES = {"encoder": "model", "decoder": "variant"}


class Missing(Exception):
    """A quantity that the tables do not give, with the reason: the claim cannot be checked."""


class Tables:
    """The survey's tables with the columns that follow from them, and what was counted.

    `frames` has them by number; besides, `quantized` has the rows of Tables 5 to 7, and `known` all
    models with all metrics (`models.classification`).
    """

    def __init__(self, folder: Path = tables.DATA, counted: pd.DataFrame | None = None) -> None:
        self.folder, self.counted = folder, counted
        self.text = {
            number: tables.printed(number, folder).rename(columns=NAMES)
            for number in tables.NUMBERS
        }
        self.frames: dict[int | str, pd.DataFrame] = {
            number: _with_columns(number, tables.load(number, folder).rename(columns=NAMES))
            for number in tables.NUMBERS
        }
        quantized = [self.frames[number].assign(table=number) for number in QUANTIZED]
        self.frames["quantized"] = pd.concat(quantized, ignore_index=True)
        self.known = models.classification(counted, folder)
        self.frames["known"] = self.known.assign(
            label=_each_row(self.known, models.label),
            eer_highest=self.known[["eer_printed", "eer"]].max(axis=1),
        )

    def rows(self, table: int | str) -> pd.DataFrame:
        """A table by its number or name. Raises UserError where it is unknown."""
        if table not in self.frames:
            raise unknown("table", str(table), self.frames)
        return self.frames[table]

    def column(self, table: int | str, column: str) -> pd.Series:
        """A column of a table. Raises UserError where it is unknown."""
        frame = self.rows(table)
        if column not in frame:
            raise unknown(f"column of table {table}", column, frame.columns)
        return frame[column]

    def place(self, table: int | str, model: str, variant: str = "") -> int:
        """Where a model stands in a table, first of several. Raises UserError where it does not."""
        fits = self.column(table, "model") == model
        if variant:
            fits &= self.column(table, "variant") == variant
        if not fits.any():
            raise UserError(f"table {table} has no row {f'{model} {variant}'.strip()!r}")
        return int(np.flatnonzero(fits)[0])

    def cell(self, table: int | str, model: str, column: str, variant: str = "") -> Cell:
        """A cell, with half a unit of its last digit where the survey prints it.

        Raises UserError as `place` and `column`, and Missing where the cell is empty.
        """
        place = self.place(table, model, variant)
        value = self.column(table, column).iloc[place]
        if pd.isna(value):
            raise Missing(f"Table {table} has no {column} of {f'{model} {variant}'.strip()}")
        if table in self.text and column in self.text[table]:
            return Cell(value, tables.half_unit(self.text[table][column].iloc[place]))
        return Cell(value, 0.0)


def _with_columns(number: int, frame: pd.DataFrame) -> pd.DataFrame:
    """Table `number` with the columns that follow from it."""
    if number in tables.CATEGORIES:
        frame["network"] = frame["model"].map(network)
        frame["on_front"] = pareto.front(frame["eer_percent"], frame["top1_percent"])
    if number in QUANTIZED:
        frame["family"] = frame["network"].str.partition("-")[0]
        frame["label"] = _each_row(frame, models.label)
        frame["variant"] = [
            label.removeprefix(f"{model} ")
            for label, model in zip(frame["label"], frame["model"], strict=True)
        ]
    elif number in tables.CATEGORIES:
        frame["eer_recomputed"] = _each_row(frame, lambda row: _eer(row, COST))
    if number == 8:
        frame["eer_all_recomputed"] = _each_row(frame, lambda row: _eer(row, ALL))
        frame["size_is_weights"] = _each_row(frame, _size_is_weights)
    return frame


def _each_row(frame: pd.DataFrame, value: Callable[[dict], Any]) -> list:
    return [value(row) for row in frame.to_dict("records")]


def _eer(row: dict, names: tuple[str, ...]) -> float:
    """The EER that follows from the metrics `names` of a row; NaN where one is not printed."""
    metrics = row_metrics(row, names)
    return eer(metrics) if metrics else math.nan


def _size_is_weights(row: dict) -> bool:
    """Whether a row's size is that of its parameters at W bits, in 10^6 bytes, within rounding."""
    taken = row["weight_bits"] / 8
    return abs(row["size_MB"] - row["parameters_M"] * taken) <= 0.05 + 0.05 * taken


# -- quantities that no cell is -------------------------------------------------------------------


def cells(t: Tables, table: int | str, model: list[str], column: list[str], variant="") -> list:
    """The values of columns of models, those of one model together."""
    return [t.cell(table, each, name, variant).value for each in model for name in column]


def reference(t: Tables, metric: str) -> float:
    """A metric of the survey's reference, ViT-B/16, as it is printed."""
    return VIT_B16[metric].value


def counted(t: Tables, timm: str, column: str) -> float:
    """What was counted of one of timm's networks. Raises Missing where nothing was counted."""
    if t.counted is None:
        raise Missing("nothing was counted: python -m vitstudy survey --count")
    return t.counted.set_index("timm").loc[timm, column]


def full_and_quantized(t: Tables) -> pd.DataFrame:
    """The networks of Table 7: Top-1 at full precision (Table 2), and the highest quantized."""
    highest = t.frames[7].groupby("network")["top1_percent"].max()
    full = [t.cell(2, name, "top1_percent").value for name in highest.index]
    return pd.DataFrame({"model": highest.index, "full": full, "quantized": highest.to_numpy()})


def pruned(t: Tables) -> pd.DataFrame:
    """The rows of Table 3 made from DeiT or Swin, and whether #Par. and FLOPs are the network's."""
    rows = []
    for row in t.frames[3].to_dict("records"):
        if row["network"] in models.BASES:
            base = models.BASES[row["network"]]
            same = row["parameters_M"] == t.cell(*base, "parameters_M").value
            fewer = row["flops_G"] < t.cell(*base, "flops_G").value
            rows.append({"same_parameters": same, "fewer_flops": fewer})
    return pd.DataFrame(rows)


def points_lost(t: Tables, family: str, networks: list[str], more: str, less: str) -> pd.DataFrame:
    """Points of Top-1 that a quantizer loses on each network from the bits `more` to `less`."""
    lost = [
        t.cell("quantized", f"{family}-{name}", "top1_percent", more).value
        - t.cell("quantized", f"{family}-{name}", "top1_percent", less).value
        for name in networks
    ]
    return pd.DataFrame({"network": networks, "lost": lost})


def gains(t: Tables, first: str, second: str) -> list[float]:
    """Points of Top-1 of one quantizer more than another, of each network and bits of both."""
    frame = t.frames["quantized"]
    top1 = {row["label"]: row["top1_percent"] for row in frame.to_dict("records")}
    found = [
        top1.get(label.replace(second, first), math.nan) - value
        for label, value in top1.items()
        if label.startswith(second)
    ]
    return [gain for gain in found if not math.isnan(gain)]


def size_follows_weights(t: Tables) -> list[bool]:
    """For each row with W ≠ A, whether it has the size of its network at W bits everywhere.

    The size at W bits is that of the same network in a row with W = A.
    """
    mixed, plain = _mixed_and_plain(t)
    size = {(row["network"], row["weight_bits"]): row["size_MB"] for row in plain}
    return [row["size_MB"] == size[row["network"], row["weight_bits"]] for row in mixed]


def size_falls(t: Tables) -> bool:
    """Whether fewer bits are a smaller size for every network, in the rows with W = A."""
    _, plain = _mixed_and_plain(t)
    for _, rows in pd.DataFrame(plain).groupby(["table", "network"]):
        sizes = rows.groupby("weight_bits")["size_MB"].agg(["min", "max"])
        if not (sizes["max"].to_numpy()[:-1] < sizes["min"].to_numpy()[1:]).all():
            return False
    return True


def _mixed_and_plain(t: Tables) -> tuple[list[dict], list[dict]]:
    """The rows of Tables 5 to 7 whose W and A differ, and those whose do not."""
    rows = t.frames["quantized"].to_dict("records")
    is_mixed = [row["weight_bits"] != row["activation_bits"] for row in rows]
    mixed = [row for row, differs in zip(rows, is_mixed, strict=True) if differs]
    return mixed, [row for row, differs in zip(rows, is_mixed, strict=True) if not differs]


def won(t: Tables, model: str) -> list[bool]:
    """For each metric of Table 8, whether a model has the best value of the four."""
    best = {"top1_percent": "max"} | dict.fromkeys(
        ("weight_bits", "size_MB", "parameters_M", "flops_G"), "min"
    )
    best |= dict.fromkeys(("eer_category_percent", "eer_all_percent"), "min")
    return [
        t.cell(8, model, column).value == getattr(t.frames[8][column], which)()
        for column, which in best.items()
    ]


FUNCTIONS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        *(cells, reference, counted, full_and_quantized, pruned, points_lost, gains),
        *(size_follows_weights, size_falls, won),
    )
}
"""The quantities by name; each takes the tables and what the claim gives it."""
