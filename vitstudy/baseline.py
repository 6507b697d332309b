"""The vanilla Vision Transformer, trained by the study itself: what every method starts from.

Dosovitskiy et al., An Image Is Worth 16x16 Words, 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from vitstudy import models
from vitstudy.context import Context

SAMPLES = 4_096
"""Activations kept of each tensor, and at most so many weights a side."""


def start(context: Context[Any]) -> nn.Module:
    """Build the ViT that training begins with: drawn by the seed, or of the named weights."""
    architecture, spec = context.profile.architecture, context.data.spec
    make = models.pretrained if architecture.timm_name else models.build
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return make(architecture, spec.num_classes, spec.channels)


def compress(context: Context[Any]) -> nn.Module:
    """Train the profile's ViT from scratch, or fine-tune it where the profile names weights."""
    return context.fit(start(context))


def analyse(context: Context[Any], model: nn.Module) -> dict[str, np.ndarray]:
    """Weights and activations of the last block, for the notebooks that quantize real tensors.

    Activations are those of the first 64 calibration images: (samples,) drawn evenly, and the
    last LayerNorm's inputs as minimum and maximum a channel, (D,).
    """
    block = model.blocks[-1]
    inputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            inputs[name] = arguments[0].detach().cpu()

        return hook

    watched = {
        "qkv_input": block.attn.qkv,
        "fc1_input": block.mlp.fc1,
        "fc2_input": block.mlp.fc2,
        "norm_input": model.norm,
    }
    hooks = [module.register_forward_pre_hook(keep(name)) for name, module in watched.items()]
    try:
        context.evaluate(model, context.data.calibration.head(64))
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, module in (("qkv", block.attn.qkv), ("fc1", block.mlp.fc1), ("fc2", block.mlp.fc2)):
        weight = module.weight.detach().cpu()
        found[f"{name}_weight"] = weight[: SAMPLES // 16, : SAMPLES // 16].numpy()
    norm_input = inputs["norm_input"].flatten(0, 1)
    found["norm_input_min"] = norm_input.amin(0).numpy()
    found["norm_input_max"] = norm_input.amax(0).numpy()
    for name, tensor in inputs.items():
        flat = tensor.flatten()
        found[name] = flat[:: max(1, len(flat) // SAMPLES)][:SAMPLES].numpy()
    return found
