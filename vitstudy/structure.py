"""Networks that the study did not build: how a model's file tells what to build again.

A file holds tensors. What they belong to is told in the model's `description`: the study's own
networks by their architecture (`models.build`), timm's by their name, and any other by what its
reader has to bring, a model of the same structure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from copy import deepcopy

import timm
import torch
from torch import Tensor, nn

from vitstudy.errors import UserError

SETTINGS = ("num_heads", "head_dim", "scale", "eps", "stride", "padding", "dilation", "groups")
"""What layers of equal weights may differ in, by the name of the attribute."""


def call_layers(model: nn.Module) -> nn.Module:
    """Let every attention of `model` call its layer `qkv`, in place, and compute the same.

    timm's EVA, BEiT and Swin V2 multiply with `qkv.weight` instead, and so would go past whatever
    takes that layer's place; `qkv_bias_separate` is timm's own switch for it.
    """
    for module in model.modules():
        if hasattr(module, "qkv_bias_separate"):
            module.qkv_bias_separate = True
    return model


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of the structure of `model`: its tensors' names and shapes, its layers' settings."""
    parts: list = [(name, list(tensor.shape)) for name, tensor in _tensors(model)]
    for name, module in model.named_modules():
        settings = {key: repr(getattr(module, key)) for key in SETTINGS if _has(module, key)}
        parts.append((name, settings))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, each) for name, each in model.state_dict().items() if isinstance(each, Tensor)]


def _has(module: nn.Module, setting: str) -> bool:
    value = getattr(module, setting, None)
    return value is not None and not isinstance(value, (Tensor, nn.Module))


class Like:
    """The structure of a model whose code is somebody's own, without its weights.

    It stands in a description, and in a file as the name of its class and its `fingerprint`: who
    loads that file brings a model of the same structure.
    """

    def __init__(self, model: nn.Module):
        self.class_name, self.fingerprint = type(model).__name__, fingerprint(model)
        memo = {id(each): _zeros(each, "meta") for each in model.parameters()}
        self._network = deepcopy(model, memo)

    def build(self) -> nn.Module:
        """A network of this structure on the CPU, its parameters zeros that are to be filled in."""
        memo = {id(each): _zeros(each, "cpu") for each in self._network.parameters()}
        return deepcopy(self._network, memo).to("cpu")

    def __deepcopy__(self, memo: dict) -> Like:
        return self  # it never changes

    def to_json(self) -> dict[str, str]:
        """What a file says of it."""
        return {"class": self.class_name, "fingerprint": self.fingerprint}


def _zeros(parameter: nn.Parameter, device: str) -> nn.Parameter:
    return nn.Parameter(
        torch.zeros_like(parameter, device=device), requires_grad=parameter.is_floating_point()
    )


# -- descriptions ---------------------------------------------------------------------------------


def describe(model: nn.Module, example: Tensor) -> dict:
    """The description of a float model that takes inputs like `example`, (1, ...), on the CPU.

    timm's models are named where timm, given the name, makes one with the same outputs to the bit.
    """
    with torch.inference_mode():
        outputs = model(example)
    base = {"num_classes": outputs.shape[-1], "image": list(example.shape[1:])}
    if named := _timm_name(model, example, outputs):
        return {**base, "timm": named}
    return {**base, "like": Like(model)}


def _timm_name(model: nn.Module, example: Tensor, outputs: Tensor) -> dict | None:
    """timm's name of `model` and the arguments to make it with; None where that gives another."""
    known = getattr(model, "pretrained_cfg", None) or {}
    name = known.get("architecture")
    if not name or not timm.is_model(name) or example.ndim != 4:
        return None
    arguments: dict = {"num_classes": model.num_classes, "in_chans": example.shape[1]}
    if isinstance(pool := getattr(model, "global_pool", None), str):
        arguments["global_pool"] = pool
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if size and list(size) != list(known.get("input_size", ()))[1:]:
        arguments["img_size"] = list(size)
    named = {"name": name, "arguments": arguments}
    try:
        other = _from_timm(named)
        if fingerprint(other) != fingerprint(model):
            return None
        other.load_state_dict(model.state_dict())
        with torch.inference_mode():
            same = torch.equal(other.eval()(example), outputs)
    except (TypeError, ValueError, RuntimeError, AssertionError):
        return None  # it was made with more arguments than can be told from it
    return named if same else None


def _from_timm(named: dict) -> nn.Module:
    return call_layers(timm.create_model(named["name"], pretrained=False, **named["arguments"]))


BASE = ("num_classes", "image", "timm", "like")
"""What a description says of the network as it was given, before any change."""


def build(description: dict) -> nn.Module:
    """The network that a description without an architecture of the study describes.

    Its parameters are still to be filled in. Raises UserError where its reader has to bring it.
    """
    like = description.get("like")
    if named := description.get("timm"):
        model = _from_timm(named)
    elif isinstance(like, Like):
        model = call_layers(like.build())
    else:
        raise UserError(
            f"the file holds the weights of a {like['class']}, whose code is not in it: give a "
            "model of the same structure, as in vitstudy.load(path, like=model)"
        )
    model.description = {key: description[key] for key in BASE if key in description}
    return model


def brought(description: dict, likes: Iterable[Like]) -> dict:
    """`description` as a file has it, with that of `likes` in it which has its structure.

    Raises UserError where some are given and none has.
    """
    wanted, likes = description.get("like"), list(likes)
    if wanted is None or not likes:
        return description
    for like in likes:
        if like.fingerprint == wanted["fingerprint"]:
            return {**description, "like": like}
    raise UserError(
        f"the file was made from a {wanted['class']} of another structure than the "
        f"{likes[0].class_name} that is given as like=: its layers, their sizes or their settings "
        "differ"
    )


def image_shape(description: dict) -> tuple[int, ...]:
    """The shape of one input of the described model: (C, H, W) of an image."""
    if "image" in description:
        return tuple(description["image"])
    side = description["architecture"]["image_size"]
    return (description["channels"], side, side)


def check_sharing(model: nn.Module) -> None:
    """Raise UserError, naming both, where two layers of `model` share a parameter.

    Each of them may be changed, and in a file each has a tensor of its own.
    """
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if before := first.setdefault(id(parameter), name):
            if before != name:
                raise UserError(
                    f"{name} and {before} are one parameter: give each layer its own before "
                    "compressing"
                )
