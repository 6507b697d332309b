"""Soft gates: a learned factor on every dimension that enters attention and MLP, kept small by l1.

Zhu et al., Visual Transformer Pruning, 2021 (VTP), the soft-gate model of the papers' figure 2a:
X diag(g) in the place of X, trained with the weights under the loss plus a penalty times sum |g|;
a threshold makes them hard (the survey's Eq. 16, with the gates on the dimensions: as printed,
they stand on the side of the patches). Beyond VTP, queries and keys have gates of their own, one a
dimension of each head on the product of the two, and a block may have one around it (figure 2b).
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from vitstudy import finetuning, models, training
from vitstudy.context import Context
from vitstudy.pruning.configs import Gates
from vitstudy.pruning.slim import KINDS, Masks, Scores, Shape, shape_of


class Gate(nn.Module):
    """x times a factor for each of the last dimension's entries, 1 at first.

    The factor is 1 + speed * offset: Adam moves a parameter by about the learning rate a step
    whatever its gradient's size, so `speed` says how far a gate can go in the training.
    """

    def __init__(self, size: int, **like):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(size, **like))
        self.register_buffer("speed", torch.ones((), **like))

    @property
    def value(self) -> Tensor:
        return 1 + self.speed * self.offset

    def forward(self, x: Tensor) -> Tensor:
        return x * self.value

    def extra_repr(self) -> str:
        return f"{len(self.offset)}"


class _Gated(nn.Module):
    """A layer with gates, made of the parts of another, `plain`."""

    def __init__(self, plain: nn.Module):
        super().__init__()
        self.before = (plain,)  # in a tuple: its weights are this layer's, and are counted once

    @property
    def plain(self) -> nn.Module:
        return self.before[0]


class GatedAttention(_Gated):
    """timm's self-attention with gates on its input, on its heads' q * k and on their values."""

    def __init__(self, attention: Attention):
        super().__init__(attention)
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        self.scale, self.qkv, self.proj = attention.scale, attention.qkv, attention.proj
        self.attn_drop, self.proj_drop = attention.attn_drop, attention.proj_drop
        like = {"device": self.qkv.weight.device, "dtype": self.qkv.weight.dtype}
        inner = self.num_heads * self.head_dim
        self.attention_input = Gate(self.qkv.in_features, **like)
        self.query_key, self.value = Gate(inner, **like), Gate(inner, **like)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(self.attention_input(x)).chunk(3, dim=-1)  # (B, N, h * head_dim)
        heads = [
            each.view(batch, tokens, self.num_heads, self.head_dim).transpose(1, 2)
            for each in (self.query_key(q), k, self.value(v))
        ]
        x = F.scaled_dot_product_attention(
            *heads,
            attn_mask=attn_mask,
            dropout_p=self.attn_drop.p if self.training else 0.0,
            is_causal=is_causal,
            scale=self.scale,
        )
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))


class GatedMlp(_Gated):
    """The MLP of a block with gates on its input and on its hidden dimensions."""

    def __init__(self, mlp: nn.Module):
        super().__init__(mlp)
        self.fc1, self.act, self.fc2 = mlp.fc1, mlp.act, mlp.fc2
        self.drop1, self.drop2 = mlp.drop1, mlp.drop2
        like = {"device": self.fc1.weight.device, "dtype": self.fc1.weight.dtype}
        self.mlp_input = Gate(self.fc1.in_features, **like)
        self.hidden = Gate(self.fc1.out_features, **like)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D)
        x = self.drop1(self.act(self.fc1(self.mlp_input(x))))
        return self.drop2(self.fc2(self.hidden(x)))


class GatedBlock(_Gated):
    """timm's pre-norm block, and a gate between going through it and going around it."""

    PARTS = ("norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2")

    def __init__(self, block: nn.Module):
        super().__init__(block)
        for part in self.PARTS:
            setattr(self, part, getattr(block, part))
        weight = self.attn.qkv.weight
        self.block = Gate(1, device=weight.device, dtype=weight.dtype)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:  # (B, N, D)
        y = self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
        y = x + self.drop_path1(self.ls1(y))
        y = y + self.drop_path2(self.ls2(self.mlp(self.norm2(y))))
        return x + self.block(y - x)


# -- the whole model ------------------------------------------------------------------------------


def rebuild(model: VisionTransformer, blocks: bool = False) -> VisionTransformer:
    """Put gates of 1 into `model`, in place, where `blocks` around its blocks too.

    Raises UserError, naming the layer, where a block has parts that gates do not know.
    """
    shape_of(model)
    for block in model.blocks:
        block.attn, block.mlp = GatedAttention(block.attn), GatedMlp(block.mlp)
    if blocks:
        model.blocks = nn.Sequential(*map(GatedBlock, model.blocks))
    return model


def gates_of(model: nn.Module) -> dict[str, Gate]:
    """The gates of `model` by the names of masks: `blocks.<n>.<kind>`, and `blocks.<n>`."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, Gate):
            *block, kind = name.split(".")
            found[".".join([*block[:2], kind] if kind in KINDS else block)] = module
    return found


def scores(model: nn.Module) -> Scores:
    """How large each gate is: VTP's importance."""
    return {name: gate.value.detach().abs().cpu() for name, gate in gates_of(model).items()}


def penalty(model: nn.Module, weights: dict[str, float] | None = None) -> Tensor:
    """The l1 norm of the gates, those of a name weighted where `weights` are given."""
    weights = weights or {}
    return sum(
        weights.get(name, 1.0) * gate.value.abs().sum() for name, gate in gates_of(model).items()
    )


def weights_by_cost(model: nn.Module, shape: Shape) -> dict[str, float]:
    """What a gate of each name has behind it, in average gates of a dimension: its parameters."""
    inner, width, hidden = shape.heads * shape.head_dim, shape.width, shape.hidden
    qkv_bias, _, fc1_bias, _ = shape.biases
    cost = dict(
        attention_input=3 * inner,
        query_key=2 * (width + qkv_bias),
        value=2 * width + qkv_bias,
        mlp_input=hidden,
        hidden=2 * width + fc1_bias,
    )
    whole = sum(cost[kind] * size for kind, size in shape.sizes().items())
    average = whole / sum(shape.sizes().values())
    return {name: cost.get(name.split(".")[-1], whole) / average for name in gates_of(model)}


@torch.no_grad()
def harden(model: VisionTransformer, masks: Masks) -> VisionTransformer:
    """Set the gates of `model`, in place, to 1 where a mask lets a dimension stay, else to 0."""
    for name, gate in gates_of(model).items():
        if name in masks:
            gate.offset.copy_((masks[name].to(gate.offset) - 1) / gate.speed)
    return model


def masked(model: VisionTransformer, masks: Masks) -> VisionTransformer:
    """A copy of `model` with hard gates by `masks`: the dimensions are silent, none is removed."""
    blocks = any(name.count(".") == 1 for name in masks)
    gated = models.changed(deepcopy(model), __name__, blocks=blocks)
    return harden(gated, masks).train(model.training)


def without(model: VisionTransformer) -> VisionTransformer:
    """The model as it was before it had gates, with the weights that it has now."""
    plain = deepcopy(model)
    plain.blocks = nn.Sequential(*map(_without, plain.blocks))
    if hasattr(plain, "description"):
        before = [c for c in plain.description["changes"] if c["module"] != __name__]
        plain.description = {**plain.description, "changes": before}
        if not before:
            del plain.description["changes"]
    return plain.train(model.training)


def _without(block: nn.Module) -> nn.Module:
    block = block.plain if isinstance(block, GatedBlock) else block
    block.attn, block.mlp = block.attn.plain, block.mlp.plain
    return block


@torch.no_grad()
def set_speed(model: nn.Module, speed: float) -> None:
    """Let gates that still are 1 learn `speed` times as fast as other parameters, in place."""
    for gate in gates_of(model).values():
        gate.speed.fill_(speed)


# -- the row of the study -------------------------------------------------------------------------


def compress(context: Context[Gates]) -> nn.Module:
    """The baseline trained on, its dimensions behind soft gates under an l1 penalty.

    `gate_range` is how far a gate can go in the training; None lets gates learn at the rate of the
    network, which in a short training leaves all of them near 1.
    """
    config = context.config
    model = models.changed(context.model(), __name__)
    recipe = finetuning.recipe(context)
    if config.gate_range is not None:
        set_speed(model, finetuning.rate_to_travel(config.gate_range, recipe))
    task = training.cross_entropy(recipe.label_smoothing)

    def loss(runner: nn.Module, *batch: Tensor) -> Tensor:
        return task(runner, *batch) + config.penalty * penalty(model)

    for name in gates_of(model):
        context.touched(name)
    context.fit(model, recipe, loss)
    return model.cpu()
