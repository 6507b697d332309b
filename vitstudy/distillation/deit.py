"""DeiT: hard distillation, and a distillation token with a head of its own.

Touvron et al., Training Data-Efficient Image Transformers & Distillation through Attention, 2021;
Eq. 5 of papers A, B and C. The token stands beside the class token and learns from the teacher,
the class token from the labels; at inference the logits of both heads are averaged.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitstudy import baseline, formulas, models, training
from vitstudy.context import Context
from vitstudy.distillation.configs import DeiT
from vitstudy.distillation.soft import (
    check_same_classes,
    check_settings,
    checked_settings,
    divergence,
)
from vitstudy.distillation.teacher import TeacherLogits, validation_logits
from vitstudy.errors import UserError
from vitstudy.narrow import narrowed, share_of_width
from vitstudy.profiles import Architecture

TARGETS = ("none", "labels", "soft", "hard")
ADDED = ("dist_token", "head_dist")
"""What a student has that vanilla has not."""

# -- the mathematics ------------------------------------------------------------------------------


def check_target(target: str) -> None:
    """Raise ValueError where it is none of TARGETS."""
    if target not in TARGETS:
        raise ValueError(f"target={target!r} is unknown; valid: {', '.join(map(repr, TARGETS))}")


def hard_targets(teacher: Tensor) -> Tensor:
    """y_t = argmax_c Z_t(c): the class (B,) that the teacher's logits (B, C) decide for."""
    return teacher.argmax(-1)


def hard_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    weight: float = 0.5,
    label_smoothing: float = 0.0,
) -> Tensor:
    """½ CE(ψ(Z_s), y) + ½ CE(ψ(Z_s), y_t): the papers' Eq. 5, a scalar, with λ for the second half.

    student, teacher: logits (B, C); labels (B,), or (B, C) probabilities. Raises ValueError for λ
    and where the classes differ.
    """
    given = {"target": "hard", "weight": weight, "label_smoothing": label_smoothing}
    return distillation_loss(student, student, teacher, labels, **given)


def distillation_loss(
    class_logits: Tensor,
    token_logits: Tensor,
    teacher: Tensor | None,
    labels: Tensor,
    *,
    target: str = "hard",
    weight: float = 0.5,
    temperature: float = 1.0,
    expectation: str = "student",
    per_class: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """(1 - λ) CE(ψ(Z_cls), y) + λ D(Z_token, Z_t), a scalar: each head with a target of its own.

    All logits (B, C); a network without a token gives the same ones twice. target says what D is:
    "hard" the cross-entropy with the teacher's decision, "soft" `soft.divergence`, "labels" the
    class token's own loss again, "none" nothing, when the first term weighs 1. DeiT's paper
    smooths the labels, not the teacher's decisions, and so does this. Its authors' code is
    expectation="teacher", per_class=True. Raises ValueError for settings and where the classes
    differ.
    """
    check_target(target)
    check_settings(temperature=temperature, weight=weight, expectation=expectation)
    by_labels = F.cross_entropy(class_logits, labels, label_smoothing=label_smoothing)
    if target == "none":
        return by_labels
    if target == "labels":
        other = F.cross_entropy(token_logits, labels, label_smoothing=label_smoothing)
        return (1 - weight) * by_labels + weight * other
    check_same_classes(token_logits, teacher)
    if target == "hard":
        by_teacher = F.cross_entropy(token_logits, hard_targets(teacher))
    else:
        given = {"expectation": expectation, "per_class": per_class}
        by_teacher = divergence(token_logits, teacher, temperature, **given)
    return (1 - weight) * by_labels + weight * by_teacher


# -- the token ------------------------------------------------------------------------------------


def rebuild(model: VisionTransformer) -> VisionTransformerDistilled:
    """timm's distilled ViT around the parts of `model`, with a fresh token, position and head.

    The parts are `model`'s own, whatever other changes made of them. The new weights come from
    torch's global generator. Raises ValueError where there is a token already.
    """
    if hasattr(model, "dist_token"):
        raise ValueError("the model has a distillation token already")
    new = VisionTransformerDistilled(
        embed_layer=lambda **_: model.patch_embed,
        embed_dim=model.pos_embed.shape[-1],
        num_classes=model.num_classes,
        depth=0,  # of blocks to draw and throw away
    )
    fresh = new.pos_embed.detach()[:, 1:2]
    for name, child in model.named_children():
        setattr(new, name, child)
    new.feature_info, new.cls_token = model.feature_info, model.cls_token
    before = model.pos_embed.detach()
    # timm's order: class token, distillation token, patches.
    positions = torch.cat([before[:, :1], fresh.to(before), before[:, 1:]], dim=1)
    new.pos_embed = nn.Parameter(positions)  # (1, N + 2, D)
    return new.train(model.training)


def build(architecture: Architecture, num_classes: int, channels: int) -> VisionTransformer:
    """`models.build` with a distillation token: the other weights are those without it."""
    return models.changed(models.build(architecture, num_classes, channels), __name__)


def parameters(architecture: Architecture, num_classes: int, channels: int) -> int:
    """Parameters of the ViT of `architecture` with token, by formula."""
    added = 2 * architecture.width + architecture.width * num_classes + num_classes
    return formulas.vit_parameters(architecture, num_classes, channels) + added


def macs(architecture: Architecture, num_classes: int, channels: int) -> int:
    """Multiply-accumulates of one image through the ViT of `architecture` with token, by formula.

    One token more through every block: its products with the weights, and 2 D for each of the
    (n + 1)² - n² entries that the attention matrix of n tokens gains; and the second head.
    """
    width, hidden = architecture.width, round(architecture.width * architecture.mlp_ratio)
    tokens = (architecture.image_size // architecture.patch_size) ** 2 + 1
    block = 4 * width**2 + 2 * width * hidden + 2 * (2 * tokens + 1) * width
    added = architecture.depth * block + width * num_classes
    return formulas.vit_macs(architecture, num_classes, channels) + added


# -- the rows of the study ------------------------------------------------------------------------


def start(context: Context[DeiT]) -> nn.Module:
    """The student as its training begins: vanilla's first weights, and the token's with `token`.

    The setting `width`, a share of the profile's, narrows a student with a token. In a profile that
    names timm's distilled models, those with a token begin from them.
    """
    profile, spec = context.profile, context.data.spec
    if not context.config.token:
        return baseline.start(context)
    architecture, name = profile.architecture, profile.distilled.base
    width = share_of_width(context, context.config.width)
    if width != architecture.width:
        architecture, name = narrowed(architecture, width), profile.distilled.tiny
    given = (architecture, spec.num_classes, spec.channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        if name:
            return models.pretrained(replace(architecture, timm_name=name), *given[1:], build)
        return build(*given)


def loss(context: Context[DeiT]) -> training.Loss:
    """What `fit` minimises, by the settings `target` and `weight`."""
    config = context.config
    smoothing = context.profile.recipe(context.data.spec.name).label_smoothing
    teacher = TeacherLogits(context) if config.target in ("soft", "hard") else None

    def value(model: nn.Module, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        told = None if teacher is None else teacher(images, indices)
        logits = model(images)
        heads = logits if isinstance(logits, tuple) else (logits, logits)
        return distillation_loss(
            *heads,
            told,
            labels,
            target=config.target,
            weight=config.weight,
            label_smoothing=smoothing,
        )

    return value


def compress(context: Context[DeiT]) -> nn.Module:
    """Train the student by the profile's own recipe: as long as the vanilla model, from scratch.

    Where the profile names models that are distilled already, the papers' rows are fine-tuned
    plainly, as they were there, and distilled again with the setting `again` alone.
    """
    config = context.config
    with checked_settings():
        check_target(config.target)
        check_settings(weight=config.weight)
    pretrained = bool(context.profile.distilled.base)
    if config.again and not pretrained:
        raise UserError(
            f"{context.name} distils a model that was distilled before, and the profile "
            f"{context.profile.name} starts from none; valid: profiles with pretrained weights "
            "(paper)"
        )
    model = start(context)
    if not config.token:
        return context.fit(model, loss=loss(context))
    for name in ADDED:
        context.touched(name)
    if pretrained and config.target == "hard" and not config.again:
        return context.fit(model)
    model.set_distilled_training(True)  # two heads' logits while it trains, their mean otherwise
    context.fit(model, loss=loss(context))
    model.set_distilled_training(False)
    return model


@torch.no_grad()
def analyse(context: Context[DeiT], model: nn.Module) -> dict[str, np.ndarray]:
    """The logits (N, C) on the validation images that the teacher's file has, too; of a student
    with a token also those of each head alone.
    """
    found = {"logits": validation_logits(context, model)}
    if context.config.token:
        for name, other in (("class_logits", "head_dist"), ("token_logits", "head")):
            alone = copy.deepcopy(model)
            # The mean of both heads is half of one where the other says nothing.
            head = alone.get_submodule(other)
            head.weight.zero_()
            head.bias.zero_()
            found[name] = 2 * validation_logits(context, alone)
    return found
