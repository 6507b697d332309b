"""CIFAR-10 and CIFAR-100 from Parquet files, torchvision's files or torchvision's download."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitstudy import files
from vitstudy.dataset_specs import IMAGE_SIZE, Spec
from vitstudy.errors import UserError
from vitstudy.splits import LabelledImages, canonical_order, cut_into_splits

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10


def data_root() -> Path:
    """Return `$VITSTUDY_DATA`, which counts from the repository's root, or `data/` there.

    Raises UserError where the variable names a folder that does not exist.
    """
    given = os.environ.get("VITSTUDY_DATA")
    if not given:
        return files.root() / "data"
    folder = files.root() / Path(given).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"VITSTUDY_DATA={given} is no folder (looked for {folder}); name one that holds "
            "cifar10/*.parquet or cifar100/*.parquet, or unset it"
        )
    return folder


def _folder(spec: Spec) -> Path:
    return data_root() / spec.name


def _parquet_files(spec: Spec) -> list[Path]:
    """List the set's Parquet files, in whatever folders below its own the hub serves them."""
    return sorted(_folder(spec).rglob("*.parquet"))


def _is_in_group(file: Path, group: str) -> bool:
    """Tell whether a file is `<group>-*.parquet` or `<group>/*.parquet`; groups: train, test."""
    return file.name.startswith(f"{group}-") or file.parent.name == group


def _torchvision_class(spec: Spec) -> type[CIFAR10]:
    from torchvision import datasets

    by_name: dict[str, type[CIFAR10]] = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
    }
    return by_name[spec.name]


def source_files(spec: Spec) -> list[Path]:
    """List the files that the data set is read from, Parquet first; none where it is absent."""
    if parquet := _parquet_files(spec):
        return parquet
    # The folder's name is torchvision's own; asking torchvision for it would import torch.
    folder = (
        data_root() / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[spec.name]
    )
    return sorted(file for file in folder.glob("*") if file.is_file()) if folder.is_dir() else []


def read(spec: Spec) -> dict[str, np.ndarray]:
    """Read the set's images and labels and cut them into splits.

    Raises UserError where the files are absent, damaged, or not those of the published set.
    """
    if _parquet_files(spec):
        _check_sums(spec)
        groups = [_read_parquet(spec, group) for group in ("train", "test")]
    else:
        groups = _read_torchvision(spec)
    for group, size, (_, labels) in zip(
        ("training", "test"), spec.given_sizes, groups, strict=True
    ):
        if len(labels) != size:
            raise UserError(
                f"{spec.name} has {len(labels):,} {group} images where {size:,} are expected: "
                f"a file is missing or cut short in {_folder(spec)}"
            )
    train, test = (canonical_order(images, labels) for images, labels in groups)
    content = hashlib.sha256()
    for array in (*train, *test):
        content.update(array.data)
    if spec.content and content.hexdigest() != spec.content:
        raise UserError(
            f"the images or labels of {spec.name} in {_folder(spec)} are not those of the "
            "published set: a file was altered; fetch it again"
        )
    return cut_into_splits(spec, train, test)


def _check_sums(spec: Spec) -> None:
    """Compare the files with `SHA256SUMS` beside them, where there is one; raise UserError."""
    listing = _folder(spec) / "SHA256SUMS"
    if not listing.exists():
        return
    for line in listing.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        expected, _, name = line.partition(" ")
        file = _folder(spec) / name.strip(" *")
        if not file.exists():
            raise UserError(f"{file} is missing, though SHA256SUMS beside it lists it")
        if files.sha256(file) != expected:
            raise UserError(
                f"{file} is truncated or altered: its SHA-256 is not the one in SHA256SUMS "
                "beside it; fetch it again"
            )


def _read_parquet(spec: Spec, group: str) -> LabelledImages:
    """Read images (N, 3, 32, 32) and labels (N,) of a group's files, in their names' order."""
    import pyarrow
    import pyarrow.parquet

    group_files = [file for file in _parquet_files(spec) if _is_in_group(file, group)]
    if not group_files:
        raise UserError(f"{_folder(spec)} holds no {group}-*.parquet and no {group}/*.parquet file")
    images, labels = [], []
    for file in group_files:
        try:
            names = pyarrow.parquet.read_schema(file).names
            pixels = "image" if "image" in names and "img" not in names else "img"
            for column in (pixels, spec.label_column):
                if column not in names:
                    raise UserError(
                        f"{file} lacks the column {column!r}; it has {', '.join(names)}"
                    )
            table = pyarrow.parquet.read_table(file, columns=[pixels, spec.label_column])
            encoded = table[pixels].combine_chunks().field("bytes").to_pylist()
            values = table[spec.label_column].to_numpy()
        except (pyarrow.ArrowException, OSError, KeyError, AttributeError) as error:
            raise UserError(
                f"{file} cannot be read, it is truncated or altered "
                f"({str(error)[:120]}); fetch it again"
            ) from error
        whole = len(values) > 0 and np.issubdtype(values.dtype, np.integer)
        if not whole or ((values < 0) | (values >= spec.num_classes)).any():
            raise UserError(
                f"{file} has labels out of range in {spec.label_column!r}: "
                f"{spec.name} has the whole numbers 0 to {spec.num_classes - 1}"
            )
        labels.append(values.astype(np.int64))
        images += [_decode_image(file, row, content) for row, content in enumerate(encoded)]
    return np.stack(images).transpose(0, 3, 1, 2), np.concatenate(labels)


def _decode_image(file: Path, row: int, content: bytes | None) -> np.ndarray:
    """Decode one image to (32, 32, 3) bytes; raise UserError where it is damaged or another."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content or b"")) as image:
            if image.mode != "RGB" or image.size != (IMAGE_SIZE, IMAGE_SIZE):
                raise UserError(
                    f"{file}, row {row}: an image of {image.size[0]}x{image.size[1]} {image.mode}, "
                    f"where {IMAGE_SIZE}x{IMAGE_SIZE} RGB is expected"
                )
            return np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}, row {row}: the image cannot be decoded ({error})") from error


def _read_torchvision(spec: Spec) -> list[LabelledImages]:
    """Read torchvision's own files below the data root, or let it download them.

    Torchvision checks their checksums.
    """
    make = _torchvision_class(spec)
    groups = []
    for train in (True, False):
        try:
            dataset = make(str(data_root()), train=train, download=False)
        except RuntimeError as absent:
            if source_files(spec):
                raise UserError(
                    f"torchvision's {spec.name} files in {data_root()} are incomplete or altered "
                    "(their checksums do not match); remove them and run again"
                ) from absent
            dataset = _download(spec, make, train)
        groups.append((dataset.data.transpose(0, 3, 1, 2), np.array(dataset.targets, np.int64)))
    return groups


def _download(spec: Spec, make: type[CIFAR10], train: bool) -> CIFAR10:
    try:
        return make(str(data_root()), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"no {spec.name} here, and it could not be downloaded "
            f"({str(error)[:80]}): put the Hugging Face hub's Parquet files into "
            f"$VITSTUDY_DATA/{spec.name}/, or torchvision's files into $VITSTUDY_DATA, or run "
            "with a network; the profile 'digits' needs no data"
        ) from error
