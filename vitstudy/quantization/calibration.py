"""How much a quantized model depends on its calibration images: how many, and which.

All of it is judged on the validation split, so that the test images are read for the record alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from vitstudy.context import Context
from vitstudy.quantization.uniform import sqnr_db

SMALLEST = 32


def sizes(available: int) -> list[int]:
    """32, 64, 128, … images, up to half of those `available`: beyond it, draws overlap too much."""
    half, found = max(1, available // 2), []
    while (size := SMALLEST * 2 ** len(found)) < half:
        found.append(size)
    return [*found, half]


def on_validation(context: Context, logits: Tensor, model: nn.Module) -> dict[str, np.ndarray]:
    """How `model` does on the validation split against the float model's `logits` (N, classes).

    `validation_accuracy` and, the float model's, `validation_accuracy_float`; `agreement`, the
    share of images that both put into one class; `logit_sqnr`, the logits' energy over their
    error's, dB. All ().
    """
    labels = context.data.validation.labels
    mine = context.evaluate(model, context.data.validation)
    found = {
        "validation_images": len(labels),
        "validation_accuracy_float": _share(logits.argmax(1) == labels),
        "validation_accuracy": _share(mine.argmax(1) == labels),
        "agreement": _share(mine.argmax(1) == logits.argmax(1)),
        "logit_sqnr": sqnr_db(logits, mine),
    }
    return {name: np.array(value) for name, value in found.items()}


def _share(which: Tensor) -> float:
    return which.double().mean().item()


def by_size(
    context: Context, logits: Tensor, quantized: Callable[[Tensor], nn.Module], draws: int
) -> dict[str, np.ndarray]:
    """`on_validation` of `quantized(images)` for `draws` random sets of images of each size.

    `calibration_sizes` (S,); `calibration_<measure>` (S, draws). A draw's smaller sets are the
    beginnings of its larger ones, so that sizes differ by the images that were added and by no
    others.
    """
    split, side = context.data.calibration, context.profile.architecture.image_size
    chosen = sizes(len(split))
    measures = ("validation_accuracy", "agreement", "logit_sqnr")
    found = {name: np.empty((len(chosen), draws)) for name in measures}
    for draw in range(draws):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(draw))
        for row, size in enumerate(chosen):
            images = context.data.normalise(split.images[order[:size]], side)
            measured = on_validation(context, logits, quantized(images))
            for name in measures:
                found[name][row, draw] = measured[name]
    named = {f"calibration_{name}": values for name, values in found.items()}
    return {"calibration_sizes": np.array(chosen), **named}
