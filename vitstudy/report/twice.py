"""Is DeiT base twice as fast as the ViT of its own shape? The papers' speeds, and ours, of one
network: DeiT base is vanilla with one token and one small head more.
"""

from __future__ import annotations

import pandas as pd

from vitstudy import data, profiles, speed
from vitstudy.report import published
from vitstudy.report.evidence import Evidence
from vitstudy.report.measured import VANILLA, Measured

STUDENT = "deit-base"
DEVICES = {"GPU": ("gpu_speed", "cuda"), "CPU": ("cpu_speed", "cpu")}


def ratios(profile: str) -> pd.DataFrame:
    """Speed of DeiT base over vanilla, published and measured, beside what its arithmetic allows.

    `low` and `high` are the quartiles of the interleaved turns, NaN for the published ones, of
    which nothing is known; `arithmetic` is vanilla's multiply-accumulates over DeiT base's. What is
    not measured is NaN with the reason in `note`.
    """
    rows, measured = [], Measured(profile)
    architecture = profiles.get("paper").architecture
    for which, title in enumerate(published.PUBLISHED_ON, 1):
        for device, (field, _) in DEVICES.items():
            first, second = (
                getattr(published.printed(key, which), field) for key in (STUDENT, VANILLA)
            )
            allowed = 1 / published.one_token_more(architecture)
            source = f"published, {title}, {device}"
            rows.append({"source": source, "ratio": first / second, "arithmetic": allowed})
    for which, dataset in enumerate(measured.profile.datasets, 1):
        allowed = measured.ratio(VANILLA, STUDENT, "macs", which)
        for device, (_, name) in DEVICES.items():
            row = {"source": f"measured, {data.spec(dataset).title}, {device}"}
            found = measured.speed(STUDENT, VANILLA, name, which)
            if isinstance(found, str):
                row["note"] = str(found)
            else:
                row |= {"ratio": found.value, "low": found.low, "high": found.high}
                row["arithmetic"] = None if isinstance(allowed, str) else allowed.value
            rows.append(row)
    columns = ["source", "ratio", "low", "high", "arithmetic", "note"]
    return pd.DataFrame(rows, columns=columns)


def scatter(profile: str) -> pd.DataFrame:
    """How far absolute speeds of the very same network lie apart, in iterations per second.

    Published: vanilla in Tables 1 and 2. Measured: vanilla in every interleaved run of the profile,
    on either data set. `factor` is the fastest over the slowest.
    """
    evidence, rows = Evidence(profile), []
    for device, (field, name) in DEVICES.items():
        printed = [getattr(published.printed(VANILLA, which), field) for which in (1, 2)]
        rows.append(_spread(f"published, {device}", printed))
        timed = [
            found["iterations_per_second"]
            for dataset in evidence.datasets
            for found in speed.every(evidence.cell(dataset, VANILLA), name)
        ]
        rows.append(_spread(f"measured, {device}", timed))
    return pd.DataFrame(rows)


def _spread(source: str, speeds: list[float]) -> dict:
    low, high = (min(speeds), max(speeds)) if speeds else (None, None)
    return {
        "source": source,
        "times measured": len(speeds),
        "slowest, it/s": low,
        "fastest, it/s": high,
        "factor": high / low if speeds else None,
    }
