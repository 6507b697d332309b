"""Dense networks of the profile's shape but narrower, trained from scratch: controls of DiffQ.

One has the width that DiffQ's network has, the other as many bytes as DiffQ's file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vitstudy import formulas, models
from vitstudy.configs import Narrower, SameBytes
from vitstudy.context import Context
from vitstudy.packing import payload_size
from vitstudy.profiles import Architecture


def narrowed(architecture: Architecture, width: int) -> Architecture:
    """Return `architecture` at another width, with heads and the stem's channels in proportion.

    The result names no pretrained weights. The heads are the most that divide the width and are not
    narrower than the architecture's.
    """
    head = architecture.width // architecture.heads
    most = max(1, width // head)
    heads = max(count for count in range(1, most + 1) if width % count == 0)
    share = width / architecture.width
    stem = tuple(
        (max(1, round(channels * share)), kernel, stride)
        for channels, kernel, stride in architecture.stem
    )
    return replace(architecture, width=width, heads=heads, stem=stem, timm_name="")


def build(context: Context[Any], width: int) -> nn.Module:
    """Build the profile's ViT at `width`, its weights drawn by the cell's seed."""
    spec = context.data.spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        return models.build(
            narrowed(context.profile.architecture, width), spec.num_classes, spec.channels
        )


def share_of_width(context: Context[Any], share: float) -> int:
    """Return the width that is `share` of the profile's, at least 1."""
    return max(1, round(context.profile.architecture.width * share))


def width_for_bytes(context: Context[Any], size: int) -> int:
    """Return the greatest width whose float parameters take at most `size` bytes; at least 1."""
    spec, architecture = context.data.spec, context.profile.architecture

    def bytes_at(width: int) -> int:
        narrower = narrowed(architecture, width)
        return 4 * formulas.vit_parameters(narrower, spec.num_classes, spec.channels)

    widths = range(architecture.width, 1, -1)
    fitting = (width for width in widths if bytes_at(width) <= size)
    return next(fitting, 1)


def compress(context: Context[Narrower | SameBytes]) -> nn.Module:
    """Train the narrower network by the profile's own recipe."""
    config = context.config
    if isinstance(config, SameBytes):
        width = width_for_bytes(context, payload_size(context.artifacts[config.bytes_of]))
    else:
        width = share_of_width(context, config.width)
    return context.fit(build(context, width))
