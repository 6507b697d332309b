"""The one order of a data set's images, and the places at which it is cut into splits."""

from __future__ import annotations

import hashlib

import numpy as np

from vitstudy.dataset_specs import SPLITS, Spec

LabelledImages = tuple[np.ndarray, np.ndarray]
"""Images (N, C, H, W) as bytes and their labels (N,) as int64."""


def canonical_order(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort images (N, ...) and labels (N,) by the hashes of their bytes.

    The result is the same from whichever file, and in whichever order, the images came.
    """
    keys = [
        hashlib.sha256(image.tobytes() + int(label).to_bytes(2, "little")).digest()
        for image, label in zip(images, labels, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return np.ascontiguousarray(images[order]), np.ascontiguousarray(labels[order])


def cut_into_splits(
    spec: Spec, train: LabelledImages, test: LabelledImages
) -> dict[str, np.ndarray]:
    """Cut the training images into three splits at fixed places; every image is its own source.

    The arrays are named `<split>.images`, `<split>.labels` and `<split>.sources`.
    """
    arrays, start = {}, 0
    for split, size in zip(SPLITS, spec.sizes, strict=True):
        (images, labels), offset = (test, 0) if split == "test" else (train, start)
        arrays[f"{split}.images"] = images[offset : offset + size]
        arrays[f"{split}.labels"] = labels[offset : offset + size]
        arrays[f"{split}.sources"] = np.arange(start, start + size, dtype=np.int64)[:, None]
        start += size
    return arrays
