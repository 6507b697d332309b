"""LSQ's 4-bit weights out of simulation: an ONNX file that ONNX Runtime runs as it is.

Linear layers become ONNX Runtime's MatMulNBits, whose kernels read 4-bit weights in blocks of one
scale each; LSQ has one scale a tensor, which is repeated for every block, so the integers and the
numbers they stand for are LSQ's own. The kernels take the activations as floats, or round them to
int8 block by block at run time (`activation_bits` 8). There are no 4-bit convolutions: a
convolution's weights are 4 bits in the file (ONNX's INT4, BatchNorm's gain in a scale a channel)
and become floats when it is run.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitstudy import models
from vitstudy.context import Context
from vitstudy.packing import pack as pack_bits
from vitstudy.quantization import lsq, onnx_runtime
from vitstudy.quantization.configs import OnnxFourBits
from vitstudy.quantization.layers import fold_batch_norm
from vitstudy.quantization.onnx_runtime import engine

BITS, ZERO_POINT = 4, 8
DOMAIN = "com.microsoft"  # of ONNX Runtime's own operators
BLOCK_SIZES = (256, 128, 64, 32, 16)
"""Weights a scale, those that the kernels know."""
ACCURACY_LEVELS = {32: 1, 8: 4}
"""MatMulNBits' own name for how it takes the activations, by their bits."""


# -- the mathematics ------------------------------------------------------------------------------


def block_size(columns: int) -> int:
    """Of the kernels' block sizes the one that makes a row of `columns` weights smallest.

    A block is its codes, half a byte each, and a scale of four bytes; the last one is filled up.
    """
    return min(BLOCK_SIZES, key=lambda size: -(-columns // size) * (size // 2 + 4))


def blocks(codes: Tensor, size: int) -> Tensor:
    """Signed 4-bit codes (N, K) as MatMulNBits wants them: (N, ceil(K / size), size / 2) bytes.

    Two codes a byte, the first in the low half, the zero point 8 added; rows are filled up with it.
    Raises ValueError for a code out of -8..7.
    """
    rows, columns = codes.shape
    short = -columns % size
    shifted = F.pad(codes.to(torch.int32) + ZERO_POINT, (0, short), value=ZERO_POINT)
    return pack_bits(shifted, BITS).view(rows, -1, size // 2)


# -- the graph ------------------------------------------------------------------------------------


def rewrite(content: bytes, layers: dict[str, tuple[Tensor, Tensor]], activation_bits: int):
    """The ONNX file with 4-bit weights in the layers named.

    layers: name -> codes of the layer's weight (N, K) or (N, C, h, w), and their scale, () or (N,),
    one a tensor for a matrix. Raises ValueError for a layer that the graph does not have.
    """
    onnx = engine("onnx")
    proto = onnx.load_from_string(content)
    graph, nodes, waiting = proto.graph, [], dict(layers)
    for node in graph.node:
        if node.name not in waiting:
            nodes.append(node)
            continue
        codes, scale = waiting.pop(node.name)
        change = _four_bit_product if codes.ndim == 2 else _four_bit_convolution
        tensors, made = change(onnx, node, codes, scale, activation_bits)
        graph.initializer.extend(tensors)
        nodes += made
    if waiting:
        raise ValueError(f"the ONNX file has no layer {', '.join(waiting)}")
    onnx_runtime.replace_nodes(graph, nodes)
    proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return onnx_runtime.serialized(proto)


def _four_bit_product(onnx, node, codes: Tensor, scale: Tensor, activation_bits: int):
    rows, columns = codes.shape
    size = block_size(columns)
    packed = blocks(codes, size)
    names = [f"{node.name}.codes", f"{node.name}.scales"]
    scales = scale.expand(packed.shape[:2])  # (N, blocks)
    tensors = [
        onnx.numpy_helper.from_array(value.contiguous().numpy(), name)
        for value, name in zip((packed, scales), names, strict=True)
    ]
    product = onnx.helper.make_node(
        "MatMulNBits",
        [node.input[0], *names],
        node.output,
        name=node.name,
        domain=DOMAIN,
        K=columns,
        N=rows,
        bits=BITS,
        block_size=size,
        accuracy_level=ACCURACY_LEVELS[activation_bits],
    )
    return tensors, [product]


def _four_bit_convolution(onnx, node, codes: Tensor, scale: Tensor, activation_bits: int):
    names = [f"{node.name}.codes", f"{node.name}.scales"]
    raw = pack_bits(codes.to(torch.int32) & 2**BITS - 1, BITS).numpy().tobytes()
    kind = onnx.TensorProto.INT4
    tensors = [
        onnx.helper.make_tensor(names[0], kind, list(codes.shape), raw, raw=True),
        onnx.numpy_helper.from_array(scale.expand(len(codes)).contiguous().numpy(), names[1]),
    ]
    weight = f"{node.name}.dequantized"
    read = onnx.helper.make_node("DequantizeLinear", names, [weight], name=weight, axis=0)
    node.input[1] = weight
    return tensors, [read, node]


# -- from LSQ's model -----------------------------------------------------------------------------


def convert(model: nn.Module, activation_bits: int = 32) -> bytes:
    """The ONNX file of an LSQ model whose layers all have 4-bit weights and float inputs.

    activation_bits: 32, or 8 for int8 at run time, block by block. Raises ValueError for other bits
    and for a model without LSQ's layers.
    """
    if activation_bits not in ACCURACY_LEVELS:
        raise ValueError(
            f"activation_bits={activation_bits} is none of the kernels'; valid: 32 (float) and 8"
        )
    learned = _layers(model)
    if not learned:
        raise ValueError("the model has no layers of LSQ")
    for name, layer in learned.items():
        if (layer.weight_bits, layer.input_bits) != (BITS, 32):
            raise ValueError(
                f"{name} has W{layer.weight_bits}A{layer.input_bits}: the kernels take W4A32"
            )
    dense = dense_of(model)
    gains = _gains(dense)
    layers = {}
    for name, layer in learned.items():
        gain = gains.get(name, torch.ones(()))
        layers[name] = (layer.codes(), layer.weight_step.detach() * gain)
    return rewrite(onnx_runtime.export(dense), layers, activation_bits)


def _layers(model: nn.Module) -> dict[str, lsq.LsqLinear | lsq.LsqConv2d]:
    kinds = (lsq.LsqLinear, lsq.LsqConv2d)
    return {name: each for name, each in model.named_modules() if isinstance(each, kinds)}


def dense_of(model: nn.Module) -> nn.Module:
    """The float model whose weights are the numbers that an LSQ model's codes stand for."""
    dense, state = models.skeleton(model.description), model.state_dict()
    for name, layer in _layers(model).items():
        state[f"{name}.weight"] = layer.rounded_weight().detach()
    dense.load_state_dict({name: state[name] for name in dense.state_dict()})
    return dense.eval()


def _gains(dense: nn.Module) -> dict[str, Tensor]:
    """What folding BatchNorm multiplies each channel (N,) of a convolution's weights with."""
    ones = deepcopy(dense)
    convolutions = {n: m for n, m in ones.named_modules() if isinstance(m, nn.Conv2d)}
    for module in convolutions.values():
        nn.init.ones_(module.weight)
    fold_batch_norm(ones)
    return {name: module.weight.detach()[:, 0, 0, 0] for name, module in convolutions.items()}


# -- the rows of the study ------------------------------------------------------------------------


def compress(context: Context[OnnxFourBits]) -> onnx_runtime.OnnxModel:
    """Convert the LSQ row's own model; nothing is trained."""
    model = context.model()
    content = convert(model, context.config.activation_bits)
    reason = "ONNX Runtime has 4-bit kernels for matrix products alone: float32"
    onnx_runtime.note_layers(context, model, list(model.lsq), reason)
    content = onnx_runtime.labelled(content, context.preprocessing)
    return onnx_runtime.run(content, dense_of(model))
