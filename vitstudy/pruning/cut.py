"""Cut by a score: the lowest-scored dimensions of a trained model go, and nothing is trained.

Line 3 of the survey's Algorithm 1. The papers' rows score by gates that were trained before (VTP);
the others by Eq. 7 or Eq. 8 on calibration images, by the weights' size, or by chance.
"""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitstudy import files
from vitstudy.context import Context
from vitstudy.errors import unknown
from vitstudy.pruning import gates, importance, slim
from vitstudy.pruning.configs import Cut
from vitstudy.pruning.slim import KINDS, Masks, Scores, Shape

SCORES = ("gate", "taylor", "kl", "magnitude", "random")
READ_BY = {
    "attn.qkv": ("attention_input", "query_key", "value"),
    "attn.proj": ("value",),
    "mlp.fc1": ("mlp_input", "hidden"),
    "mlp.fc2": ("hidden",),
}
"""Which kinds of dimensions a layer of a block loses."""


def score(context: Context[Cut], model: VisionTransformer) -> Scores:
    """The scores of the parent `model` that the cell asks for; UserError for an unknown one."""
    if context.config.score not in SCORES:
        raise unknown("score", context.config.score, SCORES)
    found = kept(context)
    if found is None:
        found = _score(context, model)
        keep(context, found)
    return found


def keep(context: Context, scores: Scores) -> None:
    """Lay `scores` beside the checkpoints until the cell is done: for `analyse`, and for a run that
    goes on after a kill."""
    content = io.BytesIO()
    np.savez(content, **{name: values.numpy() for name, values in scores.items()})
    files.write(context.checkpoints / "scores.npz", content.getvalue())


def kept(context: Context) -> Scores | None:
    """The scores that this cell has laid there, None where there are none."""
    path = context.checkpoints / "scores.npz"
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as found:
        return {name: torch.from_numpy(found[name]) for name in found}


def _score(context: Context[Cut], model: VisionTransformer) -> Scores:
    config = context.config
    if config.score == "gate":
        return gates.scores(model)
    if config.score == "random":
        return importance.random_scores(slim.shape_of(model), context.seed)
    if config.score == "magnitude":
        return importance.magnitude_scores(model)
    model = model.to(Accelerator().device)
    split = context.data.calibration.head(config.images)
    images = context.data.normalise(split.images, context.profile.architecture.image_size)
    if config.score == "taylor":
        return importance.taylor_scores(model, images, split.labels)
    return importance.kl_scores(model, images, config.groups)


def before_the_cut(model: VisionTransformer) -> VisionTransformer:
    """The model that is cut: the one that was scored, any soft gates open."""
    return gates.without(model) if gates.gates_of(model) else model


def compress(context: Context[Cut]) -> nn.Module:
    """The parent without its lowest-scored dimensions, so many that `r` of its parameters go."""
    scored = context.model()
    found = score(context, scored)
    whole = before_the_cut(scored.cpu())
    masks = slim.select(found, slim.shape_of(whole), context.config.r)
    note(context, whole, masks)
    return slim.slim(whole, masks)


def note(context: Context, model: VisionTransformer, masks: Masks) -> None:
    """Put the layers that lose dimensions into the record, and why the others do not."""
    touched, gone = set(), []
    for index in range(len(model.blocks)):
        if not masks.get(f"blocks.{index}", torch.ones(1)).all():
            gone.append(f"blocks.{index}.")
        for layer, kinds in READ_BY.items():
            if not all(masks[f"blocks.{index}.{kind}"].all() for kind in kinds):
                touched.add(f"blocks.{index}.{layer}")
    for name, module in model.named_modules():
        own = [each for each, _ in module.named_parameters(recurse=False)]
        if name in touched or (own and name.startswith(tuple(gone))):
            context.touched(name)
        elif own and name.endswith(tuple(READ_BY)):
            context.skipped(name, type(module).__name__, "none of its dimensions scored so low")
        elif own:
            reason = "the residual stream, and what stands outside the blocks, keeps its dimensions"
            for each in own if not name else [name]:
                context.skipped(each, type(module).__name__, reason)


# -- what the notebook reads ----------------------------------------------------------------------


def loss(context: Context, model: nn.Module) -> float:
    """Mean cross-entropy on the calibration split, which no training sees."""
    split = context.data.calibration
    return F.cross_entropy(context.evaluate(model, split), split.labels).item()


def analyse(context: Context[Cut], model: nn.Module) -> dict[str, np.ndarray]:
    """The scores, and Eq. 6's delta: what the cut costs in loss on calibration images.

    A row a unit, (U,): `score`, `block`, `kind` (place in `slim.KINDS`), `parameters` (that go with
    it alone), `stays`. Scalars: `loss_scored` with soft gates, `loss_before` and `loss_after` the
    cut. `delta_layers` (depth, 2) is the loss that cutting the attention or the MLP of one block
    alone adds: Eq. 6 sums these.
    """
    scored = context.model()
    found = score(context, scored)
    whole = before_the_cut(scored)
    shape = slim.shape_of(whole)
    masks = slim.select(found, shape, context.config.r)
    before = loss(context, whole)
    layers = np.zeros((shape.depth, 2))
    for index in range(shape.depth):
        for part, kinds in enumerate((KINDS[:3], KINDS[3:])):
            alone = slim.full(shape)
            alone |= {name: masks[name] for name in alone if _of(name, index, kinds)}
            if not all(mask.all() for mask in alone.values()):
                layers[index, part] = loss(context, slim.slim(whole.cpu(), alone)) - before
    return {
        **units(found, masks, shape),
        "loss_scored": np.array(loss(context, scored)),
        "loss_before": np.array(before),
        "loss_after": np.array(loss(context, model)),
        "delta_layers": layers,
    }


def _of(name: str, index: int, kinds: tuple[str, ...]) -> bool:
    return name in {f"blocks.{index}.{kind}" for kind in kinds}


def units(scores: Scores, masks: Masks, shape: Shape) -> dict[str, np.ndarray]:
    """`score`, `block`, `kind`, `parameters` and `stays` of every unit, (U,) each."""
    columns = {name: [] for name in ("score", "block", "kind", "parameters", "stays")}
    everything = slim.parameters(slim.full(shape), shape)
    for name, values in scores.items():
        _, block, *kind = name.split(".")
        run = len(masks[name]) // len(values)
        one = slim.full(shape)
        one[name] = torch.arange(len(masks[name])) >= run
        place = KINDS.index(*kind) if kind else len(KINDS)
        columns["score"].append(values.numpy().astype(np.float32))
        columns["block"].append(np.full(len(values), int(block), np.int16))
        columns["kind"].append(np.full(len(values), place, np.int8))
        cost = everything - slim.parameters(one, shape)
        columns["parameters"].append(np.full(len(values), cost, np.int32))
        columns["stays"].append(_stays(masks[name], run))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def _stays(mask: Tensor, run: int) -> np.ndarray:
    return mask.view(-1, run).any(1).numpy()
