"""What the quantization methods share: finding layers, folding BatchNorm, building models."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from vitstudy.context import Context
from vitstudy.structure import call_layers

Skipped = list[tuple[str, str]]
"""(name, reason) of every layer that a method could not take."""


NEVER_CALLED = (
    "is never called on an image: its quantized form would not run; a module that reads a layer's "
    "weight must call the layer instead"
)


class Quantized:
    """Marks a layer that already holds quantized numbers."""


def copy_of_float_model(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose attentions call their layers (`call_layers`).

    Raises ValueError where the model is already quantized.
    """
    for name, module in model.named_modules():
        if isinstance(module, Quantized) or ".quantized" in type(module).__module__:
            raise ValueError(
                f"the model is already quantized ({name} is {type(module).__name__}): "
                "start from the float model"
            )
    if getattr(model, "quantized_by", None):
        raise ValueError(
            f"the model is already quantized (by {model.quantized_by}): start from the float model"
        )
    return call_layers(deepcopy(model).eval())


SCALES = ("scale", "logit_scale", "head_dim")
"""What an attention has beside its heads, and a table of position biases has not."""


def attentions(model: nn.Module) -> dict[str, nn.Module]:
    """The layers below `model` in which queries, keys and values are multiplied, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "num_heads") and any(hasattr(module, part) for part in SCALES)
    }


def replace_layers(root: nn.Module, convert: Callable[[str, nn.Module], nn.Module | None]) -> None:
    """Put `convert(name, module)` in the place of each module, outermost first; None keeps it.

    A replacement is not looked into again.
    """

    def walk(parent: nn.Module, prefix: str) -> None:
        for key, child in parent.named_children():
            new = convert(prefix + key, child)
            if new is None:
                walk(child, f"{prefix}{key}.")
            else:
                setattr(parent, key, new)

    walk(root, "")


def layers_left(root: nn.Module, handled: tuple[type, ...]) -> Skipped:
    """The modules below `root` with parameters of their own, and norms, that no `handled` took."""
    return [
        (name, f"{type(module).__name__} has no quantized form here: left in float")
        for name, module in root.named_modules()
        if name
        and not isinstance(module, handled)
        and (
            next(module.parameters(recurse=False), None) is not None
            or hasattr(module, "normalized_shape")  # a norm without gain and bias
        )
        # a handled layer may keep float parts inside it
        and not any(isinstance(parent, handled) for parent in _parents(root, name))
    ]


def _parents(root: nn.Module, name: str) -> list[nn.Module]:
    parts = name.split(".")
    return [root.get_submodule(".".join(parts[:end])) for end in range(1, len(parts))]


@torch.no_grad()
def fold_batch_norm(root: nn.Module) -> None:
    """Fold every BatchNorm2d that follows a convolution in a Sequential into it, in place.

    With the running statistics, as in evaluation: y = w (x - mean) / sqrt(var + eps) + b.
    """
    for module in root.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            conv, norm = module[index], module[index + 1]
            if type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d:
                continue
            if norm.running_var is None:
                continue
            gain = (norm.running_var + norm.eps).rsqrt()
            gain = gain if norm.weight is None else gain * norm.weight
            bias = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
            bias = bias * gain if norm.bias is None else bias * gain + norm.bias
            conv.weight = nn.Parameter(conv.weight * gain[:, None, None, None])
            conv.bias = nn.Parameter(bias)
            module[index + 1] = nn.Identity()


def note_skipped(context: Context, model: nn.Module, skipped: Skipped) -> None:
    """Put what a method left as it is into the cell's record; `model` tells the layers' types."""
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    for name, reason in skipped:
        kind = parameters.get(name) if name in parameters else modules[name]
        context.skipped(name, type(kind).__name__, reason)


def calibration_images(context: Context, count: int) -> Tensor:
    """The first `count` images of the calibration split, as the model wants them: (N, C, H, W)."""
    size = context.profile.architecture.image_size
    return context.data.normalise(context.data.calibration.head(count).images, size)
