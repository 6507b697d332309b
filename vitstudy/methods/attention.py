"""Nyström attention without training, and the attentions that the survey discusses."""

from __future__ import annotations

from typing import Literal

from vitstudy.attention.configs import Nystromformer, Replacement, Spectrum
from vitstudy.methods.method import Method
from vitstudy.methods.references import XIONG

DROP_IN = "the baseline's weights, not trained further"


def _drop_in(
    num_landmarks: int, beneath: str, class_token: Literal["segment", "own"] = "segment"
) -> Method:
    own = class_token == "own"
    return Method(
        key=f"nystrom-m{num_landmarks}{'-class' if own else ''}-dropin",
        title=f"Nyström, m={num_landmarks}{', class token a landmark' if own else ''}, drop-in",
        method="Low-rank Approximation",
        reference=XIONG,
        tier="control",
        beneath=beneath,
        config=Nystromformer(num_landmarks=num_landmarks, class_token=class_token, steps=0),
        parents=("vanilla",),
        timed=False,
        note=DROP_IN
        + ("; the class token is a landmark of its own, not one of a segment" if own else ""),
    )


VARIANTS = (
    _drop_in(8, "nystrom-m24"),
    _drop_in(8, "nystrom-m24", "own"),
    _drop_in(24, "nystrom-m24"),
    _drop_in(32, "nystrom-m32"),
    _drop_in(64, "nystrom-m64"),
    Method(
        key="nystrom-all",
        title="Nyström, as many landmarks as tokens",
        method="Low-rank Approximation",
        reference=XIONG,
        tier="control",
        beneath="nystrom-m64",
        config=Spectrum(),
        parents=("vanilla",),
        timed=False,
        note="control: softmax attention again; what its matrices are like is analysed here",
    ),
)


def _attention(
    key: str,
    title: str,
    reference: str,
    mechanism: str,
    *,
    note: str,
    survey_model: str = "",
    **settings: object,
) -> Method:
    """Another attention in the baseline, fine-tuned.

    mechanism: its `module:Class` in `vitstudy.attention`. settings: the class's fields.
    """
    return Method(
        key=key,
        title=title,
        method="Efficient Attention",
        reference=reference,
        survey_model=survey_model,
        tier="survey",
        config=Replacement(attention=f"vitstudy.attention.{mechanism}", settings=settings),
        parents=("vanilla",),
        note=note,
    )


SURVEYED = (
    _attention(
        "hydra",
        "Hydra Attention",
        "Bolya et al., Hydra Attention: Efficient Attention with Many Heads, 2022",
        "hydra:Hydra",
        survey_model="Hydra Attention",
        note="cosine kernel, a head a feature; only elementwise work between q, k and v",
    ),
)
