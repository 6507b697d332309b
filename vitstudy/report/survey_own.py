"""The study's own rows in the survey's EER, against the profile's vanilla ViT, from records."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from vitstudy import profiles, speed
from vitstudy.methods import METHODS, VARIANTS
from vitstudy.report.evidence import Evidence
from vitstudy.report.readable import table
from vitstudy.survey import audit
from vitstudy.survey.eer import UNITS, eer, mean_bits, quantities

COLUMNS = ["key", "model", "accuracy", "two", "four", "five", "note"]


def rows(profile: str, which: int) -> pd.DataFrame:
    """EER of the rows of Table 1 or 2, and beneath them, that have a record, against vanilla.

    Columns `key, model, accuracy` (percent, mean over the seeds), `two` (parameters and MACs),
    `four` (bits and file size as well), `five` (latency at batch 1 as well; NaN where there is
    none), `note`. Without a record of vanilla there is nothing to hold them against: no rows.
    """
    evidence = Evidence(profile)
    dataset = evidence.dataset(which)
    base = _costs(evidence, dataset, "vanilla")
    if base is None:
        return pd.DataFrame(columns=COLUMNS)
    reference, found = {name: value for name, value in base.items() if name in UNITS}, []
    for method in (*METHODS, *VARIANTS):
        costs = _costs(evidence, dataset, method.key)
        if costs is None:
            continue
        row = {"key": method.key, "model": method.title, "accuracy": costs["accuracy"]}
        for name, metrics in (("two", audit.COST), ("four", audit.ALL)):
            row[name] = _eer(costs, reference, metrics)
        latency = _latency(evidence, dataset, method.key)
        row["five"], row["note"] = math.nan, ""
        if latency:
            pairs = zip((costs, reference), latency, strict=True)
            timed = [{**each, "latency": milliseconds} for each, milliseconds in pairs]
            row["five"] = _eer(*timed, (*audit.ALL, "latency"))
        else:
            row["note"] = "simulated: no latency" if costs["simulated"] else "latency not measured"
        found.append(row)
    return pd.DataFrame(found, columns=COLUMNS)


def _costs(evidence: Evidence, dataset: str, key: str) -> dict | None:
    """Means over the seeds with a record: accuracy, percent, and the four metrics; else None."""
    done = list(evidence.records(dataset, key).values())
    if not done:
        return None
    return {
        "accuracy": 100 * np.mean([record.accuracy for record in done]),
        "simulated": any(record.simulated for record in done),
        "parameters": np.mean([record.parameters for record in done]) / 1e6,
        "flops": np.mean([record.macs for record in done]) / 1e9,
        "bits": np.mean([mean_bits(each.weight_bits, each.activation_bits) for each in done]),
        "size": np.mean([record.size_bytes for record in done]) / 1e6,
    }


def _eer(costs: dict, reference: dict, names: tuple[str, ...]) -> float:
    metrics = quantities(**{name: costs[name] for name in names})
    return eer(metrics, quantities(**{name: reference[name] for name in names}))


def _latency(evidence: Evidence, dataset: str, key: str) -> tuple[float, float] | None:
    """Milliseconds at batch 1 of a row's first seed and of vanilla's, in one run on the CPU."""
    own, vanilla = (speed.every(evidence.cell(dataset, each)) for each in (key, "vanilla"))
    for found in reversed(own):
        for beside in vanilla:
            if beside["started"] == found["started"]:
                return found["latency_ms_p50"], beside["latency_ms_p50"]
    return None


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """`rows` as text under headings for a reader."""
    columns = {
        "Model": "model",
        "Accuracy, %": ("accuracy", "{:.2f}"),
        "EER: #Par., MACs": ("two", "{:.1f}"),
        "EER: and #Bit, file": ("four", "{:.1f}"),
        "EER: and latency": ("five", "{:.1f}"),
        "Note": "note",
    }
    return table(frame, columns)


def conclusion(profile: str, found: dict[int, pd.DataFrame]) -> str:
    """What `rows` of both tables say, as Markdown."""
    known, lines = profiles.get(profile), []
    for which, frame in found.items():
        others = frame[frame["key"] != "vanilla"]
        if others.empty:
            said = "nothing but vanilla" if len(frame) else "not even vanilla"
            lines.append(f"- Table {which}: {said} has a record on `{profile}`.")
            continue
        vanilla = frame.loc[frame["key"] == "vanilla", "accuracy"].iloc[0]
        near = others[others["accuracy"] >= vanilla - 1]
        line = (
            f"- On {known.datasets[which - 1]} of `{profile}`, {len(near)} of {len(others)} rows "
            "lose at most a point of vanilla's accuracy"
        )
        if len(near):
            best = near.loc[near["four"].idxmin()]
            line += (
                f"; of those {best.model} has the least EER of four metrics, {best.four:.1f} "
                f"({best.two:.1f} of #Par. and MACs alone)"
            )
        lines.append(line + ".")
    return "\n".join(lines)
