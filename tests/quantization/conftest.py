"""A small Vision Transformer as the study builds it, with weights that are not all alike."""

import pytest
import torch
from torch import nn

from vitstudy import models
from vitstudy.profiles import Architecture


@pytest.fixture
def vit():
    """Two blocks, a convolutional stem with BatchNorm, five classes; for images (B, 3, 16, 16)."""
    architecture = Architecture(
        width=24, depth=2, heads=2, mlp_ratio=2, image_size=16, stem=((8, 3, 2), (24, 3, 2))
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
                nn.init.normal_(module.weight, 0, 0.2)
    return model.eval()
