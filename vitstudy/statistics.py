"""Accuracy and how sure it is, calibration, and the images on which two models differ."""

from __future__ import annotations

import numpy as np

BOOTSTRAP_DRAWS = 2_000


def wilson(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share of independent trials, 95 % by default (Wilson, 1927)."""
    share, spread = correct / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * np.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def bootstrap_over_sources(correct: np.ndarray, sources: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of accuracy where images share sources, by resampling the sources.

    correct (N,) bool; sources (N, S) whole numbers. A source drawn k times weighs k, an image the
    product over its sources (Owen, The Pigeonhole Bootstrap, 2007), so that images which show the
    same digit do not count as independent. The draws are fixed, so the interval is too.
    """
    names, positions = np.unique(sources, return_inverse=True)
    positions = positions.reshape(sources.shape)
    draws = np.random.RandomState(0)  # the legacy generator: its stream is frozen for ever
    shares = []
    for _ in range(BOOTSTRAP_DRAWS):
        times = np.bincount(draws.randint(0, len(names), len(names)), minlength=len(names))
        weights = times[positions].prod(axis=1)
        if weights.sum():
            shares.append((weights * correct).sum() / weights.sum())
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def accuracy_interval(correct: np.ndarray, sources: np.ndarray) -> tuple[float, float, str]:
    """A 95 % interval of accuracy, low, high, and how it was made.

    correct (N,) bool, sources (N, S). Wilson's where every image is its own source.
    """
    if sources.shape[1] == 1 and len(np.unique(sources)) == len(sources):
        return *wilson(int(correct.sum()), len(correct)), "wilson"
    return *bootstrap_over_sources(correct, sources), "bootstrap over source images"


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> float:
    """ECE: mean distance of confidence and accuracy over equal-width bins, weighted by their size.

    confidence (N,) in 0..1, correct (N,) bool. Guo et al., On Calibration of Modern Neural
    Networks, 2017, Eq. 3.
    """
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weights=confidence, minlength=bins) - np.bincount(
        index, weights=correct, minlength=bins
    )
    return float(np.abs(gaps).sum() / len(correct))


def flips(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> dict[str, int]:
    """Images whose predicted class differs between two models, and which way it went; all (N,)."""
    return {
        "flips": int((before != after).sum()),
        "flips_to_wrong": int(((before == labels) & (after != labels)).sum()),
        "flips_to_right": int(((before != labels) & (after == labels)).sum()),
    }
