"""The settings of the distillations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vitstudy.configs import Config


@dataclass(frozen=True, kw_only=True)
class Teacher(Config):
    """The residual CNN, whose settings are the profile's."""

    module = "vitstudy.distillation.teacher"


@dataclass(frozen=True, kw_only=True)
class DeiT(Config):
    """DeiT's student: what its two heads learn, with equal weights unless `weight` says otherwise.

    target: what the token learns from: the teacher's classes, its probabilities, or the labels.
    token: whether there is a token at all. again: of pretrained profiles, whether a model that was
    distilled already is distilled again. width: the share of the profile's width.
    """

    module = "vitstudy.distillation.deit"
    target: Literal["hard", "soft", "labels"] = "hard"
    weight: float = 0.5
    token: bool = True
    again: bool = False
    width: float = 1.0


@dataclass(frozen=True, kw_only=True)
class SoftTargets(Config):
    """Eq. 4's temperature τ, the weight λ of the teacher, and whose expectation the KL takes."""

    temperature: float = 2.0
    weight: float
    expectation: Literal["student", "teacher"] = "student"


@dataclass(frozen=True, kw_only=True)
class Soft(SoftTargets):
    """Vanilla's own network, trained from scratch with soft targets."""

    module = "vitstudy.distillation.soft"
    weight: float = 0.7


@dataclass(frozen=True, kw_only=True)
class Taught(SoftTargets):
    """Another method's own fine-tuning, with soft targets: `method` are that method's settings."""

    module = "vitstudy.distillation.taught"
    method: Config
    weight: float = 0.5

    def options(self) -> dict[str, Any]:
        return {**self.method.options(), **super().options(), "method": self.method.module}
