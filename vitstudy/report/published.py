"""What the papers print, held against itself: pairs of numbers, and of sentences, that disagree."""

from __future__ import annotations

import pandas as pd

from vitstudy.methods import METHODS, Published
from vitstudy.report.tables import FORMATS, PUBLISHED_ON

# -- what the papers print against each other -----------------------------------------------------


def same_shape() -> pd.DataFrame:
    """Published speeds of the rows that are one network: vanilla and DeiT base, both ViT-B/16.

    Their files have one size and their arithmetic is the same but for the last layer.
    """
    rows = [
        {
            "model": method.title,
            "data set": title,
            "GPU, it/s": published.gpu_speed,
            "CPU, it/s": published.cpu_speed,
            "size, MB": published.size,
        }
        for method in METHODS
        if method.key in ("vanilla", "deit-base")
        for title, published in zip(PUBLISHED_ON, method.published, strict=True)
    ]
    return pd.DataFrame(rows)


def contradictions() -> pd.DataFrame:
    """Pairs of published numbers that cannot both hold, or not with what the papers say of them.

    `first` and `second` as printed; `factor` is the second over the first.
    """
    by_key = {method.key: method.published for method in METHODS}
    vanilla, deit, nystrom = by_key["vanilla"], by_key["deit-base"], by_key["nystrom-m64"]
    same = "one network but for the last layer"
    shape = "both are ViT-B/16 in shape and size"
    ways = "slower in one table, faster in the other"
    found = [
        ("cpu_speed", "vanilla in Tables 1 and 2", vanilla, same),
        ("cpu_speed", "DeiT base in Tables 1 and 2", deit, same),
    ]
    for number, base in enumerate(vanilla):
        table, other = f"in Table {number + 1}", deit[number]
        found.append(("cpu_speed", f"vanilla and DeiT base {table}", (base, other), shape))
        found.append(("gpu_speed", f"vanilla and DeiT base {table}", (base, other), shape))
    for number, base in enumerate(vanilla):
        pair, said = (base, by_key["dynamic"][number]), 'the text says "10-20%" faster'
        label = f"vanilla and Dynamic Quantization in Table {number + 1}"
        found.append(("cpu_speed", label, pair, said))
    for number, base in enumerate(vanilla):
        label = f"vanilla and Nyströmformer (m=64) in Table {number + 1}"
        found.append(("gpu_speed", label, (base, nystrom[number]), ways))
    pruned, small = by_key["vtp-r0.2"], by_key["diffq"][0]
    found.append(("size", "ViT-Pruning (r=0.2) in Tables 1 and 2", pruned, "one pruning ratio"))
    bits = 32 * small.size / vanilla[0].size
    why = f"{bits:.2f} bits for each of vanilla's weights, where one bit is the least"
    found.append(("size", "vanilla and DIFFQ with diffq in Table 1", (vanilla[0], small), why))
    return pd.DataFrame([_contradiction(*each) for each in found])


def _contradiction(field: str, label: str, pair: tuple[Published, Published], why: str) -> dict:
    first, second = (getattr(each, field) for each in pair)
    write = FORMATS[f"{field}_published"]
    name = {"cpu_speed": "CPU speed, it/s", "gpu_speed": "GPU speed, it/s", "size": "size, MB"}
    return {
        "published": name[field],
        "of": label,
        "first": write(first),
        "second": write(second),
        "factor": round(second / first, 3),
        "what speaks against it": why,
    }


