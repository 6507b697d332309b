"""The teacher, further distillations, and their controls by the labels alone."""

from __future__ import annotations

from vitstudy.distillation.configs import DeiT, Soft, Teacher
from vitstudy.methods.method import Method
from vitstudy.methods.papers import QUARTER
from vitstudy.methods.references import HINTON, TOUVRON


def _soft(key: str, title: str, config: Soft, divergence: str, tier: str) -> Method:
    return Method(
        key=key,
        title=f"Soft distillation{title}",
        method="Knowledge Distillation",
        reference=HINTON,
        tier=tier,
        beneath="deit-base",
        config=config,
        parents=("teacher",),
        timed=False,
        note=f"{divergence}, τ = {config.temperature:g}; vanilla's network and steps",
    )


def _by_labels(key: str, title: str, width: float, beneath: str, note: str) -> Method:
    """DeiT's network of both heads without a teacher."""
    return Method(
        key=key,
        title=f"{title}, both heads by the labels",
        method="-",
        reference="none",
        tier="control",
        beneath=beneath,
        config=DeiT(target="labels", width=width),
        parents_of_pretrained=(),
        reads=("distilled",),
        timed=False,
        note=note,
    )


VARIANTS = (
    Method(
        key="teacher",
        title="The teacher, a residual CNN",
        method="-",
        reference="He et al., Deep Residual Learning for Image Recognition, 2016",
        tier="control",
        beneath="deit-base",
        config=Teacher(),
        packer="vitstudy.distillation.teacher",
        reads=("teacher",),
        note="no ViT: what the students are distilled from",
    ),
    _soft("soft", "", Soft(), "KL(student ‖ teacher), as printed", "control"),
    _soft(
        "soft-usual",
        ", usual direction",
        Soft(expectation="teacher"),
        "KL(teacher ‖ student)",
        "variant",
    ),
    _soft("soft-t1", ", cold", Soft(temperature=1.0), "KL(student ‖ teacher)", "sweep"),
    _soft("soft-t8", ", hot", Soft(temperature=8.0), "KL(student ‖ teacher)", "sweep"),
    Method(
        key="hard",
        title="Hard distillation",
        method="Knowledge Distillation",
        reference=TOUVRON,
        beneath="deit-base",
        config=DeiT(token=False),
        parents=("teacher",),
        timed=False,
        note="Eq. 5 without a token; vanilla's network and steps",
    ),
    _by_labels(
        "token-labels",
        "DeiT base",
        1.0,
        "deit-base",
        "control: the token without a teacher, as many steps",
    ),
    _by_labels(
        "tiny-labels",
        "DeiT tiny",
        QUARTER,
        "deit-tiny",
        "control: the same network without a teacher, as many steps",
    ),
    Method(
        key="deit-again",
        title="DeiT base, distilled again",
        method="Knowledge Distillation",
        reference=TOUVRON,
        tier="sweep",
        beneath="deit-base",
        config=DeiT(again=True),
        parents=("teacher",),
        reads=("distilled",),
        note="of pretrained profiles: the token learns from the study's own teacher",
    ),
)
