"""Vision Transformers by profile (timm's), and the files they are kept in.

A model's file is safetensors with one metadata entry, `vitstudy`: a JSON object with the module
that packed the model (`packer`) and what that module needs to build it again. A method that changes
the network's structure (a token more, dimensions fewer, another attention) says so in the model's
`description` (`changed`), so that whatever comes after it, a quantizer for one, finds it so.
Networks that are not built here are described by `structure`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitstudy import files, structure, weights
from vitstudy.errors import UserError
from vitstudy.profiles import Architecture
from vitstudy.structure import Like

FORMAT = 1
"""Of the files of models; a file that names none is of the first."""


class ConvStem(nn.Module):
    """Convolutions with BatchNorm in place of linear patches; as many tokens come out.

    Xiao et al., Early Convolutions Help Transformers See Better, 2021.
    """

    def __init__(self, image_size: int, channels: int, layers: tuple[tuple[int, int, int], ...]):
        super().__init__()
        modules, side = [], image_size
        for out, kernel, stride in layers:
            conv = nn.Conv2d(channels, out, kernel, stride, (kernel - 1) // 2, bias=False)
            modules += [conv, nn.BatchNorm2d(out), nn.GELU()]
            channels, side = out, -(-side // stride)
        self.layers = nn.Sequential(*modules[:-1])  # the blocks begin with a norm of their own
        self.image_size = image_size
        self.grid_size, self.num_patches = (side, side), side * side
        self.patch_size = (image_size // side,) * 2

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        # Sizes a little smaller give as many tokens, and logits that mean nothing.
        if images.shape[-2:] != (self.image_size, self.image_size):
            height, width = images.shape[-2:]
            raise ValueError(
                f"images of {height}x{width}, where this stem takes {self.image_size}x"
                f"{self.image_size}: resize them first"
            )
        return self.layers(images).flatten(2).transpose(1, 2)  # (B, N, D)


def build(architecture: Architecture, num_classes: int, channels: int) -> VisionTransformer:
    """A ViT with fresh weights from torch's global generator; `forward` gives (B, num_classes)."""
    stem = {}
    if architecture.stem:
        stem["embed_layer"] = lambda img_size, in_chans, **_: ConvStem(
            img_size, in_chans, architecture.stem
        )
    model = VisionTransformer(
        img_size=architecture.image_size,
        patch_size=architecture.patch_size,
        in_chans=channels,
        num_classes=num_classes,
        embed_dim=architecture.width,
        depth=architecture.depth,
        num_heads=architecture.heads,
        mlp_ratio=architecture.mlp_ratio,
        **stem,
    )
    model.description = {
        "architecture": asdict(architecture),
        "num_classes": num_classes,
        "channels": channels,
    }
    return model


Build = Callable[[Architecture, int, int], VisionTransformer]
"""(architecture, num_classes, channels) to a model with fresh weights, as `build`."""


def pretrained(
    architecture: Architecture, num_classes: int, channels: int, build: Build = build
) -> VisionTransformer:
    """timm's pretrained weights in a ViT with a new head, in the structure that `build` gives it.

    Raises UserError where `weights.timm_model` does.
    """
    pretrained = weights.timm_model(architecture.timm_name, num_classes, channels)
    model = build(architecture, num_classes, channels)
    model.load_state_dict(pretrained.state_dict())
    return model


# -- files ----------------------------------------------------------------------------------------


def pack(model: VisionTransformer) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a dense model and the description that `unpack` builds it from."""
    return model.state_dict(), described(model)


def described(model: nn.Module) -> dict:
    """What `model`'s file says of its structure; UserError for a model that is not from here."""
    if not hasattr(model, "description"):
        raise UserError(
            f"this {type(model).__name__} has no description that a file could be read by: build "
            "it with vitstudy.models.build, or keep its state_dict yourself"
        )
    return model.description


def changed(model: VisionTransformer, module: str, **arguments) -> VisionTransformer:
    """Apply `module.rebuild(model, **arguments)` and note it in the new model's description.

    `rebuild` gives the model another structure, in place or as a new model; the arguments are plain
    JSON. `skeleton` repeats the changes of a description, in the order in which they were made. A
    model that has no description, such as one of timm's own making, is changed and gets none.
    """
    description = getattr(model, "description", None)
    model = _rebuilder(module)(model, **arguments)
    if description is not None:
        changes = [*description.get("changes", []), {"module": module, **arguments}]
        model.description = {**description, "changes": changes}
    return model


def _rebuilder(module: str) -> Callable[..., VisionTransformer]:
    if not module.startswith("vitstudy."):  # a file must not choose what is imported
        raise ValueError(f"a change of structure names {module!r}, no module of vitstudy")
    return importlib.import_module(module).rebuild


def skeleton(description: dict) -> nn.Module:
    """The model that `description` describes, its weights still to be filled in.

    Raises UserError where `structure.build` does.
    """
    # Fresh weights are drawn only to be overwritten: the caller's random state is not theirs.
    with torch.random.fork_rng(devices=[]):
        if "architecture" in description:
            given = dict(description["architecture"])
            given["stem"] = tuple(tuple(layer) for layer in given["stem"])
            classes = description["num_classes"], description["channels"]
            model = build(Architecture(**given), *classes)
        else:
            model = structure.build(description)
        for change in description.get("changes", []):
            model = changed(model, **change)
    return model


def unpack(tensors: dict[str, Tensor], description: dict) -> VisionTransformer:
    """The dense model that `pack` took apart."""
    model = skeleton(description)
    model.load_state_dict(tensors)
    return model


def save(
    model: nn.Module,
    path: Path,
    packer: str = "vitstudy.models",
    preprocessing: dict | None = None,
    report: dict | None = None,
) -> None:
    """Write `model` to `path`, atomically; `packer` names the module whose `pack` takes it.

    `preprocessing` (`data.preprocessing`) goes into the header for who uses the file elsewhere, and
    so does `report`, what was done to a user's own model.
    """
    tensors, description = importlib.import_module(packer).pack(model)
    for name, value in (("preprocessing", preprocessing), ("report", report)):
        if value:
            description = {**description, name: value}
    header = json.dumps({"packer": packer, **description}, sort_keys=True, default=Like.to_json)
    files.write(path, to_bytes(_apart(tensors), {"vitstudy": header}))


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each with memory of its own, as the file's format wants them."""
    memory, apart = set(), {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in memory else tensor
        memory.add(place)
    return apart


def load(path: Path, likes: Iterable[Like] = ()) -> nn.Module:
    """The model in `path`, in evaluation mode, with `preprocessing`, `report` and `packer` of it.

    likes: structures of networks that only the reader has. Raises UserError where the file is
    damaged, of a later format, or holds a network whose structure is not at hand.
    """
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get("vitstudy", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is no whole safetensors file ({error})") from error
    packer = (description or {}).pop("packer", "")
    notes = {name: (description or {}).pop(name, None) for name in ("preprocessing", "report")}
    if not packer.startswith("vitstudy."):  # a file must not choose which module is imported
        raise UserError(f"{path} was not written by vitstudy: its header names no packer")
    if (form := description.get("format", FORMAT)) != FORMAT:
        raise UserError(
            f"{path} is a file of format {form} and this vitstudy reads format {FORMAT}: install "
            "the version that wrote it"
        )
    description = structure.brought(description, likes)
    try:
        model = importlib.import_module(packer).unpack(tensors, description).eval()
    except (ImportError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} does not hold what its header says ({' '.join(str(error).split())[:200]})"
        ) from error
    model.packer, model.preprocessing, model.report = packer, *notes.values()
    return model
