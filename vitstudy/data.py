"""A data set by name: train, calibration, validation and test, one preprocessing for all.

`digits`       scikit-learn's handwritten digits (1,797 images of 8x8 pixels), at 32x32, 10 classes
`digit-pairs`  two of those digits side by side, 100 classes
`cifar10`, `cifar100`  Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009

Images are put into one order, that of the hash of their pixels and label, so splits and the data
set's hash are the same from whichever file the images came. They are decoded once into a
memory-mapped cache of unsigned bytes, (N, C, 32, 32).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitstudy import files
from vitstudy.errors import UserError, unknown

if TYPE_CHECKING:
    import torch

SPLITS = ("train", "calibration", "validation", "test")
IMAGE_SIZE = 32


@dataclass(frozen=True)
class Spec:
    """What is known of a data set before a file of it is opened."""

    name: str
    title: str
    num_classes: int
    channels: int
    sizes: tuple[int, int, int, int]
    """Images in train, calibration, validation and test."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of the training pixels, on the scale 0..1."""
    flip: bool
    """Whether an image mirrored left to right keeps its label."""
    shift: int
    """Pixels by which a training image may be shifted."""
    label_column: str = ""
    content: str = ""
    """The expected hash of all images and labels; empty where the set is made here."""

    @property
    def given_sizes(self) -> tuple[int, int]:
        """Images in the two files' groups, training and test, as the set is published."""
        return sum(self.sizes[:3]), self.sizes[3]


# 2,048 images for calibration leave half of them, 1,024, as the largest calibration size studied.
CIFAR_SIZES = (45_000, 2_048, 2_952, 10_000)
SPECS = {
    spec.name: spec
    for spec in (
        Spec("digits", "Digits", 10, 1, (1_149, 128, 160, 360), (0.3040,), (0.3228,), False, 2),
        Spec(
            "digit-pairs",
            "Digit pairs",
            100,
            1,
            (8_000, 200, 400, 2_000),
            (0.3040,),
            (0.3228,),
            False,
            2,
        ),
        Spec(
            "cifar10",
            "CIFAR-10",
            10,
            3,
            CIFAR_SIZES,
            (0.4914, 0.4822, 0.4465),
            (0.2470, 0.2435, 0.2616),
            True,
            4,
            "label",
            "e1f188864ac2691d00769fe4114a97e59cb6296f7e3cec14af5e507e06fae3f7",
        ),
        Spec(
            "cifar100",
            "CIFAR-100",
            100,
            3,
            CIFAR_SIZES,
            (0.5071, 0.4865, 0.4409),
            (0.2673, 0.2564, 0.2762),
            True,
            4,
            "fine_label",
            "c7a2189286687af7f1aeba1f8eb74b4410ce069b1553d299c65d060edf829a7f",
        ),
    )
}


CLASSES = {
    "digits": "0 1 2 3 4 5 6 7 8 9",
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar100": """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
        butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
        crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
        keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
        mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
        plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
        skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
        television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """,
}
"""The names of a set's classes in the order of their labels, as it is published."""


def class_names(name: str) -> list[str]:
    """What each class of the data set `name` shows, by label."""
    if name in CLASSES:
        return CLASSES[name].split()
    return [f"{number:02d}" for number in range(spec(name).num_classes)]  # the pairs' two digits


def preprocessing(name: str, image_size: int) -> dict:
    """What a stranger needs to give a model its images and to read its answers, as plain values.

    Pixels are on the scale 0..1 before `mean` and `std`, (C,) each; an image of another size is
    resized to `image_size` squared by bicubic interpolation with antialiasing.
    """
    known = spec(name)
    return {
        "data": name,
        "image_size": image_size,
        "mean": list(known.mean),
        "std": list(known.std),
        "classes": class_names(name),
    }


def spec(name: str) -> Spec:
    if name not in SPECS:
        raise unknown("data set", name, SPECS)
    return SPECS[name]


@dataclass(frozen=True)
class Split:
    """Images of one split, as bytes; indexing a batch copies it out of the memory map."""

    images: torch.Tensor  # (N, C, 32, 32) uint8
    labels: torch.Tensor  # (N,) int64
    sources: np.ndarray = field(repr=False)  # (N, S) int64: the original images each one shows

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, count: int) -> Split:
        """The first `count` images: the order is a hash's, so they are a fixed random sample."""
        return Split(self.images[:count], self.labels[:count], self.sources[:count])


@dataclass(frozen=True)
class Dataset:
    spec: Spec
    hash: str
    train: Split
    calibration: Split
    validation: Split
    test: Split

    def normalise(self, images: torch.Tensor, size: int = IMAGE_SIZE) -> torch.Tensor:
        """The one preprocessing: (B, C, 32, 32) bytes to (B, C, size, size) float32 around zero."""
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
    """The data set `name`; `limit` keeps only the first so many images of each split.

    Raises UserError where the name is unknown, the data are absent, damaged or not what they say.
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
    """Whether the images can be loaded without a download."""
    return not spec(name).label_column or bool(_source_files(spec(name)))


# -- the cache ------------------------------------------------------------------------------------

_PARTS = ("images", "labels", "sources")


def dataset_hash(name: str) -> str:
    """The hash of the data set's splits, without reading its images where they are cached."""
    meta = _cache_meta(spec(name))
    return meta["hash"] if meta else _cached(spec(name))[1]


def _cache(spec: Spec) -> Path:
    return files.artifacts("data") / spec.name


def _cache_meta(spec: Spec) -> dict | None:
    """What the cache says of itself, or None where it is absent or its source has changed."""
    meta = files.read_json(_cache(spec) / "meta.json")
    return meta if meta and meta.get("origin") == _origin(spec) else None


def _origin(spec: Spec) -> list:
    """What tells that the source is still the same: its files with sizes and times, or its rule."""
    if not spec.label_column:
        return [files.sha256(Path(__file__))]
    found = _source_files(spec)
    return [[str(file), (stat := file.stat()).st_size, stat.st_mtime_ns] for file in found]


def _split_hash(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]))
    return digest.hexdigest()


def _cached(spec: Spec) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of every split as memory maps, and their hash; decoded where need be."""
    if (meta := _cache_meta(spec)) and (arrays := _open_cache(spec, meta)):
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
    except OSError as error:
        # Lost the race for the name: the winner's cache holds the same images.
        if not _cache_meta(spec):
            raise error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return _open_cache(spec, {"hash": digest}) or arrays, digest


def _open_cache(spec: Spec, meta: dict) -> dict[str, np.ndarray] | None:
    """The cached arrays, or None where a file is missing or its content is not what was written."""
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
    return arrays if _split_hash(arrays) == meta["hash"] else None


def _decode(spec: Spec) -> dict[str, np.ndarray]:
    if spec.name == "digits":
        return _digits(spec)
    if spec.name == "digit-pairs":
        return _digit_pairs(spec)
    groups = _read_cifar(spec)
    for group, size, (_, labels) in zip(
        ("training", "test"), spec.given_sizes, groups, strict=True
    ):
        if len(labels) != size:
            raise UserError(
                f"{spec.name} has {len(labels):,} {group} images where {size:,} are expected: "
                f"a file is missing or cut short in {_folder(spec)}"
            )
    groups = [_canonical(images, labels) for images, labels in groups]
    content = hashlib.sha256()
    for images, labels in groups:
        content.update(images)
        content.update(labels)
    if spec.content and content.hexdigest() != spec.content:
        raise UserError(
            f"the images or labels of {spec.name} in {_folder(spec)} are not those of the "
            "published set: a file was altered; fetch it again"
        )
    return _slice(spec, *groups)


def _canonical(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in the order of the hashes of their bytes, whatever order they came in."""
    keys = [
        hashlib.sha256(image.tobytes() + int(label).to_bytes(2, "little")).digest()
        for image, label in zip(images, labels, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return np.ascontiguousarray(images[order]), np.ascontiguousarray(labels[order])


def _slice(spec: Spec, train: tuple, test: tuple) -> dict[str, np.ndarray]:
    """Cut the training group into three splits at fixed places; every image is its own source."""
    arrays, start = {}, 0
    for split, size in zip(SPLITS, spec.sizes, strict=True):
        (images, labels), offset = (test, 0) if split == "test" else (train, start)
        arrays[f"{split}.images"] = images[offset : offset + size]
        arrays[f"{split}.labels"] = labels[offset : offset + size]
        first = start
        arrays[f"{split}.sources"] = np.arange(first, first + size, dtype=np.int64)[:, None]
        start += size
    return arrays


# -- the digits -----------------------------------------------------------------------------------


def _digit_images() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, (1797, 8, 8) with grey values 0..16, and labels, in hash order."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return _canonical(digits.images.astype(np.uint8), digits.target.astype(np.int64))


def _resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, 8, 8) grey values 0..16 to (N, height, width) bytes, bilinear by torch."""
    import torch

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(images).float()[:, None] * (255 / 16),
        size=(height, width),
        mode="bilinear",
        align_corners=False,
    )
    return resized.round().clamp(0, 255).byte()[:, 0].numpy()


def _digits(spec: Spec) -> dict[str, np.ndarray]:
    images, labels = _digit_images()
    images = _resize(images, IMAGE_SIZE, IMAGE_SIZE)[:, None]
    first_test = spec.given_sizes[0]
    return _slice(
        spec,
        (images[:first_test], labels[:first_test]),
        (images[first_test:], labels[first_test:]),
    )


def _digit_pairs(spec: Spec) -> dict[str, np.ndarray]:
    """Pairs within each split of the digits, so no source image is shared between splits.

    Each of the 100 classes (left, right) has the same number of pairs: those with the lowest
    hashes among all that the split's digits allow.
    """
    digits, classes = _digit_images()
    halves = _resize(digits, IMAGE_SIZE, IMAGE_SIZE // 2)  # (1797, 32, 16)
    arrays, start = {}, 0
    for split, size, count in zip(SPLITS, SPECS["digits"].sizes, spec.sizes, strict=True):
        members = np.arange(start, start + size)
        start += size
        by_class = [members[classes[members] == digit] for digit in range(10)]
        pairs, labels = [], []
        for label in range(100):
            left, right = by_class[label // 10], by_class[label % 10]
            grid = np.stack(np.meshgrid(left, right, indexing="ij"), -1).reshape(-1, 2)
            chosen = np.argsort(_scatter(grid[:, 0] * 10_000 + grid[:, 1]), kind="stable")
            pairs.append(grid[chosen[: count // 100]])
            labels.append(np.full(count // 100, label))
        pairs, labels = np.concatenate(pairs), np.concatenate(labels)
        order = np.argsort(_scatter(pairs[:, 1] * 10_000 + pairs[:, 0] + 7), kind="stable")
        pairs = pairs[order]
        arrays[f"{split}.images"] = np.concatenate(
            [halves[pairs[:, 0]], halves[pairs[:, 1]]], axis=2
        )[:, None]
        arrays[f"{split}.labels"] = labels[order].astype(np.int64)
        arrays[f"{split}.sources"] = pairs.astype(np.int64)
    return arrays


def _scatter(numbers: np.ndarray) -> np.ndarray:
    """A fixed scrambling of whole numbers: the finaliser of splitmix64, no library's generator."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


# -- CIFAR ----------------------------------------------------------------------------------------


def data_root() -> Path:
    """`$VITSTUDY_DATA`, a relative one counted from the repository's root, or `data/` there.

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
    """The set's Parquet files, in whatever folders below its own the hub serves them."""
    return sorted(_folder(spec).rglob("*.parquet"))


def _is_of(file: Path, group: str) -> bool:
    """Whether a file is of the group `train` or `test`: `train-*.parquet` or `train/*.parquet`."""
    return file.name.startswith(f"{group}-") or file.parent.name == group


def _torchvision_class(spec: Spec):
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[spec.name]


def _source_files(spec: Spec) -> list[Path]:
    """The files that the data set would be read from, Parquet first; none where it is absent."""
    if found := _parquet_files(spec):
        return found
    # The folder's name is torchvision's own; asking torchvision for it would import torch.
    folder = (
        data_root() / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[spec.name]
    )
    return sorted(file for file in folder.glob("*") if file.is_file()) if folder.is_dir() else []


def _read_cifar(spec: Spec) -> list[tuple[np.ndarray, np.ndarray]]:
    if _parquet_files(spec):
        _check_sums(spec)
        return [_read_parquet(spec, group) for group in ("train", "test")]
    return _read_torchvision(spec)


def _check_sums(spec: Spec) -> None:
    """Compare the files with `SHA256SUMS` beside them, where there is one."""
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


def _read_parquet(spec: Spec, group: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels (N,) of the files of a group, in their names' order."""
    import pyarrow
    import pyarrow.parquet

    found = [file for file in _parquet_files(spec) if _is_of(file, group)]
    if not found:
        raise UserError(f"{_folder(spec)} holds no {group}-*.parquet and no {group}/*.parquet file")
    images, labels = [], []
    for file in found:
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


def _read_torchvision(spec: Spec) -> list[tuple[np.ndarray, np.ndarray]]:
    """torchvision's own files below the data root, checksummed by it, or its download."""
    make = _torchvision_class(spec)
    groups = []
    for train in (True, False):
        try:
            dataset = make(str(data_root()), train=train, download=False)
        except RuntimeError as absent:
            if _source_files(spec):
                raise UserError(
                    f"torchvision's {spec.name} files in {data_root()} are incomplete or altered "
                    "(their checksums do not match); remove them and run again"
                ) from absent
            dataset = _download(spec, make, train)
        groups.append((dataset.data.transpose(0, 3, 1, 2), np.array(dataset.targets, np.int64)))
    return groups


def _download(spec: Spec, make, train: bool):
    try:
        return make(str(data_root()), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"no {spec.name} here, and it could not be downloaded "
            f"({str(error)[:80]}): put the Hugging Face hub's Parquet files into "
            f"$VITSTUDY_DATA/{spec.name}/, or torchvision's files into $VITSTUDY_DATA, or run "
            "with a network; the profile 'digits' needs no data"
        ) from error
