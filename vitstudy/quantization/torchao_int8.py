"""torchao's dynamic int8, the successor of PyTorch's own: what the papers' row would be made with.

Every linear layer's weight is int8 with one scale an output channel; the activations are int8 with
one scale a token, from the token's largest value at run time; both are symmetric and the products
are integers. It is run here as it is, not compiled: without torch.compile rounding the activations
is a pass of its own. Convolutions, norms and attention's products stay in float.
"""

from __future__ import annotations

from copy import deepcopy
from importlib.metadata import version

import torch
from torch import Tensor, nn

from vitstudy import measure, models
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.quantization.layers import copy_of_float_model, reading_a_file
from vitstudy.quantization.onnx_runtime import engine, note_layers, quiet

REASON = "torchao's int8 is of linear layers"


def _quantize(model: nn.Module) -> nn.Module:
    """Quantize the linear layers in place."""
    torchao = engine("torchao.quantization")
    with quiet():
        torchao.quantize_(model, torchao.Int8DynamicActivationInt8WeightConfig())
    model.quantized_by = "torchao"
    return model


def quantize(model: nn.Module) -> nn.Module:
    """A copy of a float model with int8 linear layers; raises ValueError where it is quantized."""
    return _quantize(copy_of_float_model(model))


def _linear(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear)}


def pack(model: nn.Module) -> tuple[dict[str, Tensor], dict]:
    """Integers and scales of the quantized layers, the other tensors as they are."""
    tensors = {name: tensor for name, tensor in model.state_dict().items()}
    for name, layer in _linear(model).items():
        weight = layer.weight
        if weight.zero_point is not None and weight.zero_point.any():
            raise ValueError(f"{name}: torchao's symmetric int8 has a zero point")
        tensors[f"{name}.weight"], tensors[f"{name}.scale"] = weight.qdata, weight.scale
    return tensors, model.description


def unpack(tensors: dict[str, Tensor], description: dict) -> nn.Module:
    """The model that `pack` took apart: torchao's own layers around the file's integers."""
    with reading_a_file("torchao"):
        model = models.skeleton(description)
        tensors, kept = dict(tensors), {}
        for name, layer in _linear(model).items():
            kept[name] = tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.scale")
            tensors[f"{name}.weight"] = torch.zeros_like(layer.weight)
        model.load_state_dict(tensors)
        _quantize(model.eval())
        for name, layer in _linear(model).items():
            for own, given in zip(
                (layer.weight.qdata, layer.weight.scale), kept[name], strict=True
            ):
                if (own.shape, own.dtype) != (given.shape, given.dtype):
                    raise ValueError(f"{name}: {given.dtype} {tuple(given.shape)} is no weight")
                own.copy_(given)
    return model


def facts(model: nn.Module, image: Tensor) -> dict:
    """The record's fields that torch's counter, which does not know torchao's products, misses.

    Int8 changes no product's shape, so the float network's multiply-accumulates are its own.
    """
    return {
        "parameters": measure.count_parameters(model),
        "macs": measure.count_macs(
            models.skeleton(model.description), image.shape[-1], image.shape[1]
        ),
        "engine": {
            "name": "torchao",
            "version": version("torchao"),
            "opset": None,
            "provider": "torch on the CPU, not compiled",
            "instruction_sets": measure.instruction_sets(),
        },
    }


def compress(context: Context) -> nn.Module:
    """Quantize the baseline; there is nothing to train or to calibrate."""
    model = context.model()
    note_layers(context, model, list(_linear(model)), REASON)
    return quantize(model)
