"""How much a dimension matters: Eq. 7, Eq. 8, and two controls that look at less.

Gates that were trained are a score too: `gates.scores`. All are by the names of masks, the highest
the most important, and `slim.select` compares them over all layers as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitstudy.errors import UserError
from vitstudy.pruning.slim import Scores, Shape, shape_of

# -- the mathematics ------------------------------------------------------------------------------


def taylor_importance(weights: Tensor, gradients: Tensor) -> Tensor:
    """Eq. 7: (sum over b in B of dL/dw_b w_b)^2 for each block B, the rows of (blocks, B).

    The square is outside the sum, as two of the three papers print it. L is the loss; the papers
    write the score's own letter.
    """
    return (weights * gradients).sum(1).square()


def kl_importance(pruned: Tensor, full: Tensor) -> Tensor:
    """Eq. 8: the sum over images of D_KL(p_i || q_i), a scalar.

    pruned, full: logits (N, classes) of the model without the weights, p, and with them, q. The
    papers call p and q losses, between which there is no divergence: they are the outputs.
    """
    p, q = pruned.log_softmax(1), full.log_softmax(1)
    return F.kl_div(q, p, reduction="sum", log_target=True)  # of the second from the first


# -- scores of a model ----------------------------------------------------------------------------


def blocks_of_weights(
    model: VisionTransformer, take: Callable[[Tensor], Tensor] = torch.Tensor.detach
) -> dict[str, Tensor]:
    """The weights B of each dimension, by the names of masks: (dimensions, B).

    They are the weights that read the dimension, a column of the layer after it; for queries and
    keys, which no layer reads, the row of W_q with its bias. So the sum in Eq. 7 is the derivative
    by a gate on the dimension, where that gate is 1. `take` gives what is wanted of a parameter.
    """
    shape, found = shape_of(model), {}
    inner = shape.heads * shape.head_dim
    for index, block in enumerate(model.blocks):
        qkv = take(block.attn.qkv.weight)
        rows = [qkv[:inner]]
        if block.attn.qkv.bias is not None:
            rows.append(take(block.attn.qkv.bias)[:inner, None])
        found[f"blocks.{index}.attention_input"] = qkv.T
        found[f"blocks.{index}.query_key"] = torch.cat(rows, dim=1)
        found[f"blocks.{index}.value"] = take(block.attn.proj.weight).T
        found[f"blocks.{index}.mlp_input"] = take(block.mlp.fc1.weight).T
        found[f"blocks.{index}.hidden"] = take(block.mlp.fc2.weight).T
    return found


def _check_head(model: VisionTransformer) -> None:
    """Raise UserError where the model's outputs are features, of which there is no loss."""
    if not isinstance(getattr(model, "head", None), nn.Linear) or not model.global_pool:
        raise UserError(
            f"head is {type(getattr(model, 'head', None)).__name__}, global_pool "
            f"{getattr(model, 'global_pool', None)!r}: scores by the outputs need one vector of "
            "logits an image; take the scores 'magnitude' or 'random', or put a head on the model"
        )


TAYLOR = ("set", "batches")


def taylor_scores(
    model: VisionTransformer,
    images: Tensor,
    labels: Tensor,
    batch_size: int = 64,
    *,
    gradient_of: str = "set",
) -> Scores:
    """Eq. 7 of every dimension, for the mean cross-entropy over `images` (N, C, H, W).

    gradient_of: of what the gradient is taken that Eq. 7 squares. "set" is all images at once, as
    the papers' L is: near a minimum it tends to nought whatever a dimension is worth. "batches" is
    each batch, the mean cross-entropy over it, and the score is the mean of the squares, weighted
    by the batches' images, as NViT has it (Yang et al., Global Vision Transformer Pruning with
    Hessian-Aware Saliency, 2023). Of one batch both are the same. Raises ValueError for another
    name, and UserError for a model that gives no logits.
    """
    if gradient_of not in TAYLOR:
        raise ValueError(f"gradient_of={gradient_of!r} is unknown; valid: {', '.join(TAYLOR)}")
    _check_head(model)
    model.eval()
    device = next(model.parameters()).device
    parameters = list(model.blocks.parameters())
    weights = blocks_of_weights(model)

    def squares(gradients: list[Tensor]) -> Scores:
        by_parameter = dict(zip(map(id, parameters), gradients, strict=True))
        slopes = blocks_of_weights(model, lambda parameter: by_parameter[id(parameter)])
        return {name: taylor_importance(weights[name], slopes[name]).cpu() for name in weights}

    total = [torch.zeros_like(parameter) for parameter in parameters]
    mean = {name: torch.zeros(len(each), dtype=each.dtype) for name, each in weights.items()}
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        whole = len(images) if gradient_of == "set" else len(x)
        loss = F.cross_entropy(model(x.to(device)), y.to(device), reduction="sum") / whole
        gradients = torch.autograd.grad(loss, parameters)
        if gradient_of == "batches":
            for name, values in squares(list(gradients)).items():
                mean[name] += values * (len(x) / len(images))
        else:
            for added_up, gradient in zip(total, gradients, strict=True):
                added_up += gradient
    return squares(total) if gradient_of == "set" else mean


@torch.inference_mode()
def kl_scores(
    model: VisionTransformer, images: Tensor, groups: int, batch_size: int = 64
) -> Scores:
    """Eq. 8 of every head, and of every one of `groups` runs of an MLP's hidden dimensions.

    Sums over `images` (N, C, H, W). What lies before the block in question is computed once.
    Raises UserError for groups that do not divide the hidden dimensions, and for a model that
    gives no logits.
    """
    _check_head(model)
    shape = shape_of(model)
    if groups < 1 or shape.hidden % groups:
        raise UserError(f"{groups} groups do not divide the {shape.hidden} hidden dimensions")
    model.eval()
    found: Scores = {}
    for index in range(shape.depth):
        found[f"blocks.{index}.value"] = torch.zeros(shape.heads)
        found[f"blocks.{index}.hidden"] = torch.zeros(groups)
    for batch in images.split(batch_size):
        tokens, full = _tokens(model, batch.to(next(model.parameters()).device))
        for index, block in enumerate(model.blocks):
            readers = {"value": block.attn.proj, "hidden": block.mlp.fc2}
            for kind, reader in readers.items():
                scores = found[f"blocks.{index}.{kind}"]
                run = reader.in_features // len(scores)
                for unit in range(len(scores)):
                    with _silent(reader, slice(unit * run, (unit + 1) * run)):
                        x = model.blocks[index:](tokens[index])
                        pruned = model.forward_head(model.norm(x))
                    scores[unit] += kl_importance(pruned, full).cpu()
    return found


def _tokens(model: VisionTransformer, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """What each block is given, (B, N, D), and the logits."""
    tokens: list[Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))
        for block in model.blocks
    ]
    try:
        return tokens, model(images)
    finally:
        for hook in hooks:
            hook.remove()


class _silent:
    """While it lasts, some of a linear layer's inputs are zero."""

    def __init__(self, layer: nn.Linear, columns: slice):
        self.layer, self.columns = layer, columns

    def __enter__(self) -> None:
        def silence(_, inputs: tuple[Tensor]) -> Tensor:
            x = inputs[0].clone()
            x[..., self.columns] = 0
            return x

        self.hook = self.layer.register_forward_pre_hook(silence)

    def __exit__(self, *_) -> None:
        self.hook.remove()


def magnitude_scores(model: VisionTransformer) -> Scores:
    """A control without data: the mean size of the weights that Eq. 7 sums over."""
    return {name: each.abs().mean(1).cpu() for name, each in blocks_of_weights(model).items()}


def random_scores(shape: Shape, seed: int) -> Scores:
    """A control without knowledge: numbers from 0 to 1, drawn by `seed`."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"blocks.{index}.{kind}": torch.rand(size, generator=generator)
        for index in range(shape.depth)
        for kind, size in shape.sizes().items()
    }
