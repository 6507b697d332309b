"""Every surveyed model with all four metrics, so that all categories can be ranked together.

The survey prints #Par. and FLOPs for the models at 32 bits, #Bit and Size for the quantized ones.
What it leaves out follows: a model at 32 bits is 4 bytes a parameter; a quantized model has the
parameters and operations of the network that it was made from.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from vitstudy.survey import tables
from vitstudy.survey.audit import ALL, METRICS, network, row_metrics
from vitstudy.survey.eer import VIT_B16, eer, mean_bits, quantities

FULL_PRECISION = 32
BASES = {
    "DeiT-Ti": (4, "DeiT-Ti"),
    "DeiT-S": (4, "DeiT-S"),
    "DeiT-B": (4, "DeiT-B"),
    "Swin-T": (2, "Swin-T"),
    "Swin-S": (2, "Swin-S"),
    "Swin-B": (2, "Swin-B"),
}
"""Where the survey prints #Par. and FLOPs of what Tables 6 and 7 quantize."""
COUNTED = {
    "ViT-T": "vit_tiny_patch16_224",
    "ViT-S": "vit_small_patch16_224",
    "ViT-L": "vit_large_patch16_224",
}
"""What Table 5 quantizes and no table prints: taken from the count."""


def classification(counted: pd.DataFrame | None = None, folder: Path = tables.DATA) -> pd.DataFrame:
    """The rows of Tables 2 to 7, with all four metrics where they can be had.

    Columns `table, row, category, model, weight_bits, activation_bits, bits, size, parameters,
    flops, top1, eer_printed, eer, eer_all`; `eer` averages the category's own metrics, `eer_all`
    all four; percent. `counted` gives ViT-T, -S and -L, which no table prints; without it their
    `eer_all` is NaN.
    """
    bases = _bases(counted, folder)
    rows = []
    for number in METRICS:
        for position, row in enumerate(tables.load(number, folder).to_dict("records"), 1):
            found = {
                "table": number,
                "row": position,
                "category": tables.CATEGORIES[number],
                "model": row["model"],
                "top1": row["top1_percent"],
                "eer_printed": row["eer_percent"],
            }
            if tables.CATEGORIES[number] == "Q":
                parameters, flops = bases.get(network(row["model"]), (math.nan, math.nan))
                weights, activations = row["weight_bits"], row["activation_bits"]
                size = row["size_MB"]
            else:
                parameters, flops = row["parameters_M"], row["flops_G"]
                weights = activations = FULL_PRECISION
                size = parameters * FULL_PRECISION / 8
            found |= {"weight_bits": weights, "activation_bits": activations}
            found |= {"bits": mean_bits(weights, activations), "size": size}
            found |= {"parameters": parameters, "flops": flops}
            metrics = row_metrics(row, METRICS[number])
            found["eer"] = eer(metrics) if metrics else math.nan
            known = {name: found[name] for name in ALL}
            whole = not any(math.isnan(value) for value in known.values())
            found["eer_all"] = eer(quantities(**known)) if whole else math.nan
            rows.append(found)
    columns = [
        *("table", "row", "category", "model", "weight_bits", "activation_bits"),
        *(*ALL, "top1", "eer_printed", "eer", "eer_all"),
    ]
    return pd.DataFrame(rows)[columns]


def _bases(counted: pd.DataFrame | None, folder: Path) -> dict[str, tuple[float, float]]:
    """#Par. (M) and FLOPs (G) of the networks that are quantized."""
    found = {"ViT-B": (VIT_B16["parameters"].value, VIT_B16["flops"].value)}
    for name, (number, model) in BASES.items():
        frame = tables.load(number, folder)
        row = frame[frame["model"] == model].iloc[0]
        found[name] = (row["parameters_M"], row["flops_G"])
    if counted is not None:
        by_name = counted.set_index("timm")
        for name, timm in COUNTED.items():
            if timm in by_name.index:
                row = by_name.loc[timm]
                found[name] = (row["parameters_M"], row["macs_G"])
    return found


def label(row) -> str:
    """A model's name with its bits where it is quantized: `NoisyQuant-PTQ4ViT-Swin-B W6A6`."""
    if row["weight_bits"] == FULL_PRECISION:
        return row["model"]
    return f"{row['model']} W{row['weight_bits']:g}A{row['activation_bits']:g}"
