"""timm's models with pretrained weights, from a folder of files or from timm's hub: whole, or not.

timm itself passes over what does not fit a model whose head is replaced, so that a file of other
weights leaves random numbers in their place; here every tensor but the head's has to be there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from torch import Tensor, nn

from vitstudy import files
from vitstudy.errors import UserError

KINDS = {
    b"version https://git-lfs": "a pointer of git-lfs: fetch the file itself with 'git lfs pull'",
    b"PK\x03\x04": "a pickle of torch.save, which is not opened: convert it to safetensors",
    b"\x80": "a pickle, which is not opened: convert it to safetensors",
    b"<": "a web page: download the file itself",
}
"""What files that are no safetensors begin with, and what they are."""
NAMED = 3
"""Tensors that a message names of many."""


def timm_model(name: str, num_classes: int, channels: int) -> nn.Module:
    """timm's model `name` with pretrained weights and a new head; without a head for 0 classes.

    The weights come from `$VITSTUDY_WEIGHTS/<name>.safetensors` where that is set, else from timm's
    hub. Raises UserError where neither has them, or a tensor but the head's is not among them.
    """
    import timm

    folder = os.environ.get("VITSTUDY_WEIGHTS")
    if folder:
        file = files.root() / Path(folder).expanduser() / f"{name}.safetensors"
        if not file.is_file():
            raise UserError(f"VITSTUDY_WEIGHTS={folder} holds no {name}.safetensors")
    try:
        model = timm.create_model(
            name, pretrained=not folder, num_classes=num_classes, in_chans=channels
        )
    except (OSError, RuntimeError) as error:
        line = " ".join(str(error).split())[:80]
        raise UserError(
            f"timm's weights of {name} could not be had ({line}): put {name}.safetensors into a "
            "folder and name it in VITSTUDY_WEIGHTS, or run with a network; the profile 'digits' "
            "needs no weights"
        ) from error
    if folder:
        fill(model, read(file), file, channels)
    return model


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; UserError says what else the file is."""
    content = file.read_bytes()
    try:
        return from_bytes(content)
    except (SafetensorError, ValueError) as error:
        begin = content.lstrip()[:32]
        kind = next((kind for start, kind in KINDS.items() if begin.startswith(start)), None)
        cut = f"no whole safetensors file ({error}): it was cut short or altered, fetch it again"
        raise UserError(f"{file} is {kind or cut}") from error


def without_prefix(names: Iterable[str], expected: set[str]) -> str:
    """What all `names` begin with and none of the `expected` does, such as `model.`."""
    rest, prefix = list(names), ""
    while rest and not expected & set(rest):
        first = rest[0].partition(".")[0] + "."
        if not all(name.startswith(first) for name in rest) or first == rest[0] + ".":
            break
        prefix, rest = prefix + first, [name.removeprefix(first) for name in rest]
    return prefix


def fill(model: nn.Module, tensors: dict[str, Tensor], file: Path, channels: int = 3) -> None:
    """Load `tensors`, read from `file`, into timm's `model`, all but the head's.

    Raises UserError where one of the model's is missing or of another shape, or where there is one
    that the model does not have.
    """
    from timm.models import adapt_input_conv

    config = getattr(model, "pretrained_cfg", {})
    heads = config.get("classifier") or ()
    heads = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(heads)}
    prefix = without_prefix(tensors, set(own))
    found = {key.removeprefix(prefix): value for key, value in tensors.items()}
    found = {key: value for key, value in found.items() if not key.startswith(heads)}
    first = f"{config.get('first_conv')}.weight"
    if first in found and channels != 3:
        found[first] = adapt_input_conv(channels, found[first])
    wrong = {
        "missing": own.keys() - found.keys(),
        "not expected": found.keys() - own.keys(),
        "of another shape": {
            key for key in own.keys() & found.keys() if own[key].shape != found[key].shape
        },
    }
    if any(wrong.values()):
        told = [f"{kind}: {_names(keys)}" for kind, keys in wrong.items() if keys]
        raise UserError(f"{file} does not hold this model's weights; {'; '.join(told)}")
    model.load_state_dict(found, strict=False)


def _names(keys: Iterable[str]) -> str:
    ordered = sorted(keys)
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return ", ".join(ordered[:NAMED]) + more
