"""Hydra attention: as many heads as features, so that attention is elementwise.

Bolya et al., Hydra Attention: Efficient Attention with Many Heads, ECCV Workshops 2022. With the
cosine kernel, and q̂, k̂ of length 1 over all D features of a token,

    out_i = q̂_i ⊙ Σ_t k̂_t ⊙ v_t.

The sum is not divided by n, so that the output grows with the number of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from vitstudy.attention.replace import Mechanism, full_precision


def hydra_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q̂ ⊙ Σ_t k̂_t ⊙ v_t of q, k, v (..., n, D), with q̂ and k̂ of length 1: (..., n, D)."""
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    return q * (k * v).sum(-2, keepdim=True)


@dataclass(frozen=True)
class Hydra(Mechanism):
    """Hydra attention over the features of all heads together."""

    title = "Hydra attention"

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float, prefix: int) -> Tensor:
        heads, dtype = q.shape[1], v.dtype
        with full_precision(q, k, v) as tensors:
            out = hydra_attention(*(x.transpose(1, 2).flatten(2) for x in tensors))  # (B, n, D)
        return out.unflatten(2, (heads, -1)).transpose(1, 2).to(dtype)

    def macs(self, tokens: int, width: int, heads: int) -> int:
        return 0

    def elementwise(self, tokens: int, width: int, heads: int) -> int:
        return 3 * tokens * width
