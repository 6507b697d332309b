"""Fine-tuning the baseline: one recipe for every method that does, and its control.

A gain by a method that trains is a gain over the baseline trained on for as many steps, which is
what `compress` here makes.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from vitstudy.configs import FineTuned
from vitstudy.context import Context
from vitstudy.profiles import Recipe


def recipe(context: Context[FineTuned]) -> Recipe:
    """The profile's recipe with the settings' shares: `steps` of its steps, `rate` of its rates.

    A profile that starts from pretrained weights fine-tunes already: its rates stay. Nothing is
    compiled: that takes longer (21 s on an H100) than it saves in so few steps.
    """
    whole, config = context.profile.recipe(context.data.spec.name), context.config
    rate = 1.0 if context.profile.architecture.timm_name else config.rate
    return replace(
        whole,
        steps=max(1, round(whole.steps * config.steps)),
        learning_rate=whole.learning_rate * rate,
        matrix_learning_rate=whole.matrix_learning_rate * rate,
        compile=False,
    )


def rate_to_travel(distance: float, recipe: Recipe) -> float:
    """How many times faster than by `recipe` a parameter must learn to go `distance` at most.

    Adam moves a parameter by about the learning rate a step, whatever its gradient's size, and the
    rate is half its greatest on average. Step sizes and bit widths, which have a scale of their
    own, can so be learned in a training of any length.
    """
    return distance / (recipe.learning_rate * recipe.steps / 2)


def compress(context: Context[FineTuned]) -> nn.Module:
    """The baseline trained on, in float."""
    return context.fit(context.model(), recipe(context))
