"""Another attention in the place of softmax attention: what all such methods share.

A method is a file with pure functions on queries, keys and values (B, h, n, d) and one frozen
dataclass, a `Mechanism`: its fields are the settings, `attend` is the arithmetic, `macs` what it
costs. `replace` puts it into every block of a ViT, whose weights stay as they are; `compress` makes
a row of the study from that, as a drop-in or fine-tuned.

The dataclass is named in a row's settings and in a model's file as `package.module:Class`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn

from vitstudy import finetuning, methods, models
from vitstudy.attention.configs import Replacement
from vitstudy.configs import FineTuned
from vitstudy.context import Context
from vitstudy.errors import UserError


@dataclass(frozen=True)
class Mechanism(ABC):
    """An attention and its settings, one per field.

    blend: the share of the method in the output, the rest being softmax attention: 0 is softmax
    attention itself, which makes it every method's identity point.
    """

    title: ClassVar[str] = ""
    """What messages call it."""
    _: KW_ONLY
    blend: float = 1.0

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float, prefix: int) -> Tensor:
        """The method's output (B, h, n, d) for q, k and v (B, h, n, d).

        scale: of the scores, 1 / √d in a plain ViT. prefix: how many of the first tokens are no
        patches. An image's output must not depend on the images beside it.
        """

    @abstractmethod
    def macs(self, tokens: int, width: int, heads: int) -> int:
        """Multiply-accumulates between q, k, v and the output, all heads, one image: products."""

    def elementwise(self, tokens: int, width: int, heads: int) -> int:
        """Multiply-accumulates of elementwise work, which torch's counter does not see."""
        return 0

    def fitted(self, tokens: int, prefix: int) -> Mechanism:
        """The same with every setting resolved for images of so many tokens.

        Raises UserError, naming what is valid, where a setting cannot be. Overriding methods call
        this one.
        """
        if isinstance(self.blend, bool) or not 0 <= self.blend <= 1:
            raise UserError(f"blend is {self.blend}; valid: 0 to 1")
        return self


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[list[Tensor]]:
    """The tensors in at least float32, with autocast off: for norms, ratios and long sums."""
    half = (torch.float16, torch.bfloat16)
    with torch.autocast(tensors[0].device.type, enabled=False):
        yield [x.float() if x.dtype in half else x for x in tensors]


@dataclass(frozen=True)
class Attend:
    """What a layer calls with its q, k and v (B, h, N, d) in the place of softmax attention."""

    mechanism: Mechanism
    scale: float
    prefix: int

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        mechanism = self.mechanism
        if mask is not None or is_causal:
            raise ValueError(f"{mechanism.title} takes no mask: an image has all its tokens")
        if mechanism.blend == 0:
            return F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        method = mechanism.attend(q, k, v, scale=self.scale, prefix=self.prefix)
        if mechanism.blend == 1:
            return method
        exact = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return exact.lerp(method, mechanism.blend)


class ReplacedAttention(nn.Module):
    """timm's `Attention` with another arithmetic between its projections.

    It takes over the layers, under the same names, so the weights' file does not change.
    """

    def __init__(self, attention: Attention, attend: Attend):
        super().__init__()
        self.attend, self.scale = attend, attention.scale
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        self.qkv, self.proj, self.proj_drop = attention.qkv, attention.proj, attention.proj_drop
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.norm = getattr(attention, "norm", nn.Identity())  # absent from older timm
        self.train(attention.training)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v of the tokens x (B, N, D): (B, h, N, d) each."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return self.q_norm(q), self.k_norm(k), v

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        x = self.attend(*self.heads(x), attn_mask, is_causal)
        x = x.transpose(1, 2).flatten(2)  # (B, N, h d)
        return self.proj_drop(self.proj(self.norm(x)))

    def extra_repr(self) -> str:
        return str(self.attend)


def mechanism_of(module: nn.Module) -> Mechanism | None:
    """The mechanism by which a layer attends; None for softmax attention and for other layers."""
    attend = getattr(module, "attend", None)
    return attend.mechanism if isinstance(attend, Attend) else None


def num_tokens(model: VisionTransformer) -> int:
    """How many tokens a block of `model` is given of an image: patches and class tokens."""
    return model.patch_embed.num_patches + model.num_prefix_tokens


def replace(model: VisionTransformer, mechanism: Mechanism) -> VisionTransformer:
    """Let every block of `model` attend by `mechanism`, in place; its weights stay.

    Raises UserError for a setting that the model's number of tokens rules out, and, naming the
    layer, for a model without the softmax attention that it replaces; nothing is changed then.
    """
    title = mechanism.title
    if not len(getattr(model, "blocks", ())):
        raise UserError(
            f"{type(model).__name__} has no transformer blocks here, so no attention that {title} "
            "could replace"
        )
    if not isinstance(model, VisionTransformer):
        raise UserError(
            f"blocks.0 is {type(model.blocks[0]).__name__} of {type(model).__name__}: {title} "
            "replaces that of timm's VisionTransformer alone"
        )
    prefix = model.num_prefix_tokens
    mechanism = mechanism.fitted(num_tokens(model), prefix)
    layers = []
    for index, block in enumerate(model.blocks):
        if not isinstance(attention := getattr(block, "attn", None), nn.Module):
            raise UserError(
                f"blocks.{index} is {type(block).__name__}, without an attention of its own: "
                f"{_only(mechanism)}"
            )
        attend = Attend(mechanism, getattr(attention, "scale", 1.0), prefix)
        layers.append(_taken_over(attention, attend, f"blocks.{index}.attn"))
    for block, (layer, attend) in zip(model.blocks, layers, strict=True):
        block.attn = layer
        layer.attend = attend
    return model


def _only(mechanism: Mechanism) -> str:
    return f"{mechanism.title} replaces softmax attention of timm's plain kind alone"


def _taken_over(attention: nn.Module, attend: Attend, name: str) -> tuple[nn.Module, Attend]:
    """The layer that attends by `attend` in the place of `attention`; UserError where none can.

    timm's own is replaced. A layer of the study with `heads(x)` and `attend(q, k, v)`, such as a
    pruned one, keeps its heads.
    """
    only = _only(attend.mechanism)
    dropout = getattr(attention, "attn_drop", None)
    if getattr(attention, "gate", None) is not None or getattr(dropout, "p", 0):
        raise UserError(f"{name} has a gate or dropout on its attention matrix: {only}")
    if type(attention) is Attention:
        return ReplacedAttention(attention, attend), attend
    if before := mechanism_of(attention):
        raise UserError(f"{name} attends by {before.title} already: {only}")
    if not all(callable(getattr(attention, part, None)) for part in ("heads", "attend")):
        raise UserError(f"{name} is {type(attention).__name__}: {only}")
    return attention, attend


# -- rows and files -------------------------------------------------------------------------------


def named(attention: str, **settings) -> Mechanism:
    """The mechanism `package.module:Class` with `settings`.

    Raises ValueError for what is no mechanism of this package, and UserError for a setting that it
    does not have.
    """
    module, _, name = attention.partition(":")
    if not module.startswith("vitstudy."):  # a file must not choose what is imported
        raise ValueError(f"an attention names {module!r}, no module of vitstudy")
    kind = getattr(import_module(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, Mechanism)):
        raise ValueError(f"{attention} is no attention")
    valid = [field.name for field in dataclasses.fields(kind)]
    for setting in settings:
        if setting not in valid:
            raise UserError(f"{kind.title} has no {setting!r}; valid: {', '.join(valid)}")
    return kind(**settings)


def rebuild(model: VisionTransformer, attention: str, **settings) -> VisionTransformer:
    """`replace`, as `models.changed` repeats it on loading."""
    return replace(model, named(attention, **settings))


def surveyed() -> dict[str, Mechanism]:
    """The mechanisms of the surveyed methods that are another attention, by the method's key."""
    configs = {method.key: method.config for method in methods.SURVEYED}
    return {
        key: named(config.attention, **config.settings)
        for key, config in configs.items()
        if isinstance(config, Replacement)
    }


def alone(mechanism: Mechanism, tokens: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """`mechanism` on q, k and v of so many patch tokens, as a layer of a ViT calls it."""
    fitted = mechanism.fitted(tokens, 0)
    return lambda q, k, v: Attend(fitted, q.shape[-1] ** -0.5, 0)(q, k, v)


def compress(context: Context[Replacement]) -> nn.Module:
    """The first parent with another attention, as a drop-in (`steps` 0) or then fine-tuned."""
    config = context.config
    model = replaced(context, __name__, attention=config.attention, **config.settings)
    return tuned(context, model)


def replaced(context: Context, module: str, **settings) -> VisionTransformer:
    """The first parent, its attention replaced by `module.rebuild` and noted, not trained."""
    model = models.changed(context.model(), module, **settings)
    for name, layer in model.named_modules():
        if mechanism_of(layer):
            context.touched(name)
    return model


def tuned(context: Context[FineTuned], model: VisionTransformer) -> nn.Module:
    """`model` on the CPU, fine-tuned where the settings name steps."""
    if context.config.steps:
        context.fit(model, finetuning.recipe(context))
    return model.cpu()
