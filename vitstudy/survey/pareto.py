"""Fronts in (Top-1, EER): which models no other beats in one without losing in the other.

The survey calls one model of each table, and one of all, the Pareto optimum: a front has many.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vitstudy.survey import models, tables
from vitstudy.survey.audit import ALL, row_metrics
from vitstudy.survey.eer import eer

ON_ALONE, ON, OFF = "on the front, alone", "on the front, not alone", "dominated"


def front(cost: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Which points (N,) are on the front: none costs no more, gains no less and differs.

    A point with a NaN is not on it. Points that are equal in both are on it together.
    """
    cost, gain = np.asarray(cost, float), np.asarray(gain, float)
    known = ~(np.isnan(cost) | np.isnan(gain))
    found = np.zeros(len(cost), bool)
    for each in np.flatnonzero(known):
        no_worse = (cost <= cost[each]) & (gain >= gain[each])
        differs = (cost < cost[each]) | (gain > gain[each])
        found[each] = not np.any(known & no_worse & differs)
    return found


@dataclass(frozen=True)
class Named:
    """A model that the survey names the best trade-off, and among which."""

    scope: str
    section: str
    model: str
    tables: tuple[int, ...]
    bits: tuple[float, float] | None = None
    cost: str = "eer"
    gain: str = "top1"
    decoder: str | None = None


NOISY = "NoisyQuant-PTQ4ViT"
BEST = (
    Named("CA", "4.1", "Castling-MViTv2-T", (2,)),
    Named("P", "4.2", "DynamicViT-LV-S/07", (3,)),
    Named("KD", "4.3", "TinyViT-21M", (4,)),
    Named("Q, ViT", "4.4", f"{NOISY}-ViT-B", (5,), (6, 6)),
    Named("Q, DeiT", "4.4", f"{NOISY}-DeiT-B", (6,), (6, 6)),
    Named("Q, Swin", "4.4", f"{NOISY}-Swin-B", (7,), (6, 6)),
    Named("Q", "4.4", f"{NOISY}-Swin-B", (5, 6, 7), (6, 6)),
    Named("the four of Table 8", "4.5", "Castling-MViTv2-T", (8,)),
    *(
        Named("all of Tables 2-7", "4.5", model, (2, 3, 4, 5, 6, 7), bits, "eer_all")
        for model, bits in (
            ("Castling-MViTv2-T", None),
            ("DynamicViT-LV-S/07", None),
            ("TinyViT-21M", None),
            (f"{NOISY}-Swin-B", (6, 6)),
        )
    ),
    Named("COCO, box AP", "6.3", "MViTv2-T", (9,), gain="ap_box"),
    Named("COCO, mask AP", "6.3", "MViTv2-T", (9,), gain="ap_mask"),
    Named(
        "ADE20K", "6.3", "Ortho-S", (10,), cost="parameters", gain="miou", decoder="Semantic FPN"
    ),
)
"""Of all of Tables 2-7, the four that the survey sends into Table 8, by the EER of all metrics. In
Tables 9 and 10 the cost is the encoder's EER of Table 2, and the parameters."""


def field(named: Named, known: pd.DataFrame, folder: Path = tables.DATA) -> pd.DataFrame:
    """The models that `named` is compared with: `model, gain, printed, recomputed`.

    `known` is `models.classification`. `printed` is the cost as the survey prints it (NaN where it
    does not), `recomputed` as it follows from its inputs.
    """
    if named.tables == (8,):
        frame = tables.load(8, folder)
        computed = [eer(row_metrics(row, ALL)) for row in frame.to_dict("records")]
        return pd.DataFrame(
            {
                "model": frame["model"],
                "weight_bits": frame["weight_bits"],
                "activation_bits": frame["activation_bits"],
                "gain": frame["top1_percent"],
                "printed": frame["eer_all_percent"],
                "recomputed": computed,
            }
        )
    if named.tables == (9,):
        frame = tables.load(9, folder)
        # Table 9 calls it XCiT-T12/16, Table 2 XCit-T12/16 (SimA).
        names = frame["encoder"].replace({"XCiT-T12/16→SimA": "XCit-T12/16 (SimA)"})
        known = known[known["table"] == 2].set_index("model").reindex(names)
        return pd.DataFrame(
            {
                "model": frame["encoder"],
                "gain": frame[named.gain],
                "printed": known["eer_printed"].to_numpy(),
                "recomputed": known["eer"].to_numpy(),
            }
        )
    if named.tables == (10,):
        frame = tables.load(10, folder)
        cost = frame["parameters_M"]
        titles = frame["encoder"] + ", " + frame["decoder"]
        return pd.DataFrame(
            {"model": titles, "gain": frame["miou_percent"], "printed": cost, "recomputed": cost}
        )
    known = known[known["table"].isin(named.tables)].reset_index(drop=True)
    return pd.DataFrame(
        {
            "model": known["model"],
            "weight_bits": known["weight_bits"],
            "activation_bits": known["activation_bits"],
            "gain": known["top1"],
            "printed": known["eer_printed"] if named.cost == "eer" else np.nan,
            "recomputed": known[named.cost],
        }
    )


def position(named: Named, frame: pd.DataFrame) -> int:
    """Where the model that the survey names stands in `field`."""
    title = f"{named.model}, {named.decoder}" if named.decoder else named.model
    fits = frame["model"] == title
    if named.bits:
        fits &= (frame["weight_bits"] == named.bits[0]) & (
            frame["activation_bits"] == named.bits[1]
        )
    return int(np.flatnonzero(fits)[0])


def verdict(named: Named, frame: pd.DataFrame, cost: str) -> tuple[str, list[str]]:
    """Whether the named model is on the front of `cost`, alone or not; the others on it, or those
    that beat it."""
    place = position(named, frame)
    on = front(frame[cost], frame["gain"])
    if on[place]:
        others = [name for each, name in enumerate(_titles(frame)) if on[each] and each != place]
        return (ON if others else ON_ALONE), others
    mine = frame.iloc[place]
    better = (frame[cost] <= mine[cost]) & (frame["gain"] >= mine["gain"])
    better &= (frame[cost] < mine[cost]) | (frame["gain"] > mine["gain"])
    return OFF, [name for name, beats in zip(_titles(frame), better, strict=True) if beats]


def _titles(frame: pd.DataFrame) -> list[str]:
    if "weight_bits" not in frame:
        return list(frame["model"])
    return [models.label(row) for row in frame.to_dict("records")]


def best_tradeoffs(counted: pd.DataFrame | None = None, folder: Path = tables.DATA) -> pd.DataFrame:
    """Each best trade-off that the survey names, against the front with printed and computed cost.

    Columns `section, among, model, models, printed EER, recomputed EER, others`: the last are those
    that share the recomputed front, or that dominate the model. A printed cost that is not there
    for all is not judged.
    """
    rows, known = [], models.classification(counted, folder)
    for named in BEST:
        frame = field(named, known, folder)
        recomputed, others = verdict(named, frame, "recomputed")
        missing = frame["printed"].isna().all()
        rows.append(
            {
                "section": named.section,
                "among": named.scope,
                "model": named.model + (f", {named.decoder}" if named.decoder else ""),
                "models": int(frame["recomputed"].notna().sum()),
                "printed EER": "" if missing else verdict(named, frame, "printed")[0],
                "recomputed EER": recomputed,
                "others": "; ".join(others),
            }
        )
    return pd.DataFrame(rows)
