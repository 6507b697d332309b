"""The settings of attentions that stand in the place of softmax attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from vitstudy.configs import FineTuned


@dataclass(frozen=True, kw_only=True)
class Replacement(FineTuned):
    """An attention by its import path, `package.module:Class`, and the settings of that class.

    `replace.named` makes the class, and refuses a setting that it does not have.
    """

    module = "vitstudy.attention.replace"
    attention: str
    settings: dict[str, Any] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        options = super().options()
        return {**options.pop("settings"), **options}


@dataclass(frozen=True, kw_only=True)
class Nystromformer(FineTuned):
    """Nyström attention: None landmarks are as many as there are tokens (`nystrom.Nystrom`)."""

    module = "vitstudy.attention.nystrom"
    num_landmarks: int | None
    class_token: Literal["segment", "own"] = "segment"
    iterations: int = 6


@dataclass(frozen=True, kw_only=True)
class Spectrum(Nystromformer):
    """Every token a landmark: softmax attention again, whose matrices are analysed."""

    module = "vitstudy.attention.spectrum"
    num_landmarks: int | None = None
    steps: float = 0
