"""torchao's dynamic int8, the successor of PyTorch's own: what the papers' row would be made with.

Every linear layer's weight is int8 with one scale an output channel; the activations are int8 with
one scale a token, from the token's largest value at run time; both are symmetric and the products
are integers. It is run here as it is, not compiled: without torch.compile rounding the activations
is a pass of its own. Convolutions, norms and attention's products stay in float.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import Tensor, nn

from vitstudy import measure, models
from vitstudy.context import Context
from vitstudy.quantization.layers import copy_of_float_model
from vitstudy.quantization.onnx_runtime import engine, note_layers, quiet

REASON = "torchao's int8 is of linear layers"


class TorchaoModel(nn.Module):
    """A network with torchao's int8 linear layers; for images (B, C, H, W) on the CPU.

    It stays on the CPU by itself: torch cannot swap torchao's tensors where it infers, not even for
    their own copies. Raises ValueError where it is sent elsewhere.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.description = network, network.description
        self.quantized_by = "torchao"

    def forward(self, images: Tensor) -> Tensor:
        if not len(images):  # torchao finds no range of no activations
            return torch.empty(0, self.description["num_classes"])
        return self.network(images)

    def __reduce__(self) -> tuple:
        # torchao's tensors cannot be pickled: what goes into the file can.
        state = {"training": self.training, "preprocessing": getattr(self, "preprocessing", None)}
        return unpack, pack(self), state

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> TorchaoModel:
        wanted = function(torch.zeros(()))
        if (wanted.device.type, wanted.dtype) != ("cpu", torch.float32):
            raise ValueError("torchao's int8 model runs on the CPU, float32 outside its layers")
        return self

    def linear(self) -> dict[str, nn.Linear]:
        """The quantized layers by name."""
        modules = self.network.named_modules()
        return {name: each for name, each in modules if isinstance(each, nn.Linear)}


def _quantize(network: nn.Module) -> TorchaoModel:
    """Quantize the linear layers in place."""
    torchao = engine("torchao.quantization")
    with quiet():
        torchao.quantize_(network, torchao.Int8DynamicActivationInt8WeightConfig())
    return TorchaoModel(network)


def quantize(model: nn.Module) -> TorchaoModel:
    """A float model with int8 linear layers; raises ValueError where it is quantized already."""
    network = copy_of_float_model(model)
    network.description = model.description
    return _quantize(network)


def pack(model: TorchaoModel) -> tuple[dict[str, Tensor], dict]:
    """Integers and scales of the quantized layers, the other tensors as they are."""
    tensors = dict(model.network.state_dict())
    for name, layer in model.linear().items():
        weight = layer.weight
        if weight.zero_point is not None and weight.zero_point.any():
            raise ValueError(f"{name}: a symmetric weight with a zero point")
        tensors[f"{name}.weight"], tensors[f"{name}.scale"] = weight.qdata, weight.scale
    return tensors, model.description


def unpack(tensors: dict[str, Tensor], description: dict) -> TorchaoModel:
    """The model that `pack` took apart: torchao's own layers around the file's integers."""
    network, tensors, kept = models.skeleton(description), dict(tensors), {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear):
            kept[name] = tensors.pop(f"{name}.weight"), tensors.pop(f"{name}.scale")
            tensors[f"{name}.weight"] = torch.zeros_like(layer.weight)  # only for its shape
    network.load_state_dict(tensors)
    model = _quantize(network.eval())
    for name, layer in model.linear().items():
        own = layer.weight.qdata, layer.weight.scale
        for tensor, given in zip(own, kept[name], strict=True):
            if (tensor.shape, tensor.dtype) != (given.shape, given.dtype):
                raise ValueError(f"{name}: {given.dtype} {tuple(given.shape)} does not fit")
            tensor.copy_(given)
    return model


def facts(model: nn.Module, image: Tensor) -> dict:
    """The record's fields that torch's counter, which does not know torchao's products, misses.

    Int8 changes no product's shape, so the float network's multiply-accumulates are its own.
    """
    return {
        "parameters": measure.count_parameters(model),
        "macs": measure.count_macs_of(models.skeleton(model.description), image),
        "engine": {
            "name": "torchao",
            "version": version("torchao"),
            "opset": None,
            "provider": "torch on the CPU, not compiled",
            "instruction_sets": measure.instruction_sets(),
        },
    }


def compress(context: Context) -> TorchaoModel:
    """Quantize the baseline; there is nothing to train or to calibrate."""
    dense = context.model()
    model = quantize(dense)
    note_layers(context, dense, list(model.linear()), REASON)
    return model
