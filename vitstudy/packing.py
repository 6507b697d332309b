"""Whole numbers of 1 to 16 bits in as few bytes as they need, and the way into a safetensors file.

The bits form one stream, least significant first: value k of width b takes the bits kb to
kb + b - 1, and bit i is bit i % 8 of byte i // 8. With one width a group, the groups of one width
follow each other in their own order, narrow ones first, and every width begins on a whole byte.

`pack_model` and `unpack_model` are what the `pack` and `unpack` of every quantizer have in common.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vitstudy import models

CHUNK = 2**20  # values at a time: the temporaries stay in the cache, memory stays flat
FORMAT = "vitstudy.packed.1"


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` values of `bits` bits take."""
    return -(-count * bits // 8)


def payload_size(path: Path) -> int:
    """Bytes of the tensors in a safetensors file, its header apart."""
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
    return path.stat().st_size - 8 - header


def pack(codes: Tensor, bits: int | Tensor) -> Tensor:
    """Bytes (uint8, 1-d) of whole numbers 0 <= code < 2^bits.

    codes: any shape and integer type. bits: 1 to 16, or, for codes (groups, size), a width a group
    (groups,). Raises ValueError for a width out of range and a code that does not fit its width.
    """
    if isinstance(bits, Tensor):
        _check_groups(bits, codes.shape)
        return torch.cat([pack(codes[bits == b], b) for b in bits.unique().tolist()] or [_bytes(0)])
    _check_width(bits)
    codes = codes.reshape(-1)
    if codes.numel() and (codes.min() < 0 or codes.max() >= 2**bits):
        raise ValueError(f"codes must lie in 0..{2**bits - 1} to fit {bits} bits")
    packed = _bytes(packed_size(codes.numel(), bits), codes.device)
    unit, width = _unit(bits)
    for start in range(0, codes.numel(), CHUNK):
        part = codes[start : start + CHUNK]
        if short := -part.numel() % unit:
            part = torch.cat([part, part.new_zeros(short)])
        # 8-bit shifts drop what belongs to other bytes by themselves
        part = part.to(torch.uint8 if bits <= 8 else torch.int32).view(-1, unit)
        out = torch.zeros(part.shape[0], width, dtype=part.dtype, device=part.device)
        for value, byte, shift in _overlaps(bits):
            column = part[:, value]
            out[:, byte] |= column << shift if shift >= 0 else column >> -shift
        out = (out if bits <= 8 else out & 0xFF).to(torch.uint8).view(-1)
        first = start * bits // 8
        packed[first : first + out.numel()] = out[: packed.numel() - first]
    return packed


def unpack(packed: Tensor, bits: int | Tensor, shape: tuple[int, ...]) -> Tensor:
    """The codes (uint8 up to 8 bits, else int32) of `pack`, in `shape`.

    Raises ValueError where the bytes are not exactly as many as the shape and the widths need.
    """
    count = math.prod(shape)
    if isinstance(bits, Tensor):
        _check_groups(bits, shape)
        codes = torch.zeros(shape, dtype=torch.int32, device=packed.device)
        start = 0
        for b in bits.unique().tolist():
            chosen = bits == b
            part_shape = (int(chosen.sum()), shape[1])
            end = start + packed_size(math.prod(part_shape), b)
            codes[chosen] = unpack(packed[start:end], b, part_shape).to(torch.int32)
            start = end
        if start != packed.numel():
            raise ValueError(f"packed data has {packed.numel()} bytes where {start} are expected")
        return codes
    _check_width(bits)
    if packed.dtype != torch.uint8 or packed.numel() != packed_size(count, bits):
        raise ValueError(
            f"packed data has {packed.numel()} {packed.dtype} values where "
            f"{packed_size(count, bits)} bytes are expected for {count} values of {bits} bits"
        )
    unit, width = _unit(bits)
    codes = torch.empty(count, dtype=torch.uint8 if bits <= 8 else torch.int32)
    codes = codes.to(packed.device)
    for start in range(0, count, CHUNK):
        first = start * bits // 8
        part = packed[first : first + CHUNK // unit * width]
        if short := -part.numel() % width:
            part = torch.cat([part, part.new_zeros(short)])
        part = part.to(codes.dtype).view(-1, width)
        out = torch.zeros(part.shape[0], unit, dtype=codes.dtype, device=codes.device)
        for value, byte, shift in _overlaps(bits):
            column = part[:, byte]
            out[:, value] |= column >> shift if shift >= 0 else column << -shift
        if bits not in (8, 16):
            out &= 2**bits - 1
        codes[start : start + CHUNK] = out.view(-1)[: count - start]
    return codes.view(shape)


# -- many tensors at once, and their file ---------------------------------------------------------


def pack_tensors(
    tensors: Mapping[str, Tensor],
    widths: Mapping[str, tuple[int | Tensor, int]],
    lowest_bits: int | None = None,
) -> tuple[dict[str, Tensor], dict[str, dict]]:
    """Pack the tensors named in `widths`, leave the others, and describe what was packed.

    widths: name -> (bits, lowest): the width as in `pack` and the number that code 0 stands for.
    The description is plain JSON; widths a group are packed too, as `<name>.bits`, counted from
    `lowest_bits` or else from the narrowest.
    """
    packed, layout = dict(tensors), {}
    for name, (bits, lowest) in widths.items():
        codes = tensors[name]
        if lowest:
            codes = codes.to(torch.int32) - lowest
        try:
            packed[name] = pack(codes, bits)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        entry = {"shape": list(codes.shape), "lowest": lowest}
        if isinstance(bits, Tensor):
            low = int(bits.min()) if lowest_bits is None else lowest_bits
            high = int(bits.max())
            spread = (high - low).bit_length()
            entry |= {"lowest_bits": low, "bits_of_bits": spread}
            if spread:  # all alike: nothing to tell them apart
                packed[f"{name}.bits"] = pack(bits - low, spread)
        else:
            entry["bits"] = bits
        layout[name] = entry
    return packed, layout


def unpack_tensors(packed: Mapping[str, Tensor], layout: Mapping[str, dict]) -> dict[str, Tensor]:
    """The tensors that `pack_tensors` took: int32 where packed, untouched elsewhere.

    The widths a group come back as `<name>.bits`. Raises ValueError, naming the tensor, where the
    description is not one of `pack_tensors` or does not fit the data.
    """
    tensors = dict(packed)
    for name, entry in layout.items():
        try:
            shape = tuple(int(side) for side in entry["shape"])
            bits = entry.get("bits")
            if bits is None:
                spread, groups = entry["bits_of_bits"], shape[0]
                bits = torch.full((groups,), int(entry["lowest_bits"]), dtype=torch.int32)
                if spread:
                    bits += unpack(tensors[f"{name}.bits"], spread, (groups,)).to(torch.int32)
                tensors[f"{name}.bits"] = bits
            codes = unpack(tensors[name], bits, shape).to(torch.int32)
            tensors[name] = codes + int(entry["lowest"])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{name}: the packed file's header does not describe it") from error
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return tensors


def save(
    path: Path, tensors: Mapping[str, Tensor], widths: Mapping[str, tuple[int | Tensor, int]]
) -> None:
    """Write the tensors to a safetensors file, those in `widths` packed; see `pack_tensors`."""
    packed, layout = pack_tensors(tensors, widths)
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in packed.items()}
    save_file(packed, path, {"format": FORMAT, "layout": json.dumps(layout)})


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `save` wrote.

    Raises ValueError, in one line, for a file cut short and for a header that is not of this format
    or does not fit the data.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if header.get("format") != FORMAT:
            raise ValueError(f"its header says format {header.get('format')!r}, not {FORMAT!r}")
        layout = json.loads(header.get("layout", "null"))
        if not isinstance(layout, dict):
            raise ValueError("its header has no layout")
        return unpack_tensors(tensors, layout)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no whole packed file: {error}") from error


# -- models of whole numbers ----------------------------------------------------------------------


class Codes(NamedTuple):
    """The whole numbers that a file holds in the place of a tensor."""

    values: Tensor
    bits: int | Tensor
    """The width, or one a group (groups,), as `pack` takes it."""
    lowest: int = 0
    """The number that code 0 stands for."""


def pack_model(
    model: nn.Module,
    codes: Mapping[str, Codes],
    *,
    added: Mapping[str, Tensor] | None = None,
    lowest_bits: int | None = None,
    **described: Any,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of `model`'s file, those named in `codes` packed, and what describes them.

    added: tensors that the model's state has not. lowest_bits: see `pack_tensors`. described: what
    the method's `unpack` needs besides the structure, as plain JSON.
    """
    values = {name: each.values for name, each in codes.items()}
    widths = {name: (each.bits, each.lowest) for name, each in codes.items()}
    tensors = {**model.state_dict(), **(added or {}), **values}
    packed, layout = pack_tensors(tensors, widths, lowest_bits)
    return packed, {**models.described(model), **described, "packed": layout}


def unpack_model(
    tensors: Mapping[str, Tensor],
    description: dict[str, Any],
    convert: Callable[[nn.Module], None],
    restore: Callable[[nn.Module, str, dict[str, Tensor]], Tensor],
) -> nn.Module:
    """The model that `pack_model` took apart, in evaluation mode.

    convert: gives the described dense model the method's structure, in place. restore: the tensor
    of a name, of its codes and the other tensors; what it takes out is not loaded. Raises as
    `unpack_tensors` and `load_state_dict` do, which `models.load` turns into one line.
    """
    unpacked = unpack_tensors(tensors, description["packed"])
    model = models.skeleton(description)
    convert(model)
    for name in description["packed"]:
        unpacked[name] = restore(model, name, unpacked)
    model.load_state_dict(unpacked)
    return model.eval()


# -- the arithmetic of bits -----------------------------------------------------------------------


def _unit(bits: int) -> tuple[int, int]:
    """The least number of values that fill whole bytes, and those bytes."""
    unit = 8 // math.gcd(bits, 8)
    return unit, unit * bits // 8


def _overlaps(bits: int) -> list[tuple[int, int, int]]:
    """(value, byte, shift) for each value and byte of a unit that share bits; shift moves left."""
    return [
        (value, byte, value * bits - 8 * byte)
        for value in range(_unit(bits)[0])
        for byte in range(value * bits // 8, ((value + 1) * bits - 1) // 8 + 1)
    ]


def _check_width(bits: int) -> None:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
        raise ValueError(f"bits={bits!r} is out of range: 1 to 16 bits can be packed")


def _check_groups(bits: Tensor, shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or bits.shape != shape[:1] or bits.is_floating_point():
        raise ValueError(
            f"widths a group need codes (groups, size) and whole-numbered bits (groups,), "
            f"not {tuple(shape)} and {bits.dtype} {tuple(bits.shape)}"
        )


def _bytes(count: int, device: torch.device | None = None) -> Tensor:
    return torch.zeros(count, dtype=torch.uint8, device=device)
