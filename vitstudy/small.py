"""Dense networks of the profile's shape but narrower, trained from scratch: controls of DiffQ.

One has the width that DiffQ's network has, the other as many bytes as DiffQ's file.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from vitstudy import measure, models
from vitstudy.configs import Narrower, SameBytes
from vitstudy.context import Context
from vitstudy.packing import payload_size
from vitstudy.profiles import Architecture


def narrowed(architecture: Architecture, width: int) -> Architecture:
    """`architecture` at another width: heads and the stem's channels in proportion, no weights.

    The heads are the most that divide the width and are not narrower than the architecture's.
    """
    head = architecture.width // architecture.heads
    heads = max(n for n in range(1, max(1, width // head) + 1) if width % n == 0)
    share = width / architecture.width
    stem = tuple((max(1, round(out * share)), *rest) for out, *rest in architecture.stem)
    return replace(architecture, width=width, heads=heads, stem=stem, timm_name="")


def build(context: Context, width: int) -> nn.Module:
    """The profile's ViT at `width`, its weights drawn by the cell's seed."""
    spec = context.data.spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return models.build(
            narrowed(context.profile.architecture, width), spec.num_classes, spec.channels
        )


def share_of_width(context: Context, share: float) -> int:
    """The width that is `share` of the profile's, at least 1."""
    return max(1, round(context.profile.architecture.width * share))


def width_for_bytes(context: Context, size: int) -> int:
    """The greatest width at which the parameters in float take at most `size` bytes; at least 1."""
    spec, architecture = context.data.spec, context.profile.architecture

    def bytes_at(width: int) -> int:
        smaller = narrowed(architecture, width)
        return 4 * measure.vit_parameters(smaller, spec.num_classes, spec.channels)

    fitting = (w for w in range(architecture.width, 1, -1) if bytes_at(w) <= size)
    return next(fitting, 1)


def compress(context: Context[Narrower | SameBytes]) -> nn.Module:
    """Train the narrower network by the profile's own recipe."""
    config = context.config
    if isinstance(config, SameBytes):
        width = width_for_bytes(context, payload_size(context.artifacts[config.bytes_of]))
    else:
        width = share_of_width(context, config.width)
    return context.fit(build(context, width))
