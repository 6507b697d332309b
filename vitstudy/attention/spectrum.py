"""Is softmax attention of low rank? The baseline's own matrices, and what m landmarks make of them.

The cell of this module is Nyström attention at m = n, where it does nothing: its accuracy is the
baseline's, and its analysis is of the baseline's matrices S = softmax(Q Kᵀ / √d).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vitstudy.attention import nystrom, replace
from vitstudy.attention.configs import Spectrum
from vitstudy.context import Context

ITERATIONS = 20
"""Of the inverse, to see it converge or not."""
SHOWN = 3
"""Layers of which one head's q and k are kept, evenly from first to last."""


def compress(context: Context[Spectrum]) -> nn.Module:
    """The baseline with every token a landmark: the same network."""
    return nystrom.approximated(context).cpu()


def shuffled_rows(matrix: Tensor, generator: torch.Generator) -> Tensor:
    """(..., n, n) with the entries of each row in another order: as peaked, without structure."""
    order = torch.rand(matrix.shape, generator=generator).argsort(-1)
    return matrix.gather(-1, order)


def spectrum(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values of (..., n, n) over the largest, and ‖S - S_r‖ / ‖S‖ of the best rank r.

    r goes from 0 to n (Eckart and Young, 1936); (n,) and (n + 1,), means over the matrices.
    """
    values = torch.linalg.svdvals(matrix)
    squares = values.square()
    left = squares.flip(-1).cumsum(-1).flip(-1)  # energy from the r-th value on
    left = torch.cat([left, torch.zeros_like(left[..., :1])], dim=-1)
    error = (left / squares.sum(-1, keepdim=True)).sqrt()
    return (values / values[..., :1]).flatten(0, -2).mean(0), error.flatten(0, -2).mean(0)


def residuals(q: Tensor, k: Tensor, num_landmarks: int, scale: float, own: int) -> Tensor:
    """`inverse_residual` after 0 to ITERATIONS iterations, mean over the matrices."""
    a = nystrom.landmark_kernel(
        *(nystrom.landmarks(x, num_landmarks, own) for x in (q, k)), scale=scale
    )
    found, z = [], nystrom.iterative_inverse(a, 0)
    for _ in range(ITERATIONS + 1):
        found.append(nystrom.inverse_residual(a, z).mean())
        z = nystrom.newton_step(a, z)
    return torch.stack(found)


def numbers_of_landmarks(tokens: int, rows: tuple[int, ...] = (24, 32, 64)) -> list[int]:
    """From 1 to n, closer together where they are few, the papers' three among them."""
    evenly = np.geomspace(1, tokens, 12).round().astype(int).tolist()
    return sorted({*evenly, *(m for m in rows if m <= tokens)})


def analyse(context: Context, model: nn.Module) -> dict[str, np.ndarray]:
    """What the layers' matrices are like, L layers of n tokens, means over images and heads.

    `singular_values` and `singular_values_shuffled` (L, n), over the largest; `best_error`
    (L, n + 1) by rank; `landmarks` (M,) and for each the error of the approximated matrix with the
    iterative and the exact inverse, `error` and `error_exact` (L, M), and with the class token a
    landmark of its own, `error_class` (L, M), NaN where that leaves none; `residual` of the inverse
    (L, M, ITERATIONS + 1). `shown_layers` (K,) with q and k of the first image's first head,
    `shown_q` and `shown_k` (K, n, d), and its `image` (C, H, W).
    """
    layers = nystrom.queries_and_keys(context, model)
    attention = model.blocks[0].attn
    scale, tokens = attention.scale, replace.num_tokens(model)
    chosen = numbers_of_landmarks(tokens)
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list] = {}

    def add(name: str, value) -> None:
        found.setdefault(name, []).append(np.asarray(value, dtype=np.float32))

    for q, k in layers:
        matrix = nystrom.softmax_matrix(q, k, scale)
        values, best = spectrum(matrix)
        add("singular_values", values)
        add("best_error", best)
        add("singular_values_shuffled", spectrum(shuffled_rows(matrix, generator))[0])

        def error(m: int, **options) -> float:
            approximation = nystrom.nystrom_matrix(q, k, m, scale, **options)  # noqa: B023
            return nystrom.relative_error(approximation, matrix).item()  # noqa: B023

        add("error", [error(m) for m in chosen])
        add("error_exact", [error(m, inverse="exact") for m in chosen])
        add("error_class", [error(m, own=1) if m > 1 else np.nan for m in chosen])
        add("residual", torch.stack([residuals(q, k, m, scale, 0) for m in chosen]))
    shown = np.unique(np.linspace(0, len(layers) - 1, SHOWN).round().astype(int))
    return {
        **{name: np.stack(values) for name, values in found.items()},
        "landmarks": np.array(chosen, dtype=np.int32),
        "shown_layers": shown.astype(np.int32),
        "shown_q": np.stack([layers[i][0][0, 0].numpy() for i in shown]).astype(np.float32),
        "shown_k": np.stack([layers[i][1][0, 0].numpy() for i in shown]).astype(np.float32),
        "image": context.data.calibration.images[0].numpy(),
    }
