"""Dynamic quantization, PyTorch's own: int8 weights, activations quantized at run time.

What the papers' row is made with. Every linear layer's weight becomes int8 with one scale a tensor
(symmetric, so its zero point is 0); each batch of activations gets a scale and a zero point from
its own minimum and maximum, on 7 of 8 bits (PyTorch's "reduced range", which keeps 16-bit sums
from overflowing); the products are real integer arithmetic. Convolutions, norms, attention's
products and softmax stay in float.
"""

from __future__ import annotations

import contextlib
import warnings

import torch
from torch import Tensor, nn

from vitstudy import models
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.structure import call_layers


@contextlib.contextmanager
def _eager_quantization():
    """PyTorch's eager-mode quantization, its announced end not repeated to the user at each use."""
    with warnings.catch_warnings():
        for about in ("quantiz", "TypedStorage"):
            warnings.filterwarnings("ignore", message=f"(?s).*{about}")
        try:
            from torch.ao.nn.quantized.dynamic import Linear
            from torch.ao.quantization import quantize_dynamic
        except ImportError as error:
            raise UserError(
                f"torch {torch.__version__} no longer has torch.ao.quantization, which the rows of "
                "Dynamic Quantization are made with; install the torch of requirements.lock"
            ) from error
        yield quantize_dynamic, Linear


def quantize(model: nn.Module) -> nn.Module:
    """A copy of `model` whose linear layers, `nn.Linear` itself, are PyTorch's dynamic ones.

    Raises UserError where they already are, or where this torch has no such layers.
    """
    with _eager_quantization() as (quantize_dynamic, Linear):
        if any(isinstance(module, Linear) for module in model.modules()):
            raise UserError("the model is dynamically quantized already")
        quantized = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    return call_layers(quantized)


def compress(context: Context) -> nn.Module:
    """Quantize the baseline; there is nothing to train or to calibrate."""
    model = context.model()
    for name, module in model.named_modules():
        if type(module) is nn.Linear:
            context.touched(name)
        elif next(module.parameters(recurse=False), None) is not None:
            reason = "PyTorch's dynamic quantization is of linear layers"
            context.skipped(name or "(model)", type(module).__name__, reason)
    return quantize(model)


def pack(model: nn.Module) -> tuple[dict[str, Tensor], dict]:
    """Integers, scales and zero points of the quantized layers, the other tensors as they are."""
    tensors, packed = {}, set()
    with _eager_quantization() as (_, Linear):
        for name, module in model.named_modules():
            if isinstance(module, Linear):
                weight, bias = module._weight_bias()
                tensors[f"{name}.weight"] = weight.int_repr()
                tensors[f"{name}.scale"] = torch.tensor(weight.q_scale(), dtype=torch.float64)
                tensors[f"{name}.zero_point"] = torch.tensor(weight.q_zero_point())
                if bias is not None:
                    tensors[f"{name}.bias"] = bias
                packed.add(name)
    own = tuple(f"{name}." for name in packed)  # their state repeats what was taken out above
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor) and not name.startswith(own):
            tensors[name] = tensor
    return tensors, models.described(model)


def why_not_exported(model: nn.Module) -> str:
    """Why `torch.export` takes no such model."""
    return "torch.export knows no value for PyTorch's packed int8 weights"


def unpack(tensors: dict[str, Tensor], description: dict) -> nn.Module:
    """The quantized model, its integers packed again for the engine of this machine."""
    integers = {name for name, tensor in tensors.items() if tensor.dtype == torch.int8}
    quantized = {name.removesuffix(".weight") for name in integers}
    quantized = {name for name in quantized if f"{name}.scale" in tensors}
    dense = {
        name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] not in quantized
    }
    shell = models.skeleton(description)
    missing, unexpected = shell.load_state_dict(dense, strict=False)
    if unexpected or {name.rpartition(".")[0] for name in missing} != quantized:
        raise UserError("the quantized file does not hold the tensors of the model it describes")
    with _eager_quantization() as (_, Linear):
        for name in quantized:
            weight = torch._make_per_tensor_quantized_tensor(
                tensors[f"{name}.weight"],
                tensors[f"{name}.scale"].item(),
                int(tensors[f"{name}.zero_point"]),
            )
            layer = Linear(weight.shape[1], weight.shape[0])
            layer.set_weight_bias(weight, tensors.get(f"{name}.bias"))
            parent, _, leaf = name.rpartition(".")
            setattr(shell.get_submodule(parent), leaf, layer)
    return shell
