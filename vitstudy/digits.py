"""The data sets that are made here: scikit-learn's digits, and pairs of them side by side."""

from __future__ import annotations

import numpy as np

from vitstudy.dataset_specs import IMAGE_SIZE, SPECS, SPLITS, Spec
from vitstudy.splits import canonical_order, cut_into_splits


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Load scikit-learn's digits in hash order: (1797, 8, 8) with grey values 0..16, and labels."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return canonical_order(digits.images.astype(np.uint8), digits.target.astype(np.int64))


def _resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (N, 8, 8) grey values 0..16 to (N, height, width) bytes, bilinearly by torch."""
    import torch

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(images).float()[:, None] * (255 / 16),
        size=(height, width),
        mode="bilinear",
        align_corners=False,
    )
    return resized.round().clamp(0, 255).byte()[:, 0].numpy()


def digits(spec: Spec) -> dict[str, np.ndarray]:
    """Make the arrays of the splits of single digits."""
    images, labels = _read_digits()
    images = _resize(images, IMAGE_SIZE, IMAGE_SIZE)[:, None]
    first_test = spec.given_sizes[0]
    return cut_into_splits(
        spec,
        (images[:first_test], labels[:first_test]),
        (images[first_test:], labels[first_test:]),
    )


def digit_pairs(spec: Spec) -> dict[str, np.ndarray]:
    """Pair digits within each split, so that no source image is shared between splits.

    Each of the 100 classes (left, right) has the same number of pairs: those with the lowest
    hashes among all that the split's digits allow.
    """
    images, classes = _read_digits()
    halves = _resize(images, IMAGE_SIZE, IMAGE_SIZE // 2)  # (1797, 32, 16)
    arrays, start = {}, 0
    for split, size, count in zip(SPLITS, SPECS["digits"].sizes, spec.sizes, strict=True):
        members = np.arange(start, start + size)
        start += size
        by_class = [members[classes[members] == digit] for digit in range(10)]
        pairs_by_class = []
        for left_digit, right_digit in np.ndindex(10, 10):
            left, right = by_class[left_digit], by_class[right_digit]
            grid = np.stack(np.meshgrid(left, right, indexing="ij"), -1).reshape(-1, 2)
            chosen = np.argsort(_scramble(grid[:, 0] * 10_000 + grid[:, 1]), kind="stable")
            pairs_by_class.append(grid[chosen[: count // 100]])
        pairs = np.concatenate(pairs_by_class)
        labels = np.repeat(np.arange(100), count // 100)
        order = np.argsort(_scramble(pairs[:, 1] * 10_000 + pairs[:, 0] + 7), kind="stable")
        pairs = pairs[order]
        arrays[f"{split}.images"] = np.concatenate(
            [halves[pairs[:, 0]], halves[pairs[:, 1]]], axis=2
        )[:, None]
        arrays[f"{split}.labels"] = labels[order].astype(np.int64)
        arrays[f"{split}.sources"] = pairs.astype(np.int64)
    return arrays


def _scramble(numbers: np.ndarray) -> np.ndarray:
    """Scramble whole numbers by the finaliser of splitmix64, which no library's version changes."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
