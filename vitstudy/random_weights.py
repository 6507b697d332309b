"""The networks of the papers' rows at random weights, as their methods leave them.

What depends on the weights is arbitrary in them. The size of their files, their parameters and
their arithmetic are those of the trained networks, but for bits that training learns.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import fields
from typing import Any

import torch
from torch import nn

from vitstudy import methods, models, narrow
from vitstudy.attention import nystrom
from vitstudy.distillation import deit
from vitstudy.methods import Method
from vitstudy.profiles import Architecture
from vitstudy.pruning import slim
from vitstudy.pruning.slim import Masks, Shape
from vitstudy.quantization import diffq, dynamic, fq_vit, lsq

CALIBRATION_IMAGES = 8


def uniform_masks(shape: Shape, r: float) -> Masks:
    """Make masks that keep one share of every kind of dimension and remove r of all parameters.

    The share is the greatest, in steps of one dimension of the MLP, at which at least r go. Raises
    UserError where it would empty a layer.
    """

    def masks(gone: int) -> Masks:
        return slim.uniform(shape, 1 - gone / shape.hidden)

    steps = range(shape.hidden)
    return masks(bisect_left(steps, r, key=lambda gone: slim.removed(masks(gone), shape)))


def build(method: Method, architecture: Architecture, num_classes: int, channels: int) -> nn.Module:
    """Build the network of a row in evaluation mode, its weights from torch's global generator.

    A cut takes the same share of every kind of dimension, and a calibration sees random images.
    Raises ValueError for a row of a module that is not known here.
    """
    options, classes = method.options, (num_classes, channels)

    def parent() -> nn.Module:
        return build(methods.get(method.parents[0]), architecture, *classes)

    def chosen(*names: str) -> dict[str, Any]:
        return {name: options[name] for name in names if name in options}

    shape, width = architecture, round(architecture.width * options.get("width", 1))
    if width != shape.width:
        shape = narrow.narrowed(shape, width)
    match method.module.removeprefix("vitstudy."):
        case "baseline" | "pruning.gates":  # a cut takes the gates out again
            return models.build(shape, *classes).eval()
        case "quantization.dynamic":
            return dynamic.quantize(parent())
        case "quantization.fq_vit":
            settings = fq_vit.Options(**chosen(*(field.name for field in fields(fq_vit.Options))))
            images = torch.randn(CALIBRATION_IMAGES, channels, *2 * [shape.image_size])
            return fq_vit.quantize_model(parent(), images, settings)[0]
        case "quantization.lsq":
            return lsq.prepare(parent(), **chosen("weight_bits", "activation_bits", "start"))[0]
        case "quantization.diffq":
            whole = models.build(shape, *classes)
            return diffq.DiffQ(whole, **chosen("group_size")).quantized()
        case "distillation.deit":
            return deit.build(shape, *classes).eval()
        case "pruning.cut":
            whole = parent()
            return slim.slim(whole, uniform_masks(slim.shape_of(whole), options["r"]))
        case "pruning.tune":
            return parent()
        case "attention.nystrom":
            landmarks = chosen("num_landmarks", "class_token", "iterations")
            return models.changed(parent(), nystrom.__name__, **landmarks)
    raise ValueError(f"{method.key}: what {method.module} makes cannot be built without training")
