"""What a user gives besides the model, in the form in which methods ask for it.

Methods read images from splits of a data set. Calibration images are kept as one tensor; training
images come one batch after the other, from a data set by index or from a loader in its own order.
All are as the model takes them: nothing normalises or augments them further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from vitstudy import structure
from vitstudy.errors import UserError
from vitstudy.profiles import Recipe, Teacher

MOST_IMAGES = 1_024
"""Calibration images that are read of a loader or a data set: no method of the study takes more."""
TAKES = "a tensor (N, ...), a pair (images, labels), a Dataset or a DataLoader"


@dataclass(frozen=True)
class Calibration:
    """Calibration images (N, ...) and, where they were given, their labels (N,)."""

    images: Tensor
    given_labels: Tensor | None = None

    @property
    def labels(self) -> Tensor:
        if self.given_labels is None:
            raise UserError(
                "this method needs the labels of the calibration images: give "
                "calibration=(images, labels), or a Dataset or DataLoader of such pairs"
            )
        return self.given_labels

    def __len__(self) -> int:
        return len(self.images)

    def head(self, count: int) -> Calibration:
        """The first `count` images."""
        labels = self.given_labels
        return Calibration(self.images[:count], None if labels is None else labels[:count])


def calibration(given: object) -> Calibration:
    """The calibration images of what the user gives; UserError for what holds none."""
    if isinstance(given, Tensor):
        return _checked(given, None)
    if isinstance(given, (tuple, list)) and len(given) == 2 and isinstance(given[0], Tensor):
        images, labels = given
        return _checked(images, torch.as_tensor(labels))
    if not isinstance(given, (Dataset, DataLoader)):
        raise UserError(f"calibration is a {type(given).__name__}; valid: {TAKES}")
    images, labels = [], []
    for batch in _batches(given):
        image, label = batch if isinstance(batch, (tuple, list)) else (batch, None)
        images.append(image)
        labels.append(label)
        if sum(map(len, images)) >= MOST_IMAGES:
            break
    if not images or not all(isinstance(each, Tensor) for each in images):
        raise UserError(f"calibration gives no batches of tensors; valid: {TAKES}")
    known = all(isinstance(each, Tensor) for each in labels)
    whole = torch.cat(labels)[:MOST_IMAGES] if known else None
    return _checked(torch.cat(images)[:MOST_IMAGES], whole)


def _batches(given: Dataset | DataLoader) -> Iterator:
    loader = given if isinstance(given, DataLoader) else DataLoader(given, batch_size=64)
    try:
        yield from loader
    except (TypeError, KeyError) as error:
        raise UserError(f"the images cannot be put into batches: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _checked(images: Tensor, labels: Tensor | None) -> Calibration:
    if images.ndim < 2 or not len(images):
        raise UserError(
            f"the calibration set is empty or no batch: shape {tuple(images.shape)}; give images "
            "(N, C, H, W) as the model takes them"
        )
    if not images.is_floating_point():
        raise UserError(
            f"the calibration images are {images.dtype}: give them as the model takes them, "
            "normalised, in float32"
        )
    if labels is not None and len(labels) != len(images):
        raise UserError(f"{len(images)} calibration images have {len(labels)} labels")
    labels = labels if labels is None else labels.cpu()
    return Calibration(images.detach().float().cpu(), labels)


# -- training -------------------------------------------------------------------------------------


class Stream:
    """Training images and labels, one batch after the other, in the form of a split.

    A data set is asked for the images of the indices; a loader gives its next batch, whatever they
    are, and begins again at its end.
    """

    sources = None

    def __init__(self, train: object, batch_size: int):
        if not isinstance(train, (Dataset, DataLoader)):
            raise UserError(
                f"train is a {type(train).__name__}; valid: a Dataset or DataLoader of pairs "
                "(image, label)"
            )
        by_index = hasattr(train, "__getitem__") and hasattr(train, "__len__")
        if isinstance(train, Dataset) and not by_index:
            train = DataLoader(train, batch_size=batch_size)
        self._train, self._iterator = train, iter(())
        self._indices: Tensor | None = None
        self._batch: tuple[Tensor, Tensor] | None = None
        self.batch_size = getattr(train, "batch_size", None) or batch_size
        size = getattr(train, "dataset", train)
        self.length = len(size) if hasattr(size, "__len__") else self.batch_size
        if not self.length:
            raise UserError("the training set is empty")
        self.images, self.labels = _Part(self, 0), _Part(self, 1)

    def __len__(self) -> int:
        return self.length

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The images and labels of one batch; the same for the same `indices` once more."""
        if indices is not self._indices or self._batch is None:
            self._indices, self._batch = indices, _pair(self._next(indices))
        return self._batch

    def _next(self, indices: Tensor) -> object:
        if isinstance(self._train, DataLoader):
            try:
                return next(self._iterator)
            except StopIteration:
                self._iterator = iter(self._train)
                return next(self._iterator, None)
        try:
            return default_collate([self._train[index] for index in indices.tolist()])
        except TypeError as error:
            raise UserError(f"train= cannot be put into batches: {_line(error)}") from error


def _pair(batch: object) -> tuple[Tensor, Tensor]:
    is_pair = isinstance(batch, Sequence) and len(batch) == 2
    if not is_pair or not all(isinstance(each, Tensor) for each in batch):
        raise UserError("train= must give pairs (image, label) of tensors")
    images, labels = batch
    if not images.is_floating_point():
        raise UserError(
            f"train= gives images of {images.dtype}: give them as the model takes them, normalised"
        )
    return images, labels if labels.is_floating_point() else labels.long()


class _Part:
    """The images or the labels of a stream, by index."""

    def __init__(self, stream: Stream, place: int, device: str | torch.device = "cpu"):
        self._stream, self._place, self._device = stream, place, device

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._stream.batch(indices)[self._place].to(self._device)

    def __len__(self) -> int:
        return len(self._stream)

    def to(self, device: str | torch.device) -> _Part:
        return _Part(self._stream, self._place, device)


# -- what a method asks of a profile and of a data set --------------------------------------------


@dataclass(frozen=True)
class Spec:
    """What is known of a user's images: they are taken as they come."""

    num_classes: int
    channels: int
    name: str = "your images"
    shift: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Images:
    """A user's images in the place of a data set of the study."""

    spec: Spec
    train: Stream | None
    given_calibration: Calibration | None

    @property
    def calibration(self) -> Calibration:
        if self.given_calibration is None:
            raise UserError(f"the method needs calibration images: give calibration={TAKES}")
        return self.given_calibration

    def normalise(self, images: Tensor, size: int = 0) -> Tensor:
        """The images as they are."""
        return images


@dataclass(frozen=True)
class Network:
    """What methods ask of an architecture: the size of its images, and where its weights are from.

    A user's model is trained already, as those of timm are: learning rates are taken as given.
    """

    image_size: int
    timm_name: str = "your model"


_NO_TEACHER = Teacher(channels=())
"""Of the study's own making; a user's is given as a model, and computes in float32."""


@dataclass(frozen=True)
class Setting:
    """A user's budget in the place of a profile."""

    architecture: Network
    whole: Recipe
    teacher: Teacher = _NO_TEACHER
    name: str = "your model"

    def recipe(self, dataset: str) -> Recipe:
        """The recipe of which a method takes its share of the steps."""
        return self.whole


def example(model: nn.Module, calibrated: Calibration | None, train: Stream | None) -> Tensor:
    """Two inputs (2, ...) for `model`: of the images that are given, or of the size it is made for.

    Raises UserError where there are none and the model does not tell its size.
    """
    if calibrated is not None:
        images = calibrated.images
    elif train is not None:
        images = train.images[torch.arange(min(2, len(train)))]
    else:
        images = torch.randn(2, *_told(model), generator=torch.Generator().manual_seed(0))
    return torch.cat([images, images])[:2].float().cpu()


def _told(model: nn.Module) -> Iterable[int]:
    """(C, H, W) of the images that `model` says it takes."""
    if description := getattr(model, "description", None):
        return structure.image_shape(description)
    stem = getattr(model, "patch_embed", None)
    first = next((each for each in model.modules() if isinstance(each, nn.Conv2d)), None)
    if first is not None and (size := getattr(stem, "img_size", None)):
        return (first.in_channels, *size)
    if size := (getattr(model, "pretrained_cfg", None) or {}).get("input_size"):
        return size
    raise UserError(
        f"{type(model).__name__} does not tell the size of its images: give calibration=images "
        "(N, C, H, W)"
    )
