"""ONNX Runtime: the baseline as an ONNX file, in float32 or dynamically quantized to int8.

What practitioners run in place of the papers' row. Of the int8 file every matrix product with a
weight is integer arithmetic: the weight is uint8 with a scale and a zero point an output channel,
the activations are uint8 with one scale and zero point a tensor, from the minimum and maximum of
the batch at hand, as PyTorch's dynamic quantization has them (there on 7 of 8 bits, here on all 8).
The float32 file is the control: is it the engine, or the integers?

The weights are unsigned because that is exact on every processor. One without 8-bit dot products
(VNNI and its like) adds the products of unsigned activations with signed weights in pairs of 16
bits, which saturate. On such a processor (AMD EPYC, AVX2), of 10,000 test images of CIFAR-10 and
CIFAR-100 the signed file of `cifar-cpu`'s baseline gave 54 and 276 another class than the float
one, the unsigned 22 and 125, weights of 7 signed bits (`reduce_range`) 22 and 131; accuracies
87.36, 87.39, 87.36 % and 65.06, 64.96, 65.10 %. The unsigned file has 0.92 to 0.95 times the
images/s of the signed one there, 1.10 to 1.16 times those of the float one.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from vitstudy import measure, structure
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.quantization.configs import OnnxRuntime
from vitstudy.quantization.layers import copy_of_float_model, fold_batch_norm

OPSET = 21
"""Of the files: the first with 4-bit integers, and attention is still plain matrix products."""
PROVIDER = "CPUExecutionProvider"
PRODUCTS = ("MatMul", "MatMulInteger", "MatMulNBits", "Conv")

# -- the engine -----------------------------------------------------------------------------------


def engine(name: str) -> ModuleType:
    """The module `name` of an engine; raises UserError where it is not installed."""
    try:
        with quiet():
            return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise  # it is there, but lacks something itself
        raise UserError(
            f"{error.name} is not installed: pip install -c requirements.lock {error.name}"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters and quantizers warn of from the user, and logging as it was."""
    root, before = logging.getLogger(), logging.root.manager.disable
    handlers = root.handlers[:]
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.handlers[:] = handlers  # `logging.warning` gives the root logger one


class OnnxModel(nn.Module):
    """An ONNX file run by ONNX Runtime: float32 images (B, C, H, W) on the CPU to logits (B, K).

    The engine computes with as many threads as torch has. Raises UserError where the bytes are no
    model that it can run.
    """

    def __init__(self, content: bytes, description: dict):
        super().__init__()
        self.content, self.description = content, description
        self.quantized_by = "ONNX Runtime"  # no longer a float model that a method could take
        self._start()

    def _start(self) -> None:
        self.threads = torch.get_num_threads()
        self.session = _session(self.content, self.threads)

    def forward(self, images: Tensor) -> Tensor:
        """Logits in float32, whatever kind of float the images are; of no images none.

        Raises ValueError for images of another shape than the file was made for.
        """
        if self.threads != torch.get_num_threads():
            self._start()
        (given,), (made,) = self.session.get_inputs(), self.session.get_outputs()
        if images.ndim != 4 or list(images.shape[1:]) != given.shape[1:]:
            raise ValueError(
                f"images of {tuple(images.shape)}, where (B, *{given.shape[1:]}) go in"
            )
        if not len(images):
            return torch.empty(0, made.shape[1])
        (logits,) = self.session.run(None, {"images": images.float().numpy()})
        return torch.from_numpy(logits)

    def __getstate__(self) -> dict:
        # A session can be neither copied nor pickled; a new one is started from the same bytes.
        return {name: value for name, value in self.__dict__.items() if name != "session"}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._start()

    def extra_repr(self) -> str:
        return f"{len(self.content):,} bytes of ONNX, opset {opset(self.content)}"


def _session(content: bytes, threads: int):
    runtime = engine("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    kinds = engine("onnxruntime.capi.onnxruntime_pybind11_state")
    refusals = (kinds.Fail, kinds.InvalidArgument, kinds.InvalidGraph, kinds.InvalidProtobuf)
    try:
        return runtime.InferenceSession(content, options, providers=[PROVIDER])
    except (*refusals, kinds.NotImplemented, kinds.RuntimeException) as error:
        line = " ".join(str(error).split())[:200]
        raise UserError(
            f"ONNX Runtime {runtime.__version__} does not run the ONNX file ({line}): "
            "remove it and run its cell again"
        ) from error


# -- from a model to an ONNX file -----------------------------------------------------------------


def export(model: nn.Module) -> bytes:
    """The ONNX file (opset 21, any batch) of a float model; BatchNorm is folded first.

    A node with a weight has the name of its layer, and a linear layer is MatMul, then Add. Raises
    ValueError for a model already quantized, UserError where the exporter is not installed.
    """
    for name in ("onnx", "onnxscript"):
        engine(name)
    given, model = model.description, copy_of_float_model(model)
    fold_batch_norm(model)
    shape = structure.image_shape(given)
    with quiet():
        program = torch.onnx.export(
            model,
            (torch.zeros(2, *shape),),  # one image would be taken for a constant
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    proto = program.model_proto
    _name_by_layer(proto.graph, {name for name, _ in model.named_modules()})
    _linear_as_product(proto.graph)
    return serialized(proto)


def _name_by_layer(graph, layers: set[str]) -> None:
    """Give the nodes that hold a layer's product the layer's name."""
    for node in graph.node:
        notes = {note.key: note.value for note in node.metadata_props}
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
        inside = [scope for scope in scopes if scope in layers and scope]
        if inside and node.op_type in ("Conv", "Gemm", "MatMul") and len(scopes) > 1:
            if scopes[-2] == inside[-1] and weight_of(graph, node) is not None:
                node.name = inside[-1]


def weight_of(graph, node):
    """The constant tensor that is the second factor of `node`; None for two activations."""
    return next((each for each in graph.initializer if each.name == node.input[1]), None)


def _linear_as_product(graph) -> None:
    """Write Gemm, x W^T + b, as MatMul and Add, in which form the quantizers look for layers."""
    onnx, nodes = engine("onnx"), []
    for node in graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        given = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        weight = weight_of(graph, node)
        if weight is None or given.get("transA"):
            raise ValueError(f"{node.name}: a Gemm that is no linear layer")
        if (given.get("alpha", 1.0), given.get("beta", 1.0)) != (1.0, 1.0):
            raise ValueError(f"{node.name}: a Gemm with factors of its own")
        if given.get("transB"):
            node.input[1] = f"{node.name}.weight_turned"
            turned = onnx.numpy_helper.to_array(weight).T.copy()
            graph.initializer.append(onnx.numpy_helper.from_array(turned, node.input[1]))
        make, product = onnx.helper.make_node, node.output[0]
        if bias := node.input[2:]:  # the exporter leaves zeros away
            product = f"{node.name}_product"
            after = make("Add", [product, *bias], node.output, name=f"{node.name}_bias")
        nodes.append(make("MatMul", node.input[:2], [product], name=node.name))
        nodes += [after] if bias else []
    replace_nodes(graph, nodes)


def replace_nodes(graph, nodes: list) -> None:
    """Give `graph` other nodes, and drop the constants that none of them needs."""
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    tensors = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def serialized(proto) -> bytes:
    """The bytes of an ONNX model without the exporter's notes, which name files of this machine."""
    graph = proto.graph
    del graph.value_info[:], proto.metadata_props[:], graph.metadata_props[:]
    for each in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del each.metadata_props[:]
        each.doc_string = ""
    proto.doc_string = graph.doc_string = ""
    return proto.SerializeToString(deterministic=True)


def labelled(content: bytes, preprocessing: dict) -> bytes:
    """The ONNX file with what `data.preprocessing` says in its metadata, lists as JSON."""
    onnx = engine("onnx")
    proto = onnx.load_from_string(content)
    onnx.helper.set_model_props(
        proto, {name: json.dumps(value).strip('"') for name, value in preprocessing.items()}
    )
    return proto.SerializeToString(deterministic=True)


def opset(content: bytes) -> int:
    """The version of ONNX's operators that a file asks for."""
    proto = engine("onnx").load_from_string(content)
    return next(each.version for each in proto.opset_import if not each.domain)


def quantize(content: bytes) -> bytes:
    """ONNX Runtime's dynamic quantization of every matrix product with a weight.

    Raises UserError where the file has integer products already, ValueError where a product with a
    weight was left in float.
    """
    onnx, quantization = engine("onnx"), engine("onnxruntime.quantization")
    proto = onnx.load_from_string(content)
    if any("Integer" in node.op_type or "NBits" in node.op_type for node in proto.graph.node):
        raise UserError("the ONNX file is quantized already: start from the float32 one")
    products = [node for node in proto.graph.node if node.op_type == "MatMul"]
    wanted = {node.name for node in products if weight_of(proto.graph, node) is not None}
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "int8.onnx"  # ONNX Runtime gives the result as a file alone
        quantization.quantize_dynamic(
            proto,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=quantization.QuantType.QUInt8,
            extra_options={"MatMulConstBOnly": True},  # attention's products stay in float
        )
        proto = onnx.load(path)
    if left := wanted - set(integer_layers(proto.graph)):
        raise ValueError(f"ONNX Runtime left {', '.join(sorted(left))} in float")
    return serialized(proto)


def weight_types(content: bytes) -> list[str]:
    """The types of the integers that a file's products take as weights, such as `uint8`."""
    onnx = engine("onnx")
    graph = onnx.load_from_string(content).graph
    weights = [
        weight_of(graph, node)
        for node in graph.node
        if node.op_type in ("MatMulInteger", "MatMulNBits")
    ]
    names = {onnx.TensorProto.DataType.Name(each.data_type).lower() for each in weights}
    return sorted(names)


def integer_layers(graph) -> list[str]:
    """The layers whose products are of integers, in the graph's order."""
    return [
        node.name.removesuffix("_quant")
        for node in graph.node
        if node.op_type in ("MatMulInteger", "MatMulNBits")
    ]


# -- what is measured of it -----------------------------------------------------------------------


def count_macs(content: bytes, image: Tensor) -> int:
    """Multiply-accumulates of one image (1, C, H, W), counted where the engine runs it.

    Every product of the graph is made an output for once, so that its shape is that of what was
    computed. An output value takes as many as the product has terms: the rows of the second factor,
    or the weights of a convolution's channel.
    """
    onnx = engine("onnx")
    proto = onnx.load_from_string(content)
    nodes = [node for node in proto.graph.node if node.op_type in PRODUCTS]
    seen = {name for node in nodes for name in (node.input[0], node.input[1], node.output[0])}
    constant = {each.name: list(each.dims) for each in proto.graph.initializer}
    outputs = {each.name for each in proto.graph.output}
    wanted = sorted(seen - set(constant) - outputs - {"images"})
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    session = _session(proto.SerializeToString(), torch.get_num_threads())
    names = [each.name for each in session.get_outputs()]
    found = session.run(names, {"images": image.numpy()})
    shapes = {name: list(value.shape) for name, value in zip(names, found, strict=True)}
    shapes |= constant | {"images": list(image.shape)}
    total = 0
    for node in nodes:
        factor = shapes[node.input[1]]
        if node.op_type == "Conv":
            terms = math.prod(factor[1:])
        elif node.op_type == "MatMulNBits":
            terms = next(each.i for each in node.attribute if each.name == "K")
        else:
            terms = factor[-2]
        total += math.prod(shapes[node.output[0]]) * terms
    return total


def why_not_exported(model: OnnxModel) -> str:
    """Why `torch.export` takes no such model."""
    return "ONNX Runtime computes it: its content is a whole ONNX file already"


def facts(model: OnnxModel, image: Tensor) -> dict:
    """The record's fields that torch's counters, which do not see into the engine, cannot fill in.

    Parameters are the exported model's own: folding BatchNorm merges some of them.
    """
    return {
        "parameters": model.description["parameters"],
        "macs": count_macs(model.content, image),
        "engine": {
            "name": "onnxruntime",
            "version": version("onnxruntime"),
            "opset": opset(model.content),
            "provider": model.session.get_providers()[0],
            "instruction_sets": measure.instruction_sets(),
            "weights": weight_types(model.content),
        },
    }


# -- its file -------------------------------------------------------------------------------------


def pack(model: OnnxModel) -> tuple[dict[str, Tensor], dict]:
    """The ONNX file as one tensor of bytes, and the description of the network that it is of."""
    return {"onnx": torch.frombuffer(bytearray(model.content), dtype=torch.uint8)}, (
        model.description
    )


def unpack(tensors: dict[str, Tensor], description: dict) -> OnnxModel:
    """The model that `pack` took, in a session of the engine of this machine."""
    return OnnxModel(tensors["onnx"].numpy().tobytes(), description)


# -- the rows of the study ------------------------------------------------------------------------


def run(content: bytes, model: nn.Module) -> OnnxModel:
    """`content`, made from `model`, as a model that says whose network it is."""
    counted = measure.count_parameters(model)
    return OnnxModel(content, {**model.description, "parameters": counted})


def note_layers(context: Context, model: nn.Module, touched: list[str], reason: str) -> None:
    """Note for each layer of `model` with parameters whether it is among those touched."""
    for name in touched:
        context.touched(name)
    for name, module in model.named_modules():
        if name not in touched and next(module.parameters(recurse=False), None) is not None:
            context.skipped(name or "(model)", type(module).__name__, reason)


def compress(context: Context[OnnxRuntime]) -> OnnxModel:
    """Export the baseline; with `weight_bits` 8 quantize the file. Nothing is trained."""
    if context.config.weight_bits == 32:
        model = context.model("vanilla")
        note_layers(context, model, [], "float32 throughout: the control")
        return run(labelled(export(model), context.preprocessing), model)
    model, exported = context.model("vanilla"), context.model("onnx")
    content = quantize(exported.content)
    layers = integer_layers(engine("onnx").load_from_string(content).graph)
    note_layers(context, model, layers, "only matrix products with a weight are integers: float32")
    return run(labelled(content, context.preprocessing), model)
