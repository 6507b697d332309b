"""Soft distillation: the student learns the teacher's probabilities, softened by a temperature.

Hinton et al., Distilling the Knowledge in a Neural Network, 2015; Eq. 4 of papers A, B and C, and
Eq. 3-4 of the survey. The papers print the divergence KL(student ‖ teacher), which is the default
here; Hinton's and DeiT's own is KL(teacher ‖ student), `expectation="teacher"`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from vitstudy import baseline, training
from vitstudy.context import Context
from vitstudy.distillation.configs import Soft, SoftTargets
from vitstudy.distillation.teacher import TeacherLogits, validation_logits
from vitstudy.errors import UserError

EXPECTATIONS = ("student", "teacher")

# -- the mathematics ------------------------------------------------------------------------------


def check_settings(
    *, temperature: float = 1.0, weight: float = 0.0, expectation: str = "student"
) -> None:
    """Raise ValueError where τ is not above 0, λ not in 0..1, or the direction unknown."""
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"the temperature τ is {temperature}; valid: a finite number above 0 "
            "(1 leaves the probabilities as they are)"
        )
    if not 0 <= weight <= 1:
        raise ValueError(
            f"the weight λ of distillation is {weight}; valid: 0 (the labels alone) to 1 "
            "(the teacher alone)"
        )
    if expectation not in EXPECTATIONS:
        raise ValueError(
            f"expectation={expectation!r} is unknown; valid: {', '.join(map(repr, EXPECTATIONS))}"
        )


def check_same_classes(student: Tensor, teacher: Tensor) -> None:
    """Raise ValueError where the logits, (B, C) each, are not of the same images and classes."""
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"the teacher tells {teacher.shape[-1]} classes apart, the student "
            f"{student.shape[-1]}: they must be trained on the same data set"
        )
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's logits are of {len(student)} images, the teacher's of {len(teacher)}"
        )


def soft_targets(logits: Tensor, temperature: float) -> Tensor:
    """ψ(Z / τ): probabilities (B, C) that a higher temperature makes more alike."""
    check_settings(temperature=temperature)
    return (logits / temperature).softmax(-1)


def divergence(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    expectation: str = "student",
    per_class: bool = False,
) -> Tensor:
    """τ² KL of the softened probabilities, in nats, the mean over the images of (B, C) logits.

    expectation: "student" is KL(student ‖ teacher) as the papers print it, the sum weighted with
    the student's probabilities; "teacher" is the usual direction. per_class divides by the number
    of classes too, as the code of DeiT's authors does and their paper does not. τ² keeps the
    gradient's size, which falls with 1/τ². Raises ValueError for τ, for the direction, and where
    the classes differ.
    """
    check_settings(temperature=temperature, expectation=expectation)
    check_same_classes(student, teacher)
    log_s, log_t = (F.log_softmax(z / temperature, dim=-1) for z in (student, teacher))
    if expectation == "teacher":
        log_s, log_t = log_t, log_s
    each = (log_s.exp() * (log_s - log_t)).sum(-1)  # (B,)
    value = temperature**2 * each.mean()
    return value / student.shape[-1] if per_class else value


def soft_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    weight: float,
    expectation: str = "student",
    label_smoothing: float = 0.0,
) -> Tensor:
    """(1 - λ) CE(ψ(Z_s), y) + λ τ² KL(ψ(Z_s / τ), ψ(Z_t / τ)): the papers' Eq. 4, a scalar.

    student, teacher: logits (B, C). labels: (B,) classes, or (B, C) probabilities. weight: λ; at 0
    the loss is the cross-entropy of training without a teacher. Raises ValueError for settings and
    where the classes differ.
    """
    check_settings(temperature=temperature, weight=weight, expectation=expectation)
    check_same_classes(student, teacher)
    by_labels = F.cross_entropy(student, labels, label_smoothing=label_smoothing)
    by_teacher = divergence(student, teacher, temperature, expectation=expectation)
    return (1 - weight) * by_labels + weight * by_teacher


def survey_loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """CE(y, p_s) + CE(p_t, p_s): the survey's Eq. 3-4, without temperature, weight or τ².

    The second term is KL(teacher ‖ student) at τ = 1 plus the teacher's entropy, a constant to the
    student. Raises ValueError where the classes differ.
    """
    check_same_classes(student, teacher)
    return F.cross_entropy(student, labels) + F.cross_entropy(student, teacher.softmax(-1))


# -- the rows of the study ------------------------------------------------------------------------


@contextlib.contextmanager
def checked_settings() -> Iterator[None]:
    """Turn what the mathematics refuses in a row's settings into one line for the user."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def settings(config: SoftTargets) -> dict[str, Any]:
    """`temperature`, `weight` and `expectation`; UserError for what `soft_loss` would refuse."""
    names = ("temperature", "weight", "expectation")
    chosen = {name: getattr(config, name) for name in names}
    with checked_settings():
        check_settings(**chosen)
    return chosen


def loss(context: Context[SoftTargets], teacher: TeacherLogits) -> training.Loss:
    """What `fit` minimises: `soft_loss` by the cell's settings and its recipe's smoothing."""
    chosen = settings(context.config)
    smoothing = context.profile.recipe(context.data.spec.name).label_smoothing

    def value(model: nn.Module, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        target = teacher(images, indices)
        return soft_loss(model(images), target, labels, label_smoothing=smoothing, **chosen)

    return value


def compress(context: Context[Soft]) -> nn.Module:
    """Train the vanilla model's own network, from its own first weights, with soft targets."""
    settings(context.config)  # before the teacher is asked
    return context.fit(baseline.start(context), loss=loss(context, TeacherLogits(context)))


def analyse(context: Context, model: nn.Module) -> dict[str, np.ndarray]:
    """The student's logits (N, C) on the validation images that the teacher's file has, too."""
    return {"logits": validation_logits(context, model)}
