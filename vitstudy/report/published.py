"""What the papers print, held against itself: pairs of numbers, and of statements, that disagree.

A: Zheng and Li; B: Chen, Xie, Li and Ren; C: Chen, Luo, Zhou, Pan and Jiang. The three print the
same two tables, so one pair of numbers stands for all three.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vitstudy import formulas, methods, profiles
from vitstudy.conditions import read_file
from vitstudy.methods import METHODS, Published
from vitstudy.profiles import Architecture
from vitstudy.report.tables import FORMATS, PUBLISHED_ON

_CONTENT = read_file(Path(__file__).with_suffix(".toml"))
BITS = 32
"""Bits of a parameter in vanilla's file."""
FIELDS = {"cpu_speed": "CPU speed, it/s", "gpu_speed": "GPU speed, it/s", "size": "size, MB"}


def printed(key: str, which: int) -> Published:
    """The row `key` of Table 1 or 2, as printed; raises KeyError where the papers have none."""
    return {method.key: method.published for method in METHODS}[key][which - 1]


def change(key: str, which: int) -> float:
    """Printed accuracy of the row `key` in Table 1 or 2 less vanilla's, in points."""
    return printed(key, which).accuracy - printed("vanilla", which).accuracy


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
    products = 2 * tokens(architecture) ** 2 * architecture.width * architecture.depth
    return products / formulas.vit_macs(architecture, num_classes, channels)


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

    They are listed in `published.toml`; `first` and `second` as printed; `factor` is the second
    over the first.
    """
    rows = []
    for given in _CONTENT["contradiction"]:
        pairs = [
            (f"{_title(key)} in Tables 1 and 2", printed(key, 1), printed(key, 2))
            for key in given.get("rows", ())
        ]
        pairs += [
            (f"{_title(one)} and {_title(two)} in Table {table}", *_both(one, two, table))
            for one, two in given.get("pairs", ())
            for table in given.get("tables", (1, 2))
        ]
        for label, first, second in pairs:
            for field in given["numbers"]:
                numbers = getattr(first, field), getattr(second, field)
                rows.append(_contradiction(field, label, *numbers, given["against"]))
    return pd.DataFrame(rows)


def _title(key: str) -> str:
    return methods.get(key).title


def _both(first: str, second: str, table: int) -> tuple[Published, Published]:
    return printed(first, table), printed(second, table)


def _contradiction(field: str, label: str, first: float, second: float, against: str) -> dict:
    architecture = profiles.get("paper").architecture
    # 90 classes more, each with the weights and the bias of its row in the last layer.
    head = 90 * (architecture.width + 1) * (BITS // 8) / 2**20
    token = one_token_more(architecture) - 1
    ratio = second / first
    write = FORMATS[f"{field}_published"]
    return {
        "published": FIELDS[field],
        "of": label,
        "first": write(first),
        "second": write(second),
        "factor": round(ratio, 3),
        "what speaks against it": against.format(
            token=token, head=head, gone=1 - ratio, bits=BITS * ratio
        ),
    }


# -- statements -----------------------------------------------------------------------------------


def disagreements() -> pd.DataFrame:
    """Statements of the papers that do not go together, in our words, and what numbers say.

    They are listed in `published.toml`.
    """
    architecture = profiles.get("paper").architecture
    share = attention_share(architecture, 10, 3)
    numbers = {
        "tokens": tokens(architecture),
        "share": share,
        "most": 1 / (1 - share),
        "millions": parameters(1) / 1e6,
        "nystrom": gpu_ratios("nystrom-m24"),
        "lsq": gpu_ratios("lsq-w4"),
        "pruned": [change("vtp-r0.1", table) for table in (1, 2)],
    }
    rows = [
        (row["about"], row["one"], row["another"], row["numbers"].format(**numbers))
        for row in _CONTENT["disagreement"]
    ]
    columns = ["about", "one place says", "another says", "numbers"]
    return pd.DataFrame(rows, columns=columns)


def gpu_ratios(key: str) -> list[float]:
    """The row's printed GPU speed over vanilla's, in Tables 1 and 2."""
    return [printed(key, table).gpu_speed / printed("vanilla", table).gpu_speed for table in (1, 2)]
