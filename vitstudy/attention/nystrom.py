"""Nyströmformer: softmax attention by landmarks, at a cost that grows with n instead of n².

Xiong et al., Nyströmformer: A Nyström-Based Algorithm for Approximating Self-Attention, AAAI 2021.
With queries Q and keys K of n tokens and the means Q~, K~ of m segments of them (the landmarks),

    softmax(Q Kᵀ / √d) V  ≈  softmax(Q K~ᵀ / √d) · Z · softmax(Q~ Kᵀ / √d) V,

where Z approximates the pseudo-inverse of A = softmax(Q~ K~ᵀ / √d) by six Newton-like steps. The
weights are those of softmax attention, so a trained model can be taken over as it is; the paper's
depthwise convolution of V, which would be new weights, is left out (`nystrom_codes` has it).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitstudy.attention import replace
from vitstudy.attention.configs import Nystromformer
from vitstudy.attention.replace import Mechanism
from vitstudy.context import Context
from vitstudy.errors import UserError, unknown

# -- the mathematics ------------------------------------------------------------------------------

ITERATIONS = 6
"""The paper's. They have not converged where A is badly conditioned: see `inverse_residual`."""
NEGLIGIBLE = 1e-8
"""Singular values, as a share of the largest, that the exact inverse takes for zero.

The square root of float64's precision: leaving them out costs as much as rounding would.
"""
STARTS = ("paper", "exact", "original", "lucidrains")
INVERSES = ("iterative", "exact")
CLASS_TOKENS = ("segment", "own")


def segment_means(x: Tensor, num_landmarks: int) -> Tensor:
    """The means (..., m, d) of m consecutive segments of tokens (..., n, d).

    Where m does not divide n the first segments have floor(n / m) tokens and the last n mod m of
    them one more. Raises ValueError unless 1 <= m <= n.
    """
    n = x.shape[-2]
    if not 1 <= num_landmarks <= n:
        raise ValueError(f"{num_landmarks} landmarks of {n} tokens; valid: 1 to {n}")
    length, longer = divmod(n, num_landmarks)
    shorter = num_landmarks - longer
    first, last = x.split([shorter * length, longer * (length + 1)], dim=-2)
    means = first.unflatten(-2, (shorter, length)).mean(-2)
    if not longer:
        return means
    return torch.cat([means, last.unflatten(-2, (longer, length + 1)).mean(-2)], dim=-2)


def landmarks(x: Tensor, num_landmarks: int, own: int = 0) -> Tensor:
    """The landmarks (..., m, d) of (..., n, d): the first `own` tokens, then segment means.

    With own=0, as in the authors' code, a class token is one token of the first segment. With
    own=1 it is a landmark itself and the patches share the other m - 1. Raises ValueError where
    that leaves patches without any.
    """
    if not own:
        return segment_means(x, num_landmarks)
    if num_landmarks <= own:
        raise ValueError(
            f"{num_landmarks} landmarks, {own} of them class tokens, leave none for the patches"
        )
    return torch.cat([x[..., :own, :], segment_means(x[..., own:, :], num_landmarks - own)], dim=-2)


def iterative_inverse(a: Tensor, iterations: int = ITERATIONS, start: str = "paper") -> Tensor:
    """An approximate pseudo-inverse Z of a (..., m, m), by the paper's third-order iteration.

    Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4, from Z = Aᵀ / (‖A‖₁ ‖A‖∞) of each matrix.
    The rows of a softmax sum to one, so ‖A‖∞ is 1 but for rounding, which is why the authors' code
    leaves it out (start="exact"). Their default, "original", takes the greatest ‖A‖₁ of the whole
    batch and all heads, and "lucidrains" the greatest of both norms: an image's output then depends
    on the images beside it. Raises ValueError for an unknown start.
    """
    if start not in STARTS:
        raise ValueError(f"start={start!r} is unknown; valid: {', '.join(STARTS)}")
    columns = a.abs().sum(-2, keepdim=True).amax(-1, keepdim=True)  # ‖A‖₁ (..., 1, 1)
    rows = a.abs().sum(-1, keepdim=True).amax(-2, keepdim=True)  # ‖A‖∞
    if start in ("original", "lucidrains"):
        columns, rows = columns.amax(), rows.amax()
    z = a.mT / (columns if start in ("exact", "original") else columns * rows)
    for _ in range(iterations):
        z = newton_step(a, z)
    return z


def newton_step(a: Tensor, z: Tensor) -> Tensor:
    """One iteration of `iterative_inverse`, of a and z (..., m, m): four products."""
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    az = a @ z
    return z @ (13 * identity - az @ (15 * identity - az @ (7 * identity - az))) / 4


def exact_inverse(a: Tensor) -> Tensor:
    """The Moore-Penrose inverse of a (..., m, m), float64, by singular values."""
    return torch.linalg.pinv(a.double(), rtol=NEGLIGIBLE)


def inverse_residual(a: Tensor, z: Tensor) -> Tensor:
    """‖A Z A - A‖ / ‖A‖ of each matrix (...), Frobenius: 0 for the Moore-Penrose inverse."""
    return torch.linalg.matrix_norm(a @ z @ a - a) / torch.linalg.matrix_norm(a)


def landmark_kernel(
    q_landmarks: Tensor, k_landmarks: Tensor, scale: float, bias: Tensor | None = None
) -> Tensor:
    """A = softmax(Q~ K~ᵀ scale + bias), (..., m, m); at least float32, as the inverse needs it."""
    if q_landmarks.dtype in (torch.bfloat16, torch.float16):
        q_landmarks, k_landmarks = q_landmarks.float(), k_landmarks.float()
    scores = q_landmarks @ k_landmarks.mT * scale
    return (scores if bias is None else scores + bias).softmax(-1)


def attend_by_landmarks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_landmarks: Tensor,
    k_landmarks: Tensor,
    *,
    scale: float,
    inverse: str = "iterative",
    iterations: int = ITERATIONS,
    start: str = "paper",
    biases: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None),
) -> Tensor:
    """softmax(Q K~ᵀ) · Z · softmax(Q~ Kᵀ) V for given landmarks: (..., n, d).

    No n x m matrix is kept: both outer factors go through PyTorch's fused attention. `biases` are
    added to the three matrices of scores, in the order of the product. With inverse="exact" all is
    computed in float64: what a small singular value blows up, the outer factors have to bring down
    again to the last digit. Raises ValueError for an unknown inverse.
    """
    if inverse not in INVERSES:
        raise ValueError(f"inverse={inverse!r} is unknown; valid: {', '.join(INVERSES)}")
    dtype = v.dtype
    if inverse == "exact":
        q, k, v, q_landmarks, k_landmarks = (
            tensor.double() for tensor in (q, k, v, q_landmarks, k_landmarks)
        )
    to_landmarks, between, to_tokens = biases
    seen = F.scaled_dot_product_attention(q_landmarks, k, v, to_tokens, scale=scale)  # (..., m, d)
    # autocast would take the iteration to bfloat16, where it cannot converge
    with torch.autocast(q.device.type, enabled=False):
        a = landmark_kernel(q_landmarks, k_landmarks, scale, between)
        z = exact_inverse(a) if inverse == "exact" else iterative_inverse(a, iterations, start)
        seen = (z @ seen.to(z.dtype)).to(seen.dtype)
    return F.scaled_dot_product_attention(q, k_landmarks, seen, to_landmarks, scale=scale).to(dtype)


def nystrom_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    num_landmarks: int,
    *,
    scale: float | None = None,
    own: int = 0,
    inverse: str = "iterative",
    iterations: int = ITERATIONS,
    start: str = "paper",
) -> Tensor:
    """Nyström attention of q, k, v (B, h, n, d), landmarks by segment means: (B, h, n, d).

    scale: of the scores, 1 / √d by default. own: see `landmarks`. At m = n every token is its own
    landmark and there is nothing to approximate: as in the authors' code that is softmax attention
    itself. Raises ValueError for a number of landmarks outside 1..n and for unknown options.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q_landmarks, k_landmarks = landmarks(q, num_landmarks, own), landmarks(k, num_landmarks, own)
    if num_landmarks == q.shape[-2]:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    return attend_by_landmarks(
        q,
        k,
        v,
        q_landmarks,
        k_landmarks,
        scale=scale,
        inverse=inverse,
        iterations=iterations,
        start=start,
    )


def softmax_matrix(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """softmax(Q Kᵀ scale), (..., n, n)."""
    return (q @ k.mT * scale).softmax(-1)


def nystrom_matrix(q: Tensor, k: Tensor, num_landmarks: int, scale: float, **options) -> Tensor:
    """The n x n matrix that `nystrom_attention` multiplies V with, written out; its options."""
    identity = torch.eye(q.shape[-2], dtype=q.dtype, device=q.device)
    identity = identity.expand(*q.shape[:-2], *identity.shape)
    return nystrom_attention(q, k, identity, num_landmarks, scale=scale, **options)


def relative_error(approximation: Tensor, matrix: Tensor) -> Tensor:
    """‖S^ - S‖ / ‖S‖ of matrices (..., n, n), Frobenius, their mean: ()."""
    norm = torch.linalg.matrix_norm
    return (norm(approximation - matrix) / norm(matrix)).mean()


def nystrom_macs(tokens: int, num_landmarks: int, width: int, heads: int, iterations: int) -> int:
    """Multiply-accumulates of the products between q, k, v and the output, all heads, one image.

    Softmax attention has 2 n² width. Here the outer factors take 4 n m width, A and Z times what
    the landmarks saw 2 m² width, and each iteration four products of m x m in every head.
    """
    if num_landmarks == tokens:
        return 2 * tokens**2 * width
    outer = 4 * tokens * num_landmarks * width + 2 * num_landmarks**2 * width
    return outer + 4 * iterations * heads * num_landmarks**3


# -- the layer ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nystrom(Mechanism):
    """Nyström attention: None landmarks are as many as there are tokens.

    class_token: "segment" puts it into the first segment, "own" makes it a landmark itself.
    """

    title = "Nyström attention"
    num_landmarks: int | None = None
    class_token: str = "segment"
    iterations: int = ITERATIONS

    def own(self, prefix: int) -> int:
        """How many of the first tokens, `prefix` of which are no patches, are landmarks."""
        return prefix if self.class_token == "own" else 0

    def fitted(self, tokens: int, prefix: int) -> Nystrom:
        super().fitted(tokens, prefix)
        if self.class_token not in CLASS_TOKENS:
            raise unknown("class_token", self.class_token, CLASS_TOKENS)
        number = tokens if self.num_landmarks is None else self.num_landmarks
        least = self.own(prefix) + 1
        if type(number) is not int or not least <= number <= tokens:
            raise UserError(
                f"num_landmarks is {number}, and an image has {tokens} tokens here; valid: "
                f"{least} to {tokens}"
            )
        if type(self.iterations) is not int or self.iterations < 1:
            raise UserError(f"iterations is {self.iterations}; valid: a whole number from 1 on")
        return dataclasses.replace(self, num_landmarks=number)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float, prefix: int) -> Tensor:
        if q.shape[-2] < self.num_landmarks:  # where images or dropped patches vary their number
            raise UserError(
                f"{self.num_landmarks} landmarks, and an image of only {q.shape[-2]} tokens: give "
                "images of the size that the model was made for, or take fewer landmarks"
            )
        return nystrom_attention(
            q,
            k,
            v,
            self.num_landmarks,
            scale=scale,
            own=self.own(prefix),
            iterations=self.iterations,
        )

    def macs(self, tokens: int, width: int, heads: int) -> int:
        return nystrom_macs(tokens, self.num_landmarks, width, heads, self.iterations)


def replace_attention(
    model: VisionTransformer,
    num_landmarks: int | None,
    *,
    class_token: str = "segment",
    iterations: int = ITERATIONS,
) -> VisionTransformer:
    """Let every block of `model` attend by landmarks, in place, as `replace.replace` does."""
    return replace.replace(model, Nystrom(num_landmarks, class_token, iterations))


def rebuild(model: VisionTransformer, **options) -> VisionTransformer:
    """`replace_attention`, as `models.changed` repeats it on loading."""
    return replace_attention(model, **options)


# -- the rows of the study ------------------------------------------------------------------------


def approximated(context: Context[Nystromformer]) -> VisionTransformer:
    """The first parent with its attention replaced as the cell's settings say, not trained."""
    config = context.config
    return replace.replaced(
        context,
        __name__,
        num_landmarks=config.num_landmarks,
        class_token=config.class_token,
        iterations=config.iterations,
    )


def compress(context: Context[Nystromformer]) -> nn.Module:
    """The baseline attending by landmarks: as a drop-in (`steps` 0), or then fine-tuned."""
    return replace.tuned(context, approximated(context))


ANALYSED = 8
"""Calibration images whose matrices are looked at: one a head and layer each."""


def queries_and_keys(context: Context, model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """q and k (images, h, n, d), float64 on the CPU, in each layer of a Nyström model."""
    found: list[tuple[Tensor, Tensor]] = []

    def keep(layer: nn.Module, given: tuple[Tensor]) -> None:
        q, k, _ = layer.heads(given[0])
        found.append((q.double().cpu(), k.double().cpu()))

    layers = [module for module in model.modules() if replace.mechanism_of(module)]
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        context.evaluate(model, context.data.calibration.head(ANALYSED))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def analyse(context: Context, model: nn.Module) -> dict[str, np.ndarray]:
    """How far each layer is from the softmax attention of its own queries and keys, (layers,) each.

    `error` of the n x n matrix, `residual` of the inverse: relative, means over images and heads.
    """
    attend, errors, left = model.blocks[0].attn.attend, [], []
    chosen, own = attend.mechanism, attend.mechanism.own(attend.prefix)
    for q, k in queries_and_keys(context, model):
        options = {"own": own, "iterations": chosen.iterations}
        matrix = nystrom_matrix(q, k, chosen.num_landmarks, attend.scale, **options)
        errors.append(relative_error(matrix, softmax_matrix(q, k, attend.scale)))
        means = (landmarks(x, chosen.num_landmarks, own) for x in (q, k))
        a = landmark_kernel(*means, attend.scale)
        left.append(inverse_residual(a, iterative_inverse(a, chosen.iterations)).mean())
    return {"error": torch.stack(errors).numpy(), "residual": torch.stack(left).numpy()}
