"""What stays of a Vision Transformer's dimensions: masks, what they weigh, physical removal.

Five kinds of dimensions can go from a block (D is the model's width, h its heads):

`attention_input`  of D, what the query, key and value layer reads: its columns
`query_key`        of h * head_dim, in every head apart: a row of W_q and the same row of W_k
`value`            of h * head_dim, in every head apart: a row of W_v and a column of W_proj
`mlp_input`        of D, what the first MLP layer reads: its columns
`hidden`           of the MLP: a row of its first layer and a column of its second

The residual stream keeps its width, so embeddings, norms and head stay as they are. A head without
values says nothing, so its queries and keys go with it. Attention keeps the scale that it was
trained with, 1 / sqrt(head_dim), whatever is left of the head's dimensions.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

from vitstudy import measure, models
from vitstudy.errors import UserError

KINDS = ("attention_input", "query_key", "value", "mlp_input", "hidden")
SLACK = 0.005
"""Share of the parameters beyond r from which on a cut of fewer is looked for: large units do not
divide r, and scores are compared at the same r."""

Masks = dict[str, Tensor]
"""By `blocks.<n>.<kind>`: whether each dimension stays, bool (dimensions,); by `blocks.<n>`, where
whole blocks can go, whether the block stays, bool (1,)."""
Scores = dict[str, Tensor]
"""By the names of masks: importance of each unit, (units,), the dimensions in equal runs."""


# -- what a model has, and what a mask leaves of it -----------------------------------------------


@dataclass(frozen=True)
class Shape:
    """The dimensions of a ViT's blocks, which are all alike, and what the masks do not name.

    fixed: parameters outside the blocks, which no mask can remove. biases: whether qkv, proj, fc1
    and fc2 have one. extra: parameters of a block beyond these layers and the gains and biases of
    two norms (layer scales), negative where the norms have fewer; they go with a whole block alone.
    """

    width: int
    depth: int
    heads: int
    head_dim: int
    hidden: int
    fixed: int = 0
    biases: tuple[bool, bool, bool, bool] = (True, True, True, True)
    extra: int = 0

    def sizes(self) -> dict[str, int]:
        """Dimensions of each kind in a block."""
        inner = self.heads * self.head_dim
        return dict(zip(KINDS, (self.width, inner, inner, self.width, self.hidden), strict=True))


def shape_of(model: VisionTransformer) -> Shape:
    """What `model` has to give; raises UserError, naming the layer, for what cannot be cut."""
    blocks = getattr(model, "blocks", ())
    if not len(blocks):
        raise UserError(f"{type(model).__name__} has no `blocks`: only a timm ViT can be pruned")
    shapes = [_shape_of_block(f"blocks.{index}", block) for index, block in enumerate(blocks)]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise UserError(
                f"blocks.{index} has other dimensions than blocks.0: only blocks that are all "
                "alike can be pruned"
            )
    shape = replace(shapes[0], depth=len(blocks))
    everything = measure.count_parameters(model)
    return replace(shape, fixed=everything - parameters(full(shape), shape))


LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
"""The layers of a block that dimensions are cut from."""
ACROSS = ("attn.q_norm", "attn.k_norm", "attn.norm", "attn.gate", "mlp.norm")
"""What timm may put where dimensions are cut: a norm over them would see others once some go."""


def _shape_of_block(name: str, block: nn.Module) -> Shape:
    """The shape of the one block; raises UserError where it is not of timm's plain kind."""
    plain = {"": Block, "attn": Attention, "mlp": Mlp}
    for part, kind in plain.items():
        found = block.get_submodule(part)
        if type(found) is not kind:
            called = type(found).__name__
            if called == kind.__name__:  # timm has several classes of one name
                called = f"{type(found).__module__}.{called}"
            raise UserError(
                f"{f'{name}.{part}'.rstrip('.')} is {called}: only timm's plain {kind.__name__} "
                "can be pruned; prune the model before its blocks are replaced"
            )
    for part in ACROSS:
        parent, _, leaf = part.partition(".")
        found = getattr(getattr(block, parent), leaf, None)
        if found is not None and not isinstance(found, nn.Identity):
            raise UserError(
                f"{name}.{part} is {type(found).__name__}, over dimensions that pruning would "
                "remove: only a model without it can be pruned"
            )
    layers = [block.get_submodule(part) for part in LAYERS]
    for part, layer in zip(LAYERS, layers, strict=True):
        if type(layer) is not nn.Linear:
            raise UserError(
                f"{name}.{part} is {type(layer).__name__}, no float nn.Linear: prune before "
                "quantizing"
            )
    shape = Shape(
        width=block.attn.qkv.in_features,
        depth=1,
        heads=block.attn.num_heads,
        head_dim=block.attn.head_dim,
        hidden=block.mlp.fc1.out_features,
        biases=tuple(layer.bias is not None for layer in layers),
    )
    return replace(shape, extra=measure.count_parameters(block) - parameters(full(shape), shape))


def full(shape: Shape) -> Masks:
    """Masks under which everything stays."""
    return {
        f"blocks.{index}.{kind}": torch.ones(size, dtype=torch.bool)
        for index in range(shape.depth)
        for kind, size in shape.sizes().items()
    }


def tidy(masks: Masks, shape: Shape) -> Masks:
    """`masks`, whole, less the queries and keys of heads that have no values left."""
    tidied = {**full(shape), **masks}
    for index in range(shape.depth):
        name = f"blocks.{index}.query_key"
        speaks = tidied[f"blocks.{index}.value"].view(shape.heads, -1).any(1, keepdim=True)
        tidied[name] = (tidied[name].view(shape.heads, -1) & speaks).flatten()
    return tidied


def parameters(masks: Masks, shape: Shape) -> int:
    """Parameters of the model that `masks` leave, by formula; biases and norms included."""
    masks, total = tidy(masks, shape), shape.fixed
    qkv_bias, proj_bias, fc1_bias, fc2_bias = shape.biases
    for index in range(shape.depth):
        if not masks.get(f"blocks.{index}", torch.ones(1)).any():
            continue
        a, qk, v, m, f = (int(masks[f"blocks.{index}.{kind}"].sum()) for kind in KINDS)
        total += (a + qkv_bias) * (2 * qk + v) + (v + proj_bias) * shape.width  # attention
        total += (m + fc1_bias) * f + (f + fc2_bias) * shape.width  # MLP
        total += 4 * shape.width + shape.extra  # norms, and layer scales
    return total


def removed(masks: Masks, shape: Shape) -> float:
    """Share of the model's parameters that `masks` remove."""
    return 1 - parameters(masks, shape) / parameters(full(shape), shape)


# -- which dimensions go --------------------------------------------------------------------------


def select(scores: Scores, shape: Shape, r: float) -> Masks:
    """Masks without the lowest-scored units of all layers, so many that r of the parameters go.

    r: share of all the model's parameters, 0 <= r < 1. Where the last unit goes beyond it by more
    than `SLACK`, those next in the order are tried in its place until one goes less far. The unit
    that scores highest in each layer stays; where units are blocks, so does the best block. Equal
    scores go in the order of the layers. Raises UserError for r outside its range, for one that
    would empty a layer, and for scores that are no numbers.
    """
    if not 0 <= r < 1:
        raise UserError(f"r={r} is no share of the parameters that can go; valid: 0 <= r < 1")
    for name, values in scores.items():
        if not torch.isfinite(values).all():
            raise UserError(f"the scores of {name} hold NaN or infinity")
    dims = {name: shape.sizes().get(name.split(".")[-1], 1) for name in scores}
    for name, values in scores.items():
        if not len(values) or dims[name] % len(values):
            raise UserError(f"{name}: {len(values)} units do not divide {dims[name]} dimensions")
    order = _order(scores)
    ranks = _ranks(order, scores)

    def masks(gone: dict[str, Tensor]) -> Masks:
        return {
            name: (~gone[name]).repeat_interleave(dims[name] // len(gone[name])) for name in gone
        }

    def prefix(count: int) -> dict[str, Tensor]:
        return {name: rank < count for name, rank in ranks.items()}

    low, high = 0, len(order)
    if (most := removed(masks(prefix(high)), shape)) < r:
        raise UserError(
            f"r={r} would empty a layer: with one unit left in each, {most:.3f} of the parameters "
            "can go"
        )
    while low < high:  # the fewest units that reach r
        middle = (low + high) // 2
        low, high = (
            (low, middle) if removed(masks(prefix(middle)), shape) >= r else (middle + 1, high)
        )
    best = masks(prefix(low))
    over, gone = removed(best, shape), prefix(max(low - 1, 0))
    for name, unit in order[low:]:
        if over <= r + SLACK:
            break
        gone[name][unit] = True
        share = removed(masks(gone), shape)
        if r <= share < over:
            best, over = masks(gone), share
        if share >= r:
            gone[name][unit] = False
    return tidy(best, shape)


def _order(scores: Scores) -> list[tuple[str, int]]:
    """(name, unit) from the lowest score up, without those that have to stay."""
    stay = {(name, int(values.argmax())) for name, values in scores.items() if name.count(".") > 1}
    blocks = [name for name in scores if name.count(".") == 1]
    if blocks:
        stay.add((max(blocks, key=lambda name: scores[name].item()), 0))
    names = [(name, unit) for name, values in scores.items() for unit in range(len(values))]
    by_score = torch.cat([values.double().flatten().cpu() for values in scores.values()])
    ordered = [names[position] for position in by_score.argsort(stable=True).tolist()]
    return [each for each in ordered if each not in stay]


def _ranks(order: list[tuple[str, int]], scores: Scores) -> dict[str, Tensor]:
    """By name, each unit's place in `order`; beyond its end for those that have to stay."""
    ranks = {name: torch.full((len(values),), len(order)) for name, values in scores.items()}
    for rank, (name, unit) in enumerate(order):
        ranks[name][unit] = rank
    return ranks


def uniform(shape: Shape, keep: float, kinds: tuple[str, ...] = KINDS) -> Masks:
    """Masks that keep the first `keep` of every head's dimensions, and of every other kind's.

    0 < keep <= 1, rounded to whole dimensions. Raises UserError where that empties a layer.
    """
    if not 0 < keep <= 1:
        raise UserError(f"keep={keep} is no share of the dimensions; valid: 0 < keep <= 1")
    masks = full(shape)
    for name, mask in masks.items():
        kind = name.split(".")[-1]
        if kind not in kinds:
            continue
        rows = mask.view(shape.heads if kind in ("query_key", "value") else 1, -1)
        count = round(keep * rows.shape[1])
        if not count:
            raise UserError(
                f"keep={keep} leaves {name} none of {rows.shape[1]} dimensions; valid: "
                f"{1 / rows.shape[1]:.3g} <= keep <= 1"
            )
        rows[:, count:] = False
    return masks


# -- the layers that are left ---------------------------------------------------------------------


class SlimAttention(nn.Module):
    """Self-attention whose input is gathered and whose heads may differ in their dimensions.

    query_key, value: dimensions left in each head; a head without values is absent. `qkv` and
    `proj` are plain linear layers, so whatever quantizes a linear layer takes them. Heads of
    unequal size are filled up with zeros to the largest, which changes no product.
    """

    def __init__(
        self, attention: Attention, inputs: int, query_key: list[int], value: list[int]
    ) -> None:
        super().__init__()
        width, like = (
            attention.qkv.in_features,
            {
                "device": attention.qkv.weight.device,
                "dtype": attention.qkv.weight.dtype,
            },
        )
        sizes = [(qk, v) for qk, v in zip(query_key, value, strict=True) if v]
        self.num_heads, self.scale = len(sizes), attention.scale
        self.head_dim = max(max(each) for each in sizes)
        query_key, value = ([each[i] for each in sizes] for i in (0, 1))
        rows = 2 * sum(query_key) + sum(value)
        self.qkv = nn.Linear(inputs, rows, attention.qkv.bias is not None, **like)
        self.proj = nn.Linear(sum(value), width, attention.proj.bias is not None, **like)
        if inputs < width:
            self.register_buffer("inputs", torch.arange(inputs, dtype=torch.int32))
        else:
            self.inputs = None
        layout = _layout([query_key, query_key, value], self.head_dim)
        self.even = all(qk == v == self.head_dim for qk, v in sizes)
        self.register_buffer("layout", layout.flatten(), persistent=False)
        spoken = (layout[2] < rows).flatten().nonzero().flatten().int()
        self.register_buffer("spoken", spoken, persistent=False)
        self.attn_drop, self.proj_drop = attention.attn_drop, attention.proj_drop

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of the tokens x (B, N, D): (B, h, N, head_dim) each."""
        batch, tokens, _ = x.shape
        if self.inputs is not None:
            x = x.index_select(-1, self.inputs)
        x = self.qkv(x)
        if not self.even:
            x = F.pad(x, (0, 1)).index_select(-1, self.layout)
        x = x.view(batch, tokens, 3, self.num_heads, self.head_dim)
        return x.permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask=None, is_causal=False) -> Tensor:
        """(B, h, N, head_dim), with the scale of the heads as they were before the cut."""
        dropped = self.attn_drop.p if self.training else 0.0
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropped, is_causal=is_causal, scale=self.scale
        )

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        x = self.attend(*self.heads(x), attn_mask, is_causal)
        x = x.transpose(1, 2).flatten(2)  # (B, N, h * head_dim)
        if not self.even:
            x = x.index_select(-1, self.spoken)
        return self.proj_drop(self.proj(x))


def _layout(sizes: list[list[int]], head_dim: int) -> Tensor:
    """(parts, heads, head_dim): where each dimension is among all rows; one past them if absent."""
    past = sum(map(sum, sizes))
    layout, start = torch.full((len(sizes), len(sizes[0]), head_dim), past, dtype=torch.int32), 0
    for part, heads in enumerate(sizes):
        for head, size in enumerate(heads):
            layout[part, head, :size] = torch.arange(start, start + size)
            start += size
    return layout


class SlimMlp(nn.Module):
    """The MLP of a block with fewer inputs, gathered, and fewer hidden dimensions."""

    def __init__(self, mlp: nn.Module, inputs: int, hidden: int):
        super().__init__()
        width = mlp.fc1.in_features
        like = {"device": mlp.fc1.weight.device, "dtype": mlp.fc1.weight.dtype}
        self.fc1 = nn.Linear(inputs, hidden, mlp.fc1.bias is not None, **like)
        self.act, self.drop1, self.drop2 = mlp.act, mlp.drop1, mlp.drop2
        self.fc2 = nn.Linear(hidden, width, mlp.fc2.bias is not None, **like)
        if inputs < width:
            self.register_buffer("inputs", torch.arange(inputs, dtype=torch.int32))
        else:
            self.inputs = None

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D)
        if self.inputs is not None:
            x = x.index_select(-1, self.inputs)
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


# -- physical removal -----------------------------------------------------------------------------


def rebuild(model: VisionTransformer, blocks: list[dict | None]) -> VisionTransformer:
    """Give `model` blocks of the sizes that are left, in place, their weights still to be filled.

    blocks: for each block, dimensions left by kind, those of heads as lists; None for a block that
    is gone. Raises UserError for a model that cannot be cut, ValueError for another depth.
    """
    shape, kept = shape_of(model), []
    for block, sizes in zip(model.blocks, blocks, strict=True):
        if sizes is None:
            continue
        kept.append(block)
        heads = [shape.head_dim] * shape.heads
        attention = [sizes[kind] for kind in KINDS[:3]]
        if attention != [shape.width, heads, heads]:
            block.attn = SlimAttention(block.attn, *attention)
        mlp = [sizes[kind] for kind in KINDS[3:]]
        if mlp != [shape.width, shape.hidden]:
            block.mlp = SlimMlp(block.mlp, *mlp)
    model.blocks = nn.Sequential(*kept)
    return model


@torch.no_grad()
def slim(model: VisionTransformer, masks: Masks) -> VisionTransformer:
    """A copy of `model` without the dimensions that `masks` remove, and with the same logits as
    the model in which their gates are 0. Raises UserError where a layer would be empty.
    """
    shape = shape_of(model)
    masks = tidy(masks, shape)
    if all(mask.all() for mask in masks.values()):
        return deepcopy(model)
    sizes, stay = [], []
    for index in range(shape.depth):
        if not masks.get(f"blocks.{index}", torch.ones(1)).any():
            sizes.append(None)
            continue
        stay.append(index)
        mine = {kind: masks[f"blocks.{index}.{kind}"] for kind in KINDS}
        for kind, mask in mine.items():
            if kind != "query_key" and not mask.any():
                raise UserError(f"blocks.{index} would keep no dimension of {kind}")
        by_head = {kind: mine[kind].view(shape.heads, -1).sum(1) for kind in ("query_key", "value")}
        sizes.append({kind: int(mask.sum()) for kind, mask in mine.items()})
        sizes[-1] |= {kind: counts.tolist() for kind, counts in by_head.items()}
    new = models.changed(deepcopy(model), __name__, blocks=sizes)
    for index, block in zip(stay, new.blocks, strict=True):
        old = model.blocks[index]
        kept = {kind: masks[f"blocks.{index}.{kind}"].nonzero().flatten() for kind in KINDS}
        if isinstance(block.attn, SlimAttention):
            inner = shape.heads * shape.head_dim
            qk, v = kept["query_key"], kept["value"]
            rows = torch.cat([qk, inner + qk, 2 * inner + v])
            _copy(old.attn.qkv, block.attn.qkv, rows, kept["attention_input"])
            _copy(old.attn.proj, block.attn.proj, torch.arange(shape.width), v)
            _set(block.attn.inputs, kept["attention_input"])
        if isinstance(block.mlp, SlimMlp):
            _copy(old.mlp.fc1, block.mlp.fc1, kept["hidden"], kept["mlp_input"])
            _copy(old.mlp.fc2, block.mlp.fc2, torch.arange(shape.width), kept["hidden"])
            _set(block.mlp.inputs, kept["mlp_input"])
    return new.train(model.training)


def _copy(old: nn.Linear, new: nn.Linear, rows: Tensor, columns: Tensor) -> None:
    new.weight.copy_(old.weight[rows][:, columns])
    if old.bias is not None:
        new.bias.copy_(old.bias[rows])


def _set(buffer: Tensor | None, values: Tensor) -> None:
    if buffer is not None:
        buffer.copy_(values)
