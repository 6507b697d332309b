"""Accuracy and how sure it is, calibration, and the images on which two models differ."""

from __future__ import annotations

import numpy as np

BOOTSTRAP_DRAWS = 2_000


def wilson(correct: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Compute Wilson's score interval of a share of independent trials (Wilson, 1927).

    z: the normal quantile; by default that of a 95 % interval.
    """
    share, spread = correct / total, z * z / total
    centre = (share + spread / 2) / (1 + spread)
    half = z * np.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def bootstrap_over_sources(correct: np.ndarray, sources: np.ndarray) -> tuple[float, float]:
    """Compute a 95 % interval of accuracy by resampling the sources that images share.

    correct (N,) bool; sources (N, S) whole numbers. A source drawn k times weighs k, an image the
    product over its sources (Owen, The Pigeonhole Bootstrap, 2007), so that images which show the
    same digit do not count as independent. The draws are fixed, so the interval is too.
    """
    names, positions = np.unique(sources, return_inverse=True)
    positions = positions.reshape(sources.shape)
    draws = np.random.RandomState(0)  # the legacy generator: its stream is frozen for ever
    shares = []
    for _ in range(BOOTSTRAP_DRAWS):
        counts = np.bincount(draws.randint(0, len(names), len(names)), minlength=len(names))
        weights = counts[positions].prod(axis=1)
        if weights.sum():
            shares.append((weights * correct).sum() / weights.sum())
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def accuracy_interval(correct: np.ndarray, sources: np.ndarray) -> tuple[float, float, str]:
    """Compute a 95 % interval of accuracy: its low and high end, and the name of its method.

    correct (N,) bool, sources (N, S). The interval is Wilson's where every image is its own source.
    """
    if sources.shape[1] == 1 and len(np.unique(sources)) == len(sources):
        return *wilson(int(correct.sum()), len(correct)), "wilson"
    return *bootstrap_over_sources(correct, sources), "bootstrap over source images"


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> float:
    """Compute the ECE, the mean distance of confidence and accuracy over bins of equal width.

    Bins are weighted by their size. confidence (N,) in 0..1, correct (N,) bool. Guo et al., On
    Calibration of Modern Neural Networks, 2017, Eq. 3.
    """
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weights=confidence, minlength=bins) - np.bincount(
        index, weights=correct, minlength=bins
    )
    return float(np.abs(gaps).sum() / len(correct))


def flips(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> dict[str, int]:
    """Count the images whose predicted class differs between two models, and in which direction.

    before, after and labels are classes, (N,).
    """
    return {
        "flips": int((before != after).sum()),
        "flips_to_wrong": int(((before == labels) & (after != labels)).sum()),
        "flips_to_right": int(((before != labels) & (after == labels)).sum()),
    }
