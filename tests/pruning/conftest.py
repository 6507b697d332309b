"""A small Vision Transformer in float64 with weights that are not all alike, and masks of it."""

import pytest
import torch
from torch import nn

from vitstudy import models
from vitstudy.profiles import Architecture
from vitstudy.pruning import slim


@pytest.fixture
def vit():
    """Three blocks of two heads, five classes; for images (B, 3, 16, 16)."""
    architecture = Architecture(
        width=16, depth=3, heads=2, mlp_ratio=2, image_size=16, stem=((8, 3, 2), (16, 3, 2))
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(architecture, 5, 3)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias, 0, 0.3)
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.4)
                nn.init.normal_(module.bias, 0, 0.4)
    return model.double().eval()


@pytest.fixture
def images():
    return torch.randn(6, 3, 16, 16, dtype=torch.float64, generator=torch.manual_seed(1))


@pytest.fixture
def cut_at_random():
    """Masks of a shape by a seed: each dimension stays by chance, one at least in every layer."""

    def make(shape: slim.Shape, seed: int, keep: float = 0.6) -> slim.Masks:
        generator = torch.Generator().manual_seed(seed)
        masks = {}
        for name, mask in slim.full(shape).items():
            masks[name] = torch.rand(len(mask), generator=generator) < keep
            masks[name][torch.randint(len(mask), (1,), generator=generator)] = True
        return masks

    return make
