"""Fine-tuning under a teacher: what another method trains for, and the teacher's soft targets.

The second half of a combination whose first half is a compression: the same steps of the same
method, from the same start, with Eq. 4's loss in the place of the labels' alone.
"""

from __future__ import annotations

from importlib import import_module

from torch import nn

from vitstudy.context import Context
from vitstudy.distillation import soft
from vitstudy.distillation.configs import Taught
from vitstudy.distillation.teacher import TeacherLogits
from vitstudy.errors import unknown

METHODS = (
    "vitstudy.attention.nystrom",
    "vitstudy.finetuning",
    "vitstudy.pruning.tune",
    "vitstudy.quantization.lsq",
)
"""The methods that can be taught: those that fine-tune by the labels alone."""


def compress(context: Context[Taught]) -> nn.Module:
    """The `compress` of the method that is taught, its trainings by `soft.loss`."""
    method = context.config.method
    soft.settings(context.config)  # before the teacher is asked
    if method.module not in METHODS:
        raise unknown("method", method.module, METHODS)
    context.loss = soft.loss(context, TeacherLogits(context))
    context.config = method
    return import_module(method.module).compress(context)
