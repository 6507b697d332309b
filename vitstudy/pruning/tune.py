"""The short training after a cut: the papers' rows of pruning, and each score's own."""

from __future__ import annotations

import numpy as np
from torch import nn

from vitstudy import finetuning
from vitstudy.context import Context
from vitstudy.pruning import cut
from vitstudy.pruning.configs import Tune
from vitstudy.pruning.slim import SlimAttention, SlimMlp


def compress(context: Context[Tune]) -> nn.Module:
    """Fine-tune the slim parent, all its weights, in float."""
    model = context.model()
    for name, module in model.named_modules():
        if isinstance(module, SlimAttention | SlimMlp):
            context.touched(name)
    return context.fit(model, finetuning.recipe(context)).cpu()


def analyse(context: Context[Tune], model: nn.Module) -> dict[str, np.ndarray]:
    """`loss`, a scalar: mean cross-entropy on the calibration split, for Eq. 6's delta."""
    return {"loss": np.array(cut.loss(context, model))}
