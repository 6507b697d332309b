"""`vitstudy.packing` under the path that it had before."""

from vitstudy.packing import (
    load,
    pack,
    pack_tensors,
    packed_size,
    payload_size,
    save,
    unpack,
    unpack_tensors,
)

__all__ = [
    "load",
    "pack",
    "pack_tensors",
    "packed_size",
    "payload_size",
    "save",
    "unpack",
    "unpack_tensors",
]
