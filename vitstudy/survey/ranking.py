"""The whole field ranked by a weighted EER under limits, for an engineer who has some."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from vitstudy.errors import UserError, unknown
from vitstudy.survey import models, pareto, tables
from vitstudy.survey.audit import ALL
from vitstudy.survey.eer import UNITS, VIT_B16, Quantity, balanced, quantities, weighted_eer

EQUAL = dict.fromkeys(ALL, 1.0)


def references(changed: Mapping[str, float]) -> dict[str, Quantity]:
    """The survey's reference with some values `changed`; UserError for another metric."""
    for name in changed:
        if name not in UNITS:
            raise unknown("metric", name, UNITS)
    return {**VIT_B16, **quantities(**changed)}


def field(
    counted: pd.DataFrame | None = None,
    latency: Mapping[str, float] | None = None,
    folder: Path = tables.DATA,
) -> pd.DataFrame:
    """Every model of Tables 2 to 7 under the name `label` has, once, best category first.

    `latency` by model, ms, adds a column of that name, NaN where it was not measured.
    """
    known = models.classification(counted, folder)
    known = known.drop_duplicates(["model", "weight_bits", "activation_bits"])
    known = known.assign(label=[models.label(row) for row in known.to_dict("records")])
    if latency is not None:
        of = [
            latency.get(row["model"], math.nan) if row["category"] != "Q" else math.nan
            for row in known.to_dict("records")
        ]
        known = known.assign(latency=of)
    return known.reset_index(drop=True)


def rank(
    known: pd.DataFrame,
    weights: Mapping[str, float] = EQUAL,
    reference: Mapping[str, Quantity] = VIT_B16,
    limits: Mapping[str, float] | None = None,
    least_top1: float = 0.0,
) -> pd.DataFrame:
    """The models of `field` that keep the `limits`, by weighted EER, least first.

    `weights` need not sum to one: they are shares. `limits` are greatest values, in the study's
    units. A model without a value that is weighed or limited is left out. Columns `model, category,
    top1, eer, front` and the metrics; `front` says whether no model left is better in both. Raises
    UserError for an unknown metric, a bad weight, limit or reference.
    """
    limits = limits or {}
    for name in (*weights, *limits):
        if name not in UNITS:
            raise unknown("metric", name, UNITS)
        if name not in known:
            raise UserError(
                f"nothing is known of {name}; measure it with 'python -m vitstudy survey --speed'"
            )
    for name, limit in limits.items():
        if not limit > 0:
            raise UserError(f"the limit of {name} is {limit:g}; it must be a positive number")
    if not 0 <= least_top1 <= 100:
        raise UserError(f"a Top-1 of at least {least_top1:g} is asked for; valid: 0 to 100 percent")
    shares = balanced(weights)
    chosen = known.dropna(subset=[*shares, *limits, "top1"])
    for name, limit in limits.items():
        chosen = chosen[chosen[name] <= limit]
    chosen = chosen[chosen["top1"] >= least_top1]
    values = [
        weighted_eer(quantities(**{name: row[name] for name in shares}), shares, reference)
        for row in chosen.to_dict("records")
    ]
    metrics = [name for name in UNITS if name in known]
    chosen = chosen.assign(eer=values, front=pareto.front(values, chosen["top1"]))
    chosen = chosen.sort_values(["eer", "top1"], ascending=[True, False], kind="stable")
    columns = ["label", "category", "top1", "eer", "front", *metrics]
    return chosen[columns].rename(columns={"label": "model"}).reset_index(drop=True)
