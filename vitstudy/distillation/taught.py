"""Fine-tuning under a teacher: what another method trains for, and the teacher's soft targets.

The second half of a combination whose first half is a compression: the same steps of the same
method, from the same start, with Eq. 4's loss in the place of the labels' alone.
"""

from __future__ import annotations

from importlib import import_module

from torch import nn

from vitstudy.context import Context
from vitstudy.distillation import soft
from vitstudy.distillation.teacher import TeacherLogits
from vitstudy.errors import unknown
from vitstudy.profiles import Recipe
from vitstudy.training import Loss

METHODS = (
    "vitstudy.attention.nystrom",
    "vitstudy.finetuning",
    "vitstudy.pruning.tune",
    "vitstudy.quantization.lsq",
)
"""The methods that can be taught: those that fine-tune by the labels alone."""


def compress(context: Context) -> nn.Module:
    """The `compress` of the module that `method` names, its trainings by `soft.loss`."""
    with soft.checked_options():
        names = ("temperature", "weight", "expectation")
        soft.check_settings(**{name: context.options[name] for name in names})
        if context.options["method"] not in METHODS:
            raise unknown("method", context.options["method"], METHODS)
    plain, targets = context.fit, soft.loss(context, TeacherLogits(context))

    def fit(model: nn.Module, recipe: Recipe | None = None, loss: Loss | None = None) -> nn.Module:
        if loss is not None:
            raise ValueError("a training with a loss of its own has no room for a teacher's")
        return plain(model, recipe, targets)

    context.fit = fit
    return import_module(context.options["method"]).compress(context)
