"""Nyström attention as public codes compute it, where they differ from the paper's formula.

Sequences there may be padded, so tokens are masked; segments have one length; V goes through a
depthwise convolution along the tokens, which is added. An image has all its tokens, so the study's
own models need none of this: it is here to be held against what those codes return.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitstudy.attention.nystrom import ITERATIONS, attend_by_landmarks

MASKED = -1e9
"""What the authors' code adds to the scores of masked keys."""


def value_convolution(v: Tensor, weight: Tensor) -> Tensor:
    """The skip connection of v (B, h, n, d): a filter along the tokens for each head.

    weight: (h, 1, size, 1), of odd size; beyond the ends there are zeros.
    """
    return F.conv2d(v, weight, padding=(weight.shape[2] // 2, 0), groups=weight.shape[0])


def _segments(x: Tensor, num_landmarks: int) -> Tensor:
    """(..., n, d) as (..., m, n / m, d); raises ValueError where m does not divide n."""
    n = x.shape[-2]
    if num_landmarks < 1 or n % num_landmarks:
        raise ValueError(f"{num_landmarks} landmarks do not divide {n} tokens into equal segments")
    return x.unflatten(-2, (num_landmarks, n // num_landmarks))


def official(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_landmarks: int,
    mask: Tensor | None = None,
    *,
    iterations: int = ITERATIONS,
    start: str = "original",
    convolution: Tensor | None = None,
) -> Tensor:
    """The authors' language models: q, k, v (B, h, n, d), mask (B, n) of ones and zeros.

    Masked queries and keys are zero, yet a landmark divides by its segment's whole length; the
    scores of masked keys are lowered by 1e9. At m = n it is softmax attention. Raises ValueError
    where m does not divide n.
    """
    scale = q.shape[-1] ** -0.5
    mask = torch.ones_like(q[:, 0, :, 0]) if mask is None else mask.to(q.dtype)
    there = mask[:, None, :, None]
    q, k = q * there, k * there
    q_landmarks, k_landmarks = (_segments(x, num_landmarks).mean(-2) for x in (q, k))
    bias = MASKED * (1 - mask[:, None, None, :])  # (B, 1, 1, n)
    if num_landmarks == q.shape[-2]:
        out = F.scaled_dot_product_attention(q, k, v, bias, scale=scale)
    else:
        out = attend_by_landmarks(
            q,
            k,
            v,
            q_landmarks,
            k_landmarks,
            scale=scale,
            iterations=iterations,
            start=start,
            biases=(None, None, bias),
        )
    return out if convolution is None else out + value_convolution(v * there, convolution)


def lucidrains(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_landmarks: int,
    mask: Tensor | None = None,
    *,
    iterations: int = ITERATIONS,
    convolution: Tensor | None = None,
) -> Tensor:
    """The third party's: q, k, v (B, h, n, d), mask (B, n) of ones and zeros.

    Zeros are put in front until m divides n. Without a mask they take part: they weigh in the
    means of their segments and draw softmax mass. With one they do not: a landmark is the mean of
    what its segment has (its sum by the count and 1e-8), and what is masked, landmarks of nothing
    included, gets the lowest score there is. The start is the whole batch's. Raises ValueError for
    less than one landmark.
    """
    scale, n = q.shape[-1] ** -0.5, q.shape[-2]
    if num_landmarks < 1:
        raise ValueError(f"{num_landmarks} landmarks; valid: 1 and more")
    front = -n % num_landmarks
    q, k, v = (F.pad(x, (0, 0, front, 0)) for x in (q, k, v))
    biases = (None, None, None)
    if mask is None:
        q_landmarks, k_landmarks = (_segments(x, num_landmarks).mean(-2) for x in (q, k))
    else:
        mask = F.pad(mask.to(q.dtype), (front, 0))
        q, k, v = (x * mask[:, None, :, None] for x in (q, k, v))
        count = _segments(mask[:, None, :, None], num_landmarks).sum(-2)  # (B, 1, m, 1)
        q_landmarks, k_landmarks = (
            _segments(x, num_landmarks).sum(-2) / (count + 1e-8) for x in (q, k)
        )
        tokens, kept = mask[:, None, :] > 0, count[..., 0] > 0  # (B, 1, N), (B, 1, m)
        biases = (_filled(tokens, kept, q), _filled(kept, kept, q), _filled(kept, tokens, q))
    out = attend_by_landmarks(
        q,
        k,
        v,
        q_landmarks,
        k_landmarks,
        scale=scale,
        iterations=iterations,
        start="lucidrains",
        biases=biases,
    )
    if convolution is not None:
        out = out + value_convolution(v, convolution)
    return out[..., front:, :]


def _filled(rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """The lowest number where row or column is masked, else zero: (B, 1, rows, columns)."""
    both = rows[..., :, None] & columns[..., None, :]
    lowest = torch.finfo(like.dtype).min
    return torch.zeros(both.shape, dtype=like.dtype, device=like.device).masked_fill(~both, lowest)
