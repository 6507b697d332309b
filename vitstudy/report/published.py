"""What the papers print, held against itself: pairs of numbers, and of statements, that disagree.

A: Zheng and Li; B: Chen, Xie, Li and Ren; C: Chen, Luo, Zhou, Pan and Jiang. The three print the
same two tables, so one pair of numbers stands for all three.
"""

from __future__ import annotations

import pandas as pd

from vitstudy import profiles
from vitstudy.methods import METHODS, Published
from vitstudy.profiles import Architecture
from vitstudy.report.tables import FORMATS, PUBLISHED_ON

BITS = 32
"""Of a parameter in vanilla's file."""


def printed(key: str, which: int) -> Published:
    """The row `key` of Table 1 or 2, as printed; raises KeyError where the papers have none."""
    return {method.key: method.published for method in METHODS}[key][which - 1]


def parameters(which: int) -> float:
    """Parameters of the papers' vanilla model, by its printed size: 32 bits each, 2^20 bytes a MB.

    The papers count in MB of 2^20 bytes: 327 of them are the 85.8 million floats of a ViT-B/16.
    """
    return printed("vanilla", which).size * 2**20 / (BITS // 8)


def tokens(architecture: Architecture) -> int:
    """Patches and the class token."""
    return (architecture.image_size // architecture.patch_size) ** 2 + 1


def attention_share(architecture: Architecture, num_classes: int, channels: int) -> float:
    """Share of a ViT's multiply-accumulates that grows as the square of the tokens, 0..1.

    Those of the two products QKᵀ and of the attention with V: 2 n² d in each block.
    """
    from vitstudy import measure

    products = 2 * tokens(architecture) ** 2 * architecture.width * architecture.depth
    return products / measure.vit_macs(architecture, num_classes, channels)


def one_token_more(architecture: Architecture) -> float:
    """Multiply-accumulates of the blocks with a distillation token, over those without it."""
    width = architecture.width
    linear = 4 * width**2 + 2 * width * round(width * architecture.mlp_ratio)

    def block(count: int) -> int:
        return count * linear + 2 * count**2 * width

    return block(tokens(architecture) + 1) / block(tokens(architecture))


# -- numbers --------------------------------------------------------------------------------------


def same_shape() -> pd.DataFrame:
    """Published speeds of the rows that are one network: vanilla and DeiT base, both ViT-B/16.

    Their files have one size; DeiT base has one token and one small head more.
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
    titles = {method.key: method.title for method in METHODS}
    same = "one network but for the last layer"
    macs = one_token_more(profiles.get("paper").architecture)
    shape = f"both are ViT-B/16 in shape and size; one token more is {macs - 1:.1%} more arithmetic"
    found = []

    def between_tables(field: str, key: str, why: str) -> None:
        found.append((field, f"{titles[key]} in Tables 1 and 2", by_key[key], why))

    def in_a_table(field: str, first: str, second: str, which: int, why: str) -> None:
        pair = (by_key[first][which - 1], by_key[second][which - 1])
        found.append((field, f"{titles[first]} and {titles[second]} in Table {which}", pair, why))

    between_tables("cpu_speed", "vanilla", same)
    between_tables("cpu_speed", "deit-base", same)
    between_tables("cpu_speed", "dynamic", same)
    between_tables("cpu_speed", "deit-base+dynamic", same)
    for which in (1, 2):
        in_a_table("cpu_speed", "vanilla", "deit-base", which, shape)
        in_a_table("gpu_speed", "vanilla", "deit-base", which, shape)
    for which in (1, 2):
        in_a_table("cpu_speed", "vanilla", "dynamic", which, "the text says 10 to 20 % faster")
    for which in (1, 2):
        ways = "slower in one table, faster in the other"
        in_a_table("gpu_speed", "vanilla", "nystrom-m64", which, ways)
    for which in (1, 2):
        why = "both learn few bits and compute in float: one is slowed down, the other sped up"
        in_a_table("gpu_speed", "lsq-w4", "diffq", which, why)
    heads = f"one pruning ratio; {_head_mib():.2f} MB is what 90 more classes take"
    between_tables("size", "vtp-r0.2", heads)
    for key, ratio in (("vtp-r0.1", 0.1), ("vtp-r0.2", 0.2)):
        for which in (1, 2):
            gone = 1 - by_key[key][which - 1].size / by_key["vanilla"][which - 1].size
            why = f"{gone:.1%} of the file is gone, where r = {ratio:g} of the parameters are to go"
            in_a_table("size", "vanilla", key, which, why)
    bits = BITS * by_key["diffq"][0].size / by_key["vanilla"][0].size
    why = f"{bits:.2f} bits for each of vanilla's weights, where one bit is the least"
    in_a_table("size", "vanilla", "diffq", 1, why)
    return pd.DataFrame([_contradiction(*each) for each in found])


def _head_mib() -> float:
    """What the last layer of ViT-B/16 takes more for 100 classes than for 10, MiB."""
    return 90 * (profiles.get("paper").architecture.width + 1) * (BITS // 8) / 2**20


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


# -- statements -----------------------------------------------------------------------------------


def disagreements() -> pd.DataFrame:
    """Statements of the papers that do not go together, in our words, and what numbers say."""
    architecture = profiles.get("paper").architecture
    share = attention_share(architecture, 10, 3)
    ratios = {
        key: [
            getattr(printed(key, which), field) / getattr(printed("vanilla", which), field)
            for which in (1, 2)
        ]
        for key, field in (("nystrom-m24", "gpu_speed"), ("lsq-w4", "gpu_speed"))
    }
    drops = [
        printed("vtp-r0.1", which).accuracy - printed("vanilla", which).accuracy for which in (1, 2)
    ]
    fastest = " and ".join(f"{ratio:.2f}" for ratio in ratios["nystrom-m24"])
    slower = " and ".join(f"{ratio:.2f}" for ratio in ratios["lsq-w4"])
    million = parameters(1) / 1e6
    rows = [
        (
            "cost of plain attention",
            "B 3.4: linear in the tokens",
            "A and C 2.2 and 3.4, B 2.2: quadratic",
            "the products QKᵀ and with V are 2 n² d",
        ),
        (
            "what low-rank attention can save",
            "B and C 1: attention is a small share of the arithmetic",
            "A, B and C 3.4: approximating it saves much time",
            f"at {tokens(architecture)} tokens its share is {share:.1%}, so at most "
            f"{1 / (1 - share):.2f} times the speed; printed for m = 24: {fastest} times",
        ),
        (
            "soft or hard labels",
            "A, B and C 2.3: soft labels teach more",
            "B 3.2: hard distillation is the better choice",
            "the tables have no row of the one or the other",
        ),
        (
            "what pruning costs",
            "A, B and C 4.2, first paragraph: it shrinks the model at little loss",
            "A, B and C 4.2, second paragraph: it does so badly, with a large loss",
            f"r = 0.1: {drops[0]:+.2f} and {drops[1]:+.2f} points",
        ),
        (
            "speed of compressed models",
            "B 4.2: most methods speed up",
            "the tables: 4-bit LSQ is the slowest of all rows",
            f"{slower} times vanilla's GPU speed",
        ),
        (
            "size of the model",
            "B and C 1: hundreds of millions of parameters",
            "the tables: one file of 327 MB",
            f"{million:.1f} million parameters of {BITS} bits",
        ),
        (
            "Equation 6",
            "A: the pruned model's loss less itself",
            "B and C: the pruned model's loss less the whole one's",
            "A's bound is 0 < δ, which always holds",
        ),
        (
            "where they measured",
            "B 4.1: Google Colab Pro+ with a V100",
            "A and C 4.1: a V100, no more said",
            "the CPU of the CPU speeds is named by none",
        ),
    ]
    columns = ["about", "one place says", "another says", "numbers"]
    return pd.DataFrame(rows, columns=columns)
