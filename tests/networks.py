"""Small Vision Transformers as the study builds them, for images (B, 3, 16, 16)."""

import torch
from torch import nn

from vitstudy import models
from vitstudy.profiles import Architecture


def vit(*, width: int = 24, depth: int = 2, spread: float = 0.2) -> nn.Module:
    """16 patches and a class token, five classes, two heads, a stem with BatchNorm.

    No two of its weights are alike, those of its norms included; `spread` is the deviation of the
    linear layers'.
    """
    stem = ((8, 3, 2), (width, 3, 2))
    architecture = Architecture(
        width=width, depth=depth, heads=2, mlp_ratio=2, image_size=16, stem=stem
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(architecture, 5, 3)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias, 0, 0.3)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, spread)
                nn.init.normal_(module.bias, 0, spread)
    return model.eval()
