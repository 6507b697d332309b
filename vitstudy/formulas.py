"""Parameters and multiply-accumulates of a Vision Transformer by formula, without building it."""

from __future__ import annotations

from vitstudy.profiles import Architecture


def stem(architecture: Architecture, channels: int) -> tuple[int, int]:
    """Count, by formula, the parameters and MACs of the layers that turn an image into tokens."""
    side = architecture.image_size
    if not architecture.stem:
        weights = channels * architecture.patch_size**2 * architecture.width
        return weights + architecture.width, weights * (side // architecture.patch_size) ** 2
    parameters = macs = 0
    for out, kernel, stride in architecture.stem:
        side = -(-side // stride)
        weights = channels * kernel**2 * out
        parameters += weights + 2 * out  # BatchNorm's scale and shift
        macs += weights * side**2
        channels = out
    return parameters, macs


def vit_parameters(architecture: Architecture, num_classes: int, channels: int) -> int:
    """Count the parameters of the ViT of `architecture` by formula."""
    width, hidden = architecture.width, round(architecture.width * architecture.mlp_ratio)
    tokens = (architecture.image_size // architecture.patch_size) ** 2 + 1
    block = 4 * width * width + 4 * width + 2 * width * hidden + hidden + width + 4 * width
    embeddings = width + tokens * width  # class token, positions
    head = 2 * width + width * num_classes + num_classes
    return stem(architecture, channels)[0] + embeddings + architecture.depth * block + head


def vit_macs(architecture: Architecture, num_classes: int, channels: int) -> int:
    """Count the multiply-accumulates of one image through the ViT of `architecture` by formula.

    They are those of matrix products and convolutions; norms, softmax and GELU do not count, as is
    usual.
    """
    width, hidden = architecture.width, round(architecture.width * architecture.mlp_ratio)
    tokens = (architecture.image_size // architecture.patch_size) ** 2 + 1
    block = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    return stem(architecture, channels)[1] + architecture.depth * block + width * num_classes
