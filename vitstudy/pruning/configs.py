"""The settings of pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitstudy.configs import Config, FineTuned, optional


@dataclass(frozen=True, kw_only=True)
class Gates(FineTuned):
    """Soft gates before every dimension, trained under `penalty` times their l1 norm.

    gate_range: how far a gate can go in the training; None lets gates learn at the network's rate.
    """

    module = "vitstudy.pruning.gates"
    penalty: float = 1e-4
    gate_range: float | None


@dataclass(frozen=True, kw_only=True)
class Skip(Gates):
    """Gates before whole blocks, too; then r of all parameters go."""

    module = "vitstudy.pruning.skip"
    r: float


@dataclass(frozen=True, kw_only=True)
class Cut(Config):
    """A parent cut by `score` until r of all its parameters are gone.

    images: of the calibration split, that a score by Eq. 7 or 8 needs. groups: in which the MLP's
    dimensions are scored by Eq. 8.
    """

    module = "vitstudy.pruning.cut"
    score: Literal["gate", "taylor", "kl", "magnitude", "random"]
    r: float
    images: int | None = optional()
    groups: int | None = optional()


@dataclass(frozen=True, kw_only=True)
class Tune(FineTuned):
    """The short training of what a cut left."""

    module = "vitstudy.pruning.tune"
