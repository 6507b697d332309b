"""The bit-width sweep: accuracy and size of every quantizer at each width, from records."""

from __future__ import annotations

import pandas as pd

from vitstudy.methods import METHODS
from vitstudy.report.evidence import Evidence
from vitstudy.report.published import change, printed

BITS = (8, 7, 6, 5, 4, 3, 2)

FAMILIES = {
    "Plain rounding (weights)": [f"rounded-w{bits}" for bits in BITS],
    "LSQ (weights)": [f"lsq-w{bits}" for bits in BITS],
    "LSQ (weights, activations)": [f"lsq-w{bits}a{bits}" for bits in (4, 3, 2)],
    "FQ-ViT (weights, activations)": ["fq-vit", *(f"fq-vit-w{b}a{b}" for b in BITS[1:])],
    "DiffQ (weights, bits learned)": [
        *("diffq-p0.1", "diffq-p0.3", "diffq-finetuned", "diffq-p3", "diffq-p10"),
    ],
    "Dynamic int8": ["dynamic"],
}
"""Each quantizer's points, from many bits to few; all start from the profile's vanilla model."""


def points(profile: str, which: int) -> pd.DataFrame:
    """The measured points of Table 1's or 2's data set, one row each, in the families' order.

    `family`, `key`, `bits` (of a quantized weight, on average), `accuracy`, `accuracy_change` from
    vanilla in points, `size_share` of vanilla's file in percent, `size_mib`; means over the seeds.
    Without vanilla there are none.
    """
    evidence = Evidence(profile)
    dataset = evidence.dataset(which)

    def means(key: str) -> list[float] | None:
        fields = ("accuracy", "size_mib", "weight_bits")
        found = [evidence.mean(dataset, key, field) for field in fields]
        return None if None in found else found

    base, rows = means("vanilla"), []
    for family, keys in FAMILIES.items():
        for key in keys if base else ():
            if found := means(key):
                accuracy, size, bits = found
                change, share = 100 * (accuracy - base[0]), 100 * size / base[1]
                rows.append((family, key, bits, 100 * accuracy, change, share, size))
    columns = ["family", "key", "bits", "accuracy", "accuracy_change", "size_share", "size_mib"]
    return pd.DataFrame(rows, columns=columns)


def published(which: int) -> pd.DataFrame:
    """The papers' quantized rows that have a size, against their vanilla row, as `points`."""
    whole = printed("vanilla", which).size
    return pd.DataFrame(
        {
            "model": method.title,
            "accuracy_change": change(method.key, which),
            "size_share": 100 * size / whole,
        }
        for method in METHODS
        if method.method.startswith("Quantization")
        and (size := printed(method.key, which).size) is not None
    )


def readable(profile: str, which: int) -> pd.DataFrame:
    """Accuracy by family and bits as text, the change from vanilla in points in brackets."""
    frame = points(profile, which)
    text = [
        f"{row.accuracy:.2f} ({row.accuracy_change:+.2f})" for row in frame.itertuples(index=False)
    ]
    whole = frame.assign(text=text, bits=frame["bits"].round().astype(int))
    # Learned widths may round to the same number: the largest file of them stands for it.
    whole = whole.sort_values("size_mib", ascending=False).drop_duplicates(["family", "bits"])
    wide = whole.pivot(index="family", columns="bits", values="text").reindex(
        [family for family in FAMILIES if family in set(frame["family"])]
    )
    wide = wide[sorted(wide.columns, reverse=True)].fillna("")
    wide.columns = [f"{bits} bits" for bits in wide.columns]
    return wide.rename_axis("Quantizer").reset_index()


def least_bits(frame: pd.DataFrame, loss: float) -> pd.DataFrame:
    """By family, the smallest file that loses at most `loss` points; families without one left out.

    `frame` as `points` has it.
    """
    kept = frame[frame["accuracy_change"].round(6) >= -loss]
    return kept.loc[kept.groupby("family", sort=False)["size_share"].idxmin()]
