r"""The Efficient Error Rate (EER) of the survey: Eq. 26, and Eq. 28 with weights.

$$EER=\frac{100}{|i|}\sum_i\frac{M_i}{R_i}\qquad(26)$$

with $M_i$ the model's and $R_i$ the reference's value of metric $i$; the tables print percent, so
the reference scores 100. The weighted form is printed as $\frac1{|i|}\sum_i\delta_i M_i/R_i$ with
$\sum_i\delta_i=1$ (28): that divides by the number of metrics twice, once by $|i|$ and once more in
the weights, so with equal weights it is $1/|i|$ of Eq. 26 and its reference scores $100/|i|$. The
form that is consistent with Eq. 26 leaves $1/|i|$ out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from vitstudy.errors import UserError

UNITS = {"parameters": "M", "flops": "G", "bits": "bit", "size": "MB", "latency": "ms"}
"""The metrics that the study knows; all of them are costs, so less is better."""


class Quantity(NamedTuple):
    """A number with its unit; two of them are compared only where the units are the same."""

    value: float
    unit: str


Metrics = Mapping[str, Quantity]

VIT_B16 = {
    "parameters": Quantity(86.6, "M"),
    "flops": Quantity(17.6, "G"),
    "bits": Quantity(32, "bit"),
    "size": Quantity(330, "MB"),
}
"""The survey's reference, ViT-B/16. Its 330 are MiB (86.6 M × 4 / 2^20), while the sizes of the
survey's tables are 10^6 bytes (88.0 MB for 88.0 M bytes): in those, it would be 346."""


def quantities(**values: float) -> dict[str, Quantity]:
    """Metrics in the study's own units. Raises UserError for a metric that it does not know."""
    for name in values:
        if name not in UNITS:
            raise UserError(f"unknown metric {name!r}; valid: {', '.join(UNITS)}")
    return {name: Quantity(value, UNITS[name]) for name, value in values.items()}


def mean_bits(weight_bits: float, activation_bits: float) -> float:
    """What the survey's #Bit is: the mean of both widths, counted as one metric.

    It says so nowhere; `audit.bit_rules` finds it from the numbers.
    """
    return (weight_bits + activation_bits) / 2


def ratios(metrics: Metrics, reference: Metrics = VIT_B16) -> dict[str, float]:
    """$M_i/R_i$ of every metric.

    Raises UserError where there is no metric, one has no reference or another unit, a value is
    negative, infinite or no number, or a reference is not positive.
    """
    if not metrics:
        raise UserError(f"EER of no metrics; valid: any of {', '.join(reference)}")
    found = {}
    for name, (value, unit) in metrics.items():
        if name not in reference:
            raise UserError(
                f"metric {name!r} has no reference; valid: {', '.join(reference)}, or give one"
            )
        base, base_unit = reference[name]
        if unit != base_unit:
            raise UserError(f"{name} is in {unit}, its reference in {base_unit}: convert one")
        if not (math.isfinite(base) and base > 0):
            raise UserError(f"the reference of {name} is {base:g}; it must be a positive number")
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"{name} is {value:g}; it must be a number that is not negative")
        found[name] = value / base
    return found


def eer(metrics: Metrics, reference: Metrics = VIT_B16) -> float:
    """Eq. 26 in percent: the mean of the metrics' ratios to `reference`; raises as `ratios`."""
    found = ratios(metrics, reference)
    return 100 * sum(found.values()) / len(found)


def weighted_eer(
    metrics: Metrics,
    weights: Mapping[str, float],
    reference: Metrics = VIT_B16,
    as_printed: bool = False,
) -> float:
    """The weighted EER in percent, consistent with Eq. 26; `as_printed` is Eq. 28 to the letter.

    `weights` has one for each of `metrics`, none negative, sum one. Raises UserError where they are
    anything else, and as `ratios`.
    """
    found = ratios(metrics, reference)
    check_weights(weights, found)
    total = 100 * sum(weights[name] * ratio for name, ratio in found.items())
    return total / len(found) if as_printed else total


def check_weights(weights: Mapping[str, float], metrics) -> None:
    """Raise UserError where `weights` are not one for each of `metrics`, 0 to 1, sum one."""
    if set(weights) != set(metrics):
        raise UserError(f"weights for {', '.join(weights)}, but metrics {', '.join(metrics)}")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise UserError(f"the weight of {name} is {weight:g}; it must be 0 to 1")
    if not math.isclose(total := sum(weights.values()), 1, abs_tol=1e-6):
        raise UserError(f"the weights sum to {total:g}; they must sum to 1")


def balanced(shares: Mapping[str, float]) -> dict[str, float]:
    """`shares` of any sum as weights that sum to one, those of zero left out.

    Raises UserError where a share is negative or no number, or all are zero.
    """
    for name, share in shares.items():
        if not (math.isfinite(share) and share >= 0):
            raise UserError(f"the weight of {name} is {share:g}; it must not be negative")
    if not (total := sum(shares.values())):
        raise UserError("all weights are zero; give at least one metric a weight")
    return {name: share / total for name, share in shares.items() if share}
