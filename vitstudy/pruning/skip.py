"""The skip-dimension model: whole blocks and single dimensions behind gates, learned by KL.

Figure 2b of the papers, after Yu and Wu, A Unified Pruning Framework for Vision Transformers, 2021,
as the papers put it: the divergence of Eq. 8 between the gated and the full model's outputs is
added to the loss while the gates are trained. A gate around a block lets its input go past it;
where that is cut, the whole block goes. The penalty weighs a gate by the parameters behind it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitstudy import finetuning, models
from vitstudy.context import Context
from vitstudy.pruning import cut, gates, slim
from vitstudy.pruning.configs import Skip
from vitstudy.pruning.importance import kl_importance


def compress(context: Context[Skip]) -> nn.Module:
    """Train the baseline's gates, cut `r` of the parameters, fine-tune what is left."""
    config, recipe = context.config, finetuning.recipe(context)
    full = context.model().eval().requires_grad_(False)
    shape = slim.shape_of(full)
    model = models.changed(context.model(), gates.__name__, blocks=True)
    gates.set_speed(model, finetuning.rate_to_travel(config.gate_range, recipe))
    weights = gates.weights_by_cost(model, shape)

    def loss(runner: nn.Module, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        logits = runner(images)
        with torch.no_grad():
            wanted = full.to(images.device)(images)
        task = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        divergence = kl_importance(logits, wanted) / len(images)
        return task + divergence + config.penalty * gates.penalty(model, weights)

    context.fit(model, recipe, loss)
    model = model.cpu()
    cut.keep(context, gates.scores(model))
    masks = slim.select(cut.kept(context), shape, config.r)
    whole = gates.without(model)
    cut.note(context, whole, masks)
    return context.fit(slim.slim(whole, masks), recipe).cpu()


def analyse(context: Context[Skip], model: nn.Module) -> dict[str, np.ndarray]:
    """The gates as `cut.analyse` has scores, blocks last in `kind`; `loss` as `tune.analyse`."""
    shape, found = slim.shape_of(context.model()), cut.kept(context)
    masks = slim.select(found, shape, context.config.r)
    return {**cut.units(found, masks, shape), "loss": np.array(cut.loss(context, model))}
