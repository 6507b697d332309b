"""What the cells that teach apply a method to: the study's own models, images and attention heads.

Where a profile has records alone, a line says what has to be made, and the notebook goes on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitstudy import models, profiles
from vitstudy.report import baseline, notebook
from vitstudy.report.evidence import Evidence
from vitstudy.study import Cell


def _cell(profile: str, method: str) -> Cell:
    """The first seed's cell of a method, on the profile's data set of ten classes."""
    evidence = Evidence(profile)
    return evidence.cell(evidence.datasets[0], method)


def model(profile: str, method: str = "vanilla") -> nn.Module | None:
    """The trained model of `method`, its parameters without gradients; None where it is not here.

    Raises UserError for a file that is damaged.
    """
    cell = _cell(profile, method)
    if not cell.artifact_path.exists():
        notebook.say(
            f"The model of {cell} is not here, so the method is not shown on it: make it with "
            f'`python -m vitstudy run "{cell.profile}/{cell.dataset}/{cell.method}"`.'
        )
        return None
    return models.load(cell.artifact_path).requires_grad_(False)


class Pictures(NamedTuple):
    """Images of a profile: bytes (B, C, 32, 32), normalised (B, C, H, W), labels (B,), classes."""

    raw: Tensor
    images: Tensor
    labels: Tensor
    names: list[str]


def pictures(profile: str, count: int = 64) -> Pictures | None:
    """The first calibration images, which no training saw; None where they are not here.

    Nothing is downloaded.
    """
    cell = _cell(profile, "vanilla")
    if (dataset := baseline.images(cell)) is None:
        notebook.say(f"The images of {cell.dataset} are not here, so the method is not shown.")
        return None
    split = dataset.calibration.head(count)
    images = dataset.normalise(split.images, profiles.get(profile).architecture.image_size)
    return Pictures(split.images, images, split.labels, baseline.class_names(cell.dataset))


@torch.no_grad()
def given(network: nn.Module, layer: str, batch: Tensor) -> Tensor:
    """What the layer of that name is given when `network` looks at a batch (B, C, H, W)."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    hook = network.get_submodule(layer).register_forward_pre_hook(keep)
    try:
        network(batch)
    finally:
        hook.remove()
    return seen[0]


@torch.no_grad()
def heads(network: nn.Module, block: int, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, h, N, d) of one block's attention, counted from 0 or the end."""
    block %= len(network.blocks)
    attention = network.blocks[block].attn
    tokens = given(network, f"blocks.{block}.attn", batch)
    number, size, _ = tokens.shape
    qkv = attention.qkv(tokens).view(number, size, 3, attention.num_heads, attention.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return attention.q_norm(q), attention.k_norm(k), v
