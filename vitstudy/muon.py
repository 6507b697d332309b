"""Muon: momentum whose matrices are made nearly orthogonal before they are taken as a step.

Jordan et al., Muon: An Optimizer for Hidden Layers in Neural Networks, 2024. PyTorch has the same
optimiser, one matrix after the other and always in bfloat16, which a CPU without bfloat16 units
imitates: on the small matrices of this study that is half of a training step. Here all matrices of
one shape go through the iteration together, on a CPU in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the authors' quintic iteration, which lifts small singular values fastest."""
ITERATIONS = 5
SMALLEST_NORM = 1e-7


def orthogonalize(matrices: Tensor) -> Tensor:
    """Move the singular values of matrices (K, rows, columns) near 1, in the matrices' precision.

    These are Newton-Schulz iterations, X ← aX + b(XXᵀ)X + c(XXᵀ)²X from each matrix divided by its
    Frobenius norm.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices  # the Gram matrix is then the smaller one
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(ITERATIONS):
        gram = x @ x.mT  # (K, rows, rows)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for parameters that are matrices, with Nesterov momentum and decoupled weight decay.

    The step of a matrix with more rows than columns is longer by the root of their quotient, as in
    the authors' code. On a GPU the iteration runs in bfloat16. Raises ValueError for parameters
    that are not matrices.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"Muon takes matrices, not a shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take one step; `closure`, where it is given, computes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple[object, ...], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    kind = (parameter.shape, parameter.device, parameter.dtype)
                    alike.setdefault(kind, []).append(parameter)
            for parameters in alike.values():
                self._step(parameters, group["lr"], group["weight_decay"], group["momentum"])
        return loss

    def _step(
        self, parameters: list[Tensor], rate: float, weight_decay: float, momentum: float
    ) -> None:
        """Take one step of all `parameters`, which have one shape."""
        gradients = [parameter.grad for parameter in parameters]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffers.append(state["momentum_buffer"])
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        ahead = torch.stack(torch._foreach_lerp(gradients, buffers, momentum))
        steps = orthogonalize(ahead.bfloat16() if ahead.is_cuda else ahead).to(ahead.dtype)
        rows, columns = parameters[0].shape
        torch._foreach_mul_(parameters, 1 - rate * weight_decay)
        torch._foreach_add_(
            parameters, list(steps), alpha=-rate * math.sqrt(max(1.0, rows / columns))
        )
