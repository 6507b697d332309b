"""A small Vision Transformer in float64, and masks of it."""

import networks
import pytest
import torch

from vitstudy.pruning import slim


@pytest.fixture
def vit():
    return networks.vit(width=16, depth=3, spread=0.4).double()


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
