"""The list of what the study measures, one entry a row, one file a family.

`METHODS` are the rows of the papers' Tables 1 and 2, in their order. `SURVEYED` are the methods
that the survey discusses, each a row of its own family. `VARIANTS` are other settings of a papers'
row and its controls: what trains as long, or has as many bits or bytes, without the method;
`COMBINED`, among them, are pairs of methods. `SWEEP` are settings that only the bit-width sweep
shows. A method's *tier* says how much depends on it, and a profile names the tiers that it
computes.
"""

from __future__ import annotations

from vitstudy.configs import FineTuned
from vitstudy.errors import unknown
from vitstudy.methods import attention, distillation, pruning, quantization
from vitstudy.methods.attention import SURVEYED
from vitstudy.methods.combined import COMBINED
from vitstudy.methods.method import TIERS, Method, not_installed
from vitstudy.methods.papers import METHODS, QUARTER
from vitstudy.methods.published import Published
from vitstudy.methods.quantization import SWEEP

__all__ = [
    "COMBINED",
    "FINE_TUNING",
    "METHODS",
    "SMALL",
    "SURVEYED",
    "SWEEP",
    "TIERS",
    "VARIANTS",
    "Method",
    "Published",
    "available",
    "beneath",
    "computed",
    "get",
    "not_installed",
]

FINE_TUNING = FineTuned().options()
"""Shares of the profile's steps and learning rates for whatever is fine-tuned from the baseline."""
SMALL = {"width": QUARTER}
VARIANTS = (
    *quantization.VARIANTS,
    *distillation.VARIANTS,
    *pruning.VARIANTS,
    *attention.VARIANTS,
    *COMBINED,
)


def available() -> tuple[Method, ...]:
    """What the study can measure: the papers' rows, each followed by what stands beneath it, then
    the surveyed methods."""
    ordered: list[Method] = []
    for row in METHODS:
        points = [method for method in SWEEP if method.beneath == row.key]
        ordered += [row, *beneath(row.key), *points]
    return (*ordered, *SURVEYED)


def beneath(key: str) -> tuple[Method, ...]:
    """The variants and controls of the papers' row `key`."""
    return tuple(method for method in VARIANTS if method.beneath == key)


def computed(tiers: tuple[str, ...]) -> set[str]:
    """The keys of the methods of `tiers`, and of all that those start from."""
    keys: set[str] = set()
    waiting = [method.key for method in available() if method.tier in tiers]
    while waiting:
        key = waiting.pop()
        if key not in keys:
            keys.add(key)
            waiting += get(key).parents
    return keys


def get(key: str) -> Method:
    """The method `key`; raises UserError, naming the valid ones, where the study has none."""
    for method in (*METHODS, *SURVEYED, *VARIANTS, *SWEEP):
        if method.key == key:
            return method
    raise unknown("method", key, [method.key for method in available()])
