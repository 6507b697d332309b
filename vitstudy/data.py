"""A data set by name: train, calibration, validation and test, one preprocessing for all.

Images are put into one order, that of the hash of their pixels and label, so splits and the data
set's hash are the same from whichever file the images came. They are decoded once into a
memory-mapped cache of unsigned bytes, (N, C, 32, 32). What is known of each set stands in
`dataset_specs`; `digits` and `cifar` make and read the images.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitstudy import cifar, digits, files
from vitstudy.dataset_specs import (
    IMAGE_SIZE,
    SPECS,
    SPLITS,
    Spec,
    class_names,
    preprocessing,
    spec,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "IMAGE_SIZE",
    "SPECS",
    "SPLITS",
    "Dataset",
    "Spec",
    "Split",
    "at_hand",
    "class_names",
    "dataset_hash",
    "load",
    "preprocessing",
    "spec",
]

MADE_BY = ("dataset_specs", "digits", "splits")
"""The modules that make the sets of digits: a change of one makes them anew."""
_PARTS = ("images", "labels", "sources")


@dataclass(frozen=True)
class Split:
    """The images of one split as bytes; indexing a batch copies it out of the memory map."""

    images: torch.Tensor  # (N, C, 32, 32) uint8
    labels: torch.Tensor  # (N,) int64
    sources: np.ndarray = field(repr=False)  # (N, S) int64: the original images that it shows

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int) -> Split:
        """Return the first `count` images, a fixed random sample, since the order is a hash's."""
        return Split(self.images[:count], self.labels[:count], self.sources[:count])


@dataclass(frozen=True)
class Dataset:
    """The four splits of a data set, its description and the hash of its splits."""

    spec: Spec
    hash: str
    train: Split
    calibration: Split
    validation: Split
    test: Split

    def normalise(self, images: torch.Tensor, size: int = IMAGE_SIZE) -> torch.Tensor:
        """Turn (B, C, 32, 32) bytes into (B, C, size, size) float32 around zero.

        This is the one preprocessing of every backend.
        """
        import torch

        mean = torch.tensor(self.spec.mean, device=images.device).view(1, -1, 1, 1) * 255
        std = torch.tensor(self.spec.std, device=images.device).view(1, -1, 1, 1) * 255
        images = (images.float() - mean) / std
        if size != images.shape[-1]:
            images = torch.nn.functional.interpolate(
                images, size=(size, size), mode="bicubic", antialias=True
            )
        return images


def load(name: str, limit: tuple[int, int, int, int] | None = None) -> Dataset:
    """Load the data set `name`.

    limit: how many images of each split are kept, the first ones; None keeps all.

    Raises UserError where the name is unknown, or the data are absent, damaged or altered.
    """
    import torch

    arrays, digest = _cached(spec(name))
    splits = {}
    for position, split in enumerate(SPLITS):
        images, labels, sources = (arrays[f"{split}.{part}"] for part in _PARTS)
        whole = Split(torch.from_numpy(images), torch.from_numpy(labels), sources)
        splits[split] = whole if limit is None else whole.head(limit[position])
    if limit is not None:
        digest = hashlib.sha256(f"{digest} {limit}".encode()).hexdigest()
    return Dataset(spec(name), digest, **splits)


def at_hand(name: str) -> bool:
    """Tell whether the images can be loaded without a download."""
    return not spec(name).label_column or bool(cifar.source_files(spec(name)))


# -- the cache ------------------------------------------------------------------------------------


def dataset_hash(name: str) -> str:
    """Return the hash of the data set's splits; cached images are not read for it."""
    meta = _cache_meta(spec(name))
    return meta["hash"] if meta else _cached(spec(name))[1]


def _cache(spec: Spec) -> Path:
    return files.artifacts("data") / spec.name


def _cache_meta(spec: Spec) -> dict[str, Any] | None:
    """Read the cache's description; None where it is absent or its source has changed."""
    meta = files.read_json(_cache(spec) / "meta.json")
    return meta if meta and meta.get("origin") == _origin(spec) else None


def _origin(spec: Spec) -> list[Any]:
    """Identify the source by its files, their sizes and times, or by the code that makes it."""
    if not spec.label_column:
        return [files.sha256(Path(__file__).with_name(f"{module}.py")) for module in MADE_BY]
    stats = ((file, file.stat()) for file in cifar.source_files(spec))
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def _split_hash(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _cached(spec: Spec) -> tuple[dict[str, np.ndarray], str]:
    """Return the arrays of every split as memory maps, and their hash; decode them if need be."""
    if (meta := _cache_meta(spec)) and (arrays := _open_cache(spec, meta["hash"])):
        return arrays, meta["hash"]
    arrays = _decode(spec)
    digest = _split_hash(arrays)
    folder = _cache(spec)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{spec.name}.", dir=folder.parent))
    old = partial.with_name(f"{partial.name}.old")
    try:
        for name, array in arrays.items():
            with open(partial / f"{name}.npy", "wb") as file:
                np.save(file, array)
        files.write_json(partial / "meta.json", {"hash": digest, "origin": _origin(spec)})
        # Two processes may decode at once: each takes the old folder away under its own name.
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, old)
        os.replace(partial, folder)
    except OSError:
        # Lost the race for the name: the winner's cache holds the same images.
        if not _cache_meta(spec):
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return _open_cache(spec, digest) or arrays, digest


def _open_cache(spec: Spec, expected_hash: str) -> dict[str, np.ndarray] | None:
    """Open the cached arrays; None where a file is missing or the content has another hash."""
    arrays = {}
    try:
        for split in SPLITS:
            for part in _PARTS:
                # Copy on write: torch wants writable memory, the file stays as it is.
                arrays[f"{split}.{part}"] = np.load(
                    _cache(spec) / f"{split}.{part}.npy", mmap_mode="c", allow_pickle=False
                )
    except (OSError, ValueError, EOFError):
        return None
    return arrays if _split_hash(arrays) == expected_hash else None


def _decode(spec: Spec) -> dict[str, np.ndarray]:
    if spec.name == "digits":
        return digits.digits(spec)
    if spec.name == "digit-pairs":
        return digits.digit_pairs(spec)
    return cifar.read(spec)
