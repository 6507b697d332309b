"""A small Vision Transformer as the study builds it, 17 tokens, its weights not all alike."""

import pytest
import torch
from torch import nn

from vitstudy import models
from vitstudy.profiles import Architecture


@pytest.fixture
def vit():
    """Two blocks, 16 patches and a class token, five classes; for images (B, 3, 16, 16)."""
    architecture = Architecture(
        width=24, depth=2, heads=2, mlp_ratio=2, image_size=16, stem=((8, 3, 2), (24, 3, 2))
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(architecture, 5, 3)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.2)
                nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
