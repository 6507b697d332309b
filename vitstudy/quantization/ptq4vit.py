"""PTQ4ViT's twin uniform quantization: two grids for values that lie in two ranges.

Yuan et al., PTQ4ViT: Post-Training Quantization for Vision Transformers with Twin Uniform
Quantization, ECCV 2022 (survey Eq. 23). Each grid has b - 1 bits, the last bit says which; the
steps are powers of two apart in the paper, so that products need only a shift.
"""

from __future__ import annotations

import torch
from torch import Tensor

GELU_LOWEST = 0.16997124254703522  # -min GELU


def twin_softmax(x: Tensor, split: float, bits: int, *, overlapping: bool = False) -> Tensor:
    """Attention values in [0, 1], rounded finely below `split` and coarsely from there on.

    Paper section 4.1: with Q = 2^(b-1) the steps are split / Q below and 1 / Q above. With
    `overlapping`, as the authors' code has it, both halves are added for every x, on steps with
    Q - 1 for Q: that adds about `split` to every value above it. Raises ValueError for a split
    outside (0, 1] or bits outside 2 to 16.
    """
    levels = _levels(bits)
    if not 0 < split <= 1:
        raise ValueError(f"split={split} is out of range: it lies above 0 and at most at 1")
    if overlapping:
        step = split / (levels - 1)
        coarse = torch.round(x.clamp(split, 1) * (levels - 1)) / (levels - 1)
        return coarse + torch.round(x.clamp(0, split) / step) * step
    step = split / levels
    fine = torch.round(x / step).clamp(0, levels - 1) * step
    coarse = torch.round(x * levels).clamp(0, levels - 1) / levels
    return torch.where(x >= split, coarse, fine)


def twin_gelu(x: Tensor, step: Tensor | float, bits: int) -> Tensor:
    """Values behind GELU: unsigned on `step` above zero, on a fixed fine grid below (section 4.1).

    The grid below zero spans GELU's own least value. step: () or broadcastable to x. Raises
    ValueError for bits outside 2 to 16.
    """
    levels = _levels(bits)
    negative_step = GELU_LOWEST / levels
    positive = torch.round(x / step).clamp(0, levels - 1) * step
    return positive + torch.round(x / negative_step).clamp(-levels, 0) * negative_step


def _levels(bits: int) -> int:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits={bits!r} is out of range: twin grids take 2 to 16")
    return 2 ** (bits - 1)
