"""The whole field ranked by a weighted EER under limits, for an engineer who has some."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from vitstudy.errors import UserError, unknown
from vitstudy.survey import counted, models, pareto, tables
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
    counts: pd.DataFrame | None = None,
    latency: Mapping[str, float] | None = None,
    folder: Path = tables.DATA,
) -> pd.DataFrame:
    """Every model of Tables 2 to 7 under the name `label` has, once, best category first.

    `latency` by model, ms, adds a column of that name, NaN where it was not measured.
    """
    known = models.classification(counts, folder)
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


def _pairs(options: tuple[str, ...]) -> dict[str, float]:
    """`NAME=VALUE` texts as a dict; UserError where one is something else."""
    found = {}
    for text in options:
        name, sign, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            sign = ""
        if not sign:
            raise UserError(f"{text!r} is no NAME=VALUE; valid names: {', '.join(UNITS)}")
    return found


def measured_latency(counts: pd.DataFrame, speed: dict | None) -> dict[str, float] | None:
    """Latency in ms by surveyed model, of the same networks alone; None where nothing was timed."""
    if speed is None:
        return None
    timed = counted.with_latency(counts[counts["relation"] == counted.SAME], speed)
    return {
        model: row["latency_ms"]
        for row in timed.to_dict("records")
        for model in row["models"].split("; ")
    }


def from_options(weights=(), references_=(), limits=(), least_top1: float = 0.0) -> pd.DataFrame:
    """`rank` of the whole field by texts `NAME=VALUE`, as the command line gives them."""
    counts, speed = counted.read(), counted.read_speed()
    known = field(counts, measured_latency(counts, speed))
    changed = _pairs(references_)
    if speed:
        own = speed["models"][counted.REFERENCE]["latency_ms_p50"]
        changed = {"latency": own, **changed}
    shares = _pairs(weights) or EQUAL
    return rank(known, shares, references(changed), _pairs(limits), least_top1)


def as_text(ranked: pd.DataFrame) -> pd.DataFrame:
    """A ranking under headings for a reader."""
    shown = pd.DataFrame({"Model": ranked["model"], "Category": ranked["category"]})
    shown["Top-1, %"] = ranked["top1"].map("{:.1f}".format)
    shown["EER, %"] = ranked["eer"].map("{:.1f}".format)
    shown["On the front"] = ["yes" if each else "" for each in ranked["front"]]
    for name, heading in HEADINGS.items():
        if name in ranked:
            shown[heading] = ["" if math.isnan(v) else f"{v:.4g}" for v in ranked[name]]
    return shown


HEADINGS = {
    "parameters": "#Par., M",
    "flops": "FLOPs, G",
    "bits": "#Bit",
    "size": "Size, MB",
    "latency": "Latency, ms",
}
