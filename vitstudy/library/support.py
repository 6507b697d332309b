"""Which method works on which family of models: a page of the site, made by trying.

`python -m vitstudy.library.support` writes it again. Each method is given a tiny model of each
family, with random weights; what it changes, what it leaves and what it refuses is then counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.data import TensorDataset

from vitstudy import files
from vitstudy.errors import UserError
from vitstudy.library.compressing import CompressedModel, compress

_SIZE = dict(img_size=32, patch_size=4, embed_dim=32, depth=2, num_heads=2)
_vit = partial(VisionTransformer, **_SIZE, mlp_ratio=2)
_vit_of_five = partial(_vit, num_classes=5)

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "ViT": _vit_of_five,
    "DeiT3": partial(_vit_of_five, no_embed_class=True, init_values=1e-6),
    "ViT with registers": partial(_vit_of_five, no_embed_class=True, reg_tokens=4),
    "DINOv2 without a head": partial(_vit, num_classes=0, init_values=1e-5),
    "CLIP's image tower": partial(_vit_of_five, pre_norm=True, act_layer="quick_gelu"),
    "EVA-02": partial(
        Eva,
        **_SIZE,
        num_classes=5,
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        use_rot_pos_emb=True,
    ),
    "BEiT": partial(
        Beit, **_SIZE, num_classes=5, init_values=0.1, use_abs_pos_emb=False, use_rel_pos_bias=True
    ),
    "Swin": partial(
        SwinTransformer,
        img_size=32,
        patch_size=4,
        embed_dim=16,
        depths=(1, 1),
        num_heads=(2, 4),
        window_size=4,
        num_classes=5,
    ),
}
"""Tiny models of timm's, by the name of their family."""

METHODS = (
    "dynamic",
    "torchao-int8",
    "onnx-int8",
    "fq-vit",
    "lsq-w4",
    "lsq-w4a4",
    "diffq-finetuned",
    "taught",
    "magnitude-r0.2-cut",
    "kl-r0.2-cut",
    "vtp-r0.2",
    "nystrom-m24",
    "hydra",
)
"""One of each kind; the others of a kind take the same models."""


@dataclass(frozen=True)
class Outcome:
    """What became of a model of `family` under `method`; `refusal` is empty where it works."""

    method: str
    family: str
    changed: int = 0
    left: tuple[tuple[str, str], ...] = ()
    """Type and reason of each layer that was left as it is."""
    refusal: str = ""


def attempt(method: str, family: str) -> Outcome:
    """Compress a tiny model of `family`, with random weights, by `method`, in two steps."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8) % 5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, teacher = FAMILIES[family](), FAMILIES[family]()
    try:
        small = compress(
            model,
            method,
            calibration=(images, labels),
            train=TensorDataset(images, labels),
            teacher=teacher,
            steps=2,
            batch_size=4,
        )
    except UserError as error:
        return Outcome(method, family, refusal=str(error))
    return _outcome(method, family, small)


def _outcome(method: str, family: str, small: CompressedModel) -> Outcome:
    left = tuple((each["type"], each["reason"]) for each in small.report.layers_skipped)
    return Outcome(method, family, len(small.report.layers_touched), left)


def page(outcomes: list[Outcome]) -> str:
    """The page in Markdown: the table, what is refused, and what is left as it is."""
    table = [
        f"| method | {' | '.join(FAMILIES)} |",
        f"| --- |{' --- |' * len(FAMILIES)}",
    ]
    by_place = {(each.method, each.family): each for each in outcomes}
    for method in METHODS:
        cells = [_cell(by_place[method, family]) for family in FAMILIES]
        table.append(f"| `{method}` | {' | '.join(cells)} |")
    parts = [
        "# Your own model",
        "`vitstudy.compress(model, method, calibration=images)` gives a smaller copy of a model and"
        " a report of what was done to it; the notebook with the same title shows how. Here it was"
        " tried on tiny models of timm's with random weights: how many layers a method changed, and"
        " how many it left as they are. Nothing is dropped: what a method does not know, it lists"
        " or refuses. `python -m vitstudy.library.support` makes this page again.",
        "\n".join(table),
        "## What is refused",
        "\n".join(_refused(outcomes)),
        "## What is left as it is",
    ]
    for method in METHODS:
        if lines := _left([each for each in outcomes if each.method == method]):
            parts += [f"### `{method}`", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _cell(outcome: Outcome) -> str:
    if outcome.refusal:
        return "refused"
    return f"{outcome.changed} changed" + (f", {len(outcome.left)} left" if outcome.left else "")


def _refused(outcomes: list[Outcome]) -> list[str]:
    """Each refusal once, with the families that it is of."""
    families: dict[str, list[str]] = {}
    for each in outcomes:
        if each.refusal:
            families.setdefault(f"`{each.method}`: {each.refusal}", []).append(each.family)
    return [f"- {line} ({', '.join(names)})" for line, names in families.items()]


def _left(outcomes: list[Outcome]) -> list[str]:
    """Each kind of layer that a method left, with the reason and the families."""
    families: dict[tuple[str, str], list[str]] = {}
    for each in outcomes:
        for kind in dict.fromkeys(each.left):
            families.setdefault(kind, []).append(each.family)
    return [
        f"- {kind}: {reason} ({'all' if len(names) == len(outcomes) else ', '.join(names)})"
        for (kind, reason), names in families.items()
    ]


def path() -> Path:
    """The page's place in the repository; UserError where the package is installed without it."""
    return files.repository() / "docs" / "own_model.md"


def write() -> Path:
    """Try every method on every family and write the page."""
    where = path()
    files.write(where, page([attempt(method, each) for method in METHODS for each in FAMILIES]))
    return where


if __name__ == "__main__":
    print(write().relative_to(files.REPOSITORY))
