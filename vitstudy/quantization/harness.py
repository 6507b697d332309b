"""What every post-training quantization shares: observe, calibrate, convert, pack.

A method gives its grids (a `Grid` observes an operand of a product in one phase or several and then
rounds it), the layers that take the place of timm's, and nothing else. `Frame` says which operands
are rounded, alike for all methods unless one says otherwise: the weights and inputs of linear and
convolutional layers, and in attention the queries, the keys, the map and the values. `operands`
lists what a quantized model rounds, so that two methods can be compared.

The arithmetic is imitated in float. Weights are whole numbers with a scale an output channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from vitstudy.errors import UserError
from vitstudy.packing import Codes
from vitstudy.quantization.layers import (
    NEVER_CALLED,
    Quantized,
    Skipped,
    attentions,
    calibration_images,
    copy_of_float_model,
    fold_batch_norm,
    note_skipped,
    replace_layers,
)
from vitstudy.quantization.uniform import (
    IDENTITY_BITS,
    affine_range,
    choose_params,
    min_max,
    quantization_range,
    quantize,
)

if TYPE_CHECKING:
    from vitstudy.context import Context

# -- grids, and how they are set from images ------------------------------------------------------


class Grid(nn.Module, Quantized, ABC):
    """Rounds one operand, as calibration images have set it.

    While `calibrate` shows it data, `phase` is one of `phases` and values pass unchanged;
    afterwards it is "on". At 32 bits it is the identity.
    """

    phases: tuple[str, ...] = ("range",)
    """What it looks for, each in a pass of its own over the images."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.phase, self.name = bits, "on", ""

    def forward(self, x: Tensor) -> Tensor:
        if self.bits == IDENTITY_BITS:
            return x
        if self.phase == "on":
            return self.rounded(x)
        if self.phase in self.phases:
            self.observe(x)
        return x

    @abstractmethod
    def observe(self, x: Tensor) -> None:
        """Take in a batch of the operand; `phase` says what is looked for."""

    @abstractmethod
    def settle(self) -> None:
        """Set the grid from what was observed; UserError, naming the layer, for nothing."""

    @abstractmethod
    def rounded(self, x: Tensor) -> Tensor:
        """x on the grid, in float."""

    def never_called(self) -> UserError:
        """The error for a grid that nothing has reached."""
        return UserError(f"{self.name.rpartition('.')[0]} {NEVER_CALLED}")


class AffineGrid(Grid):
    """An unsigned affine grid over the range of all values: the plain min/max.

    shape: of the scale, () for one.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, bits: int, shape: tuple[int, ...] = ()) -> None:
        super().__init__(bits)
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("zero_point", torch.zeros(()))
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def observe(self, x: Tensor) -> None:
        low, high = min_max(x, name=self.name)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)

    def settle(self) -> None:
        if self.bits == IDENTITY_BITS:
            return
        scale, zero_point = self.whole_range()
        self.scale.copy_(self.scale_of(scale))
        self.zero_point.copy_(zero_point)
        self.low = self.high = None

    def whole_range(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point, () each, of a grid over all that was observed."""
        if self.low is None or self.high is None:
            raise self.never_called()
        scale, zero_point = affine_range(self.low, self.high, self.bits)
        return scale, zero_point

    def scale_of(self, whole: Tensor) -> Tensor:
        """The grid's scale, from that of a grid over the `whole` range."""
        return whole

    def steps(self, x: Tensor) -> Tensor:
        """Whole numbers q - Z of x on the grid."""
        q_min, q_max = quantization_range(self.bits, signed=False)
        q = torch.round(x / self.scale).add_(self.zero_point).clamp_(q_min, q_max)
        return q.sub_(self.zero_point)

    def rounded(self, x: Tensor) -> Tensor:
        return self.steps(x) * self.scale

    def extra_repr(self) -> str:
        return f"bits={self.bits}"


@torch.no_grad()
def calibrate(model: nn.Module, images: Tensor, batch_size: int = 64) -> None:
    """Set every `Grid` of `model` from `images` (N, C, H, W), in place.

    Each phase that a grid has is one pass over all images, in the order in which grids name them.
    """
    grids = {name: module for name, module in model.named_modules() if isinstance(module, Grid)}
    for phase in dict.fromkeys(phase for grid in grids.values() for phase in grid.phases):
        for name, grid in grids.items():
            grid.phase, grid.name = phase, name
        for batch in images.split(batch_size):
            model(batch)
    for grid in grids.values():
        grid.settle()
        grid.phase = "on"


# -- layers ---------------------------------------------------------------------------------------


class QuantizedLayer(Quantized):
    """Marks a layer that stands in the place of a float one: a record names it as touched."""


class WeightLayer(nn.Module, QuantizedLayer):
    """Integer weights with a scale an output channel, and grids for what goes in and out."""

    weight_scale: Tensor

    def __init__(
        self, layer: nn.Linear | nn.Conv2d, bits: int, name: str, grid: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.bits = bits
        weight = layer.weight.detach()
        params = choose_params(
            *min_max(weight, axis=0, name=f"{name}.weight"),
            bits,
            symmetric=True,
            signed=True,
            axis=0,
        )
        codes = quantize(weight, params)
        codes = codes if bits == IDENTITY_BITS else codes.to(torch.int16)
        self.weight = nn.Parameter(codes, requires_grad=False)  # counted, but not to be trained
        scale = params.scale.view(-1, *[1] * (weight.ndim - 1))
        self.register_buffer("weight_scale", scale)
        bias = None if layer.bias is None else layer.bias.detach().clone()
        self.bias = bias if bias is None else nn.Parameter(bias, requires_grad=False)
        self.input_quantizer = AffineGrid(bits) if grid is None else grid
        self.output_quantizer: nn.Module = nn.Identity()

    def real_weight(self) -> Tensor:
        """The weights in float, in the shape of the layer's."""
        return self.weight if self.bits == IDENTITY_BITS else self.weight * self.weight_scale

    def extra_repr(self) -> str:
        return f"weight={tuple(self.weight.shape)}, bits={self.bits} per output channel"


class QuantLinear(WeightLayer):
    """`nn.Linear` on (..., in)."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(self.input_quantizer(x), self.real_weight(), self.bias)
        return self.output_quantizer(y)


class QuantConv2d(WeightLayer):
    """`nn.Conv2d` on (B, C, H, W); ValueError for a padding other than by zeros."""

    def __init__(
        self, layer: nn.Conv2d, bits: int, name: str, grid: nn.Module | None = None
    ) -> None:
        super().__init__(layer, bits, name, grid)
        if layer.padding_mode != "zeros":
            raise ValueError(f"{name}: padding_mode={layer.padding_mode!r} is not quantized here")
        self.geometry: tuple[Any, ...]
        self.geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(self.input_quantizer(x), self.real_weight(), self.bias, *self.geometry)
        return self.output_quantizer(y)


class QuantAttention(nn.Module, QuantizedLayer):
    """timm's self-attention with a grid for each operand of its two products.

    A method that rounds otherwise overrides `maps`, or leaves an operand's grid the identity.
    """

    operands: ClassVar[tuple[str, ...]] = ("query", "key", "map", "value")

    def __init__(
        self, attention: Attention, qkv: nn.Module, proj: nn.Module, grids: dict[str, nn.Module]
    ) -> None:
        super().__init__()
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.qkv, self.proj = qkv, proj
        for operand in self.operands:
            setattr(self, f"{operand}_quantizer", grids.get(operand, nn.Identity()))

    def maps(self, logits: Tensor) -> Tensor:
        """The rounded attention maps (B, h, N, N) of `logits`, scores times the scale."""
        rounded: Tensor = self.map_quantizer(logits.softmax(dim=-1))
        return rounded

    def forward(self, x: Tensor, **no_mask: Any) -> Tensor:  # (B, N, D)
        if any(value is not None and value is not False for value in no_mask.values()):
            raise ValueError("attention masks are not quantized here")
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, h, d), of none, too
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k, v = self.query_quantizer(q), self.key_quantizer(k), self.value_quantizer(v)
        maps = self.maps(q @ k.transpose(-2, -1) * self.scale)  # (B, h, N, N)
        out: Tensor = self.proj((maps @ v).transpose(1, 2).flatten(2))
        return out


def is_plain(attention: Attention) -> bool:
    """Whether timm's attention has none of its optional parts."""
    parts = [getattr(attention, part, None) for part in ("q_norm", "k_norm", "norm", "gate")]
    return all(part is None or isinstance(part, nn.Identity) for part in parts)


# -- whole models ---------------------------------------------------------------------------------


class Frame:
    """Which operands are rounded, and to what: the weights of every layer to `bits`.

    grid: makes the grid of an operand, "input" or one of `QuantAttention.operands`.
    """

    def __init__(self, bits: int, grid: Callable[[str], nn.Module]) -> None:
        self.bits, self.grid = bits, grid

    def linear(self, name: str, layer: nn.Linear) -> nn.Module:
        """The quantized form of a linear layer."""
        return QuantLinear(layer, self.bits, name, self.grid("input"))

    def convolution(self, name: str, layer: nn.Conv2d) -> nn.Module:
        """The quantized form of a convolution."""
        return QuantConv2d(layer, self.bits, name, self.grid("input"))

    def attention(self, name: str, layer: Attention) -> nn.Module:
        """The quantized form of timm's plain attention, its own layers included."""
        projections = (self.linear(f"{name}.{part}", getattr(layer, part)) for part in PROJECTIONS)
        grids = {operand: self.grid(operand) for operand in QuantAttention.operands}
        return QuantAttention(layer, *projections, grids)

    def other(self, name: str, layer: nn.Module) -> nn.Module | None:
        """The quantized form of any other layer; None leaves it in float."""
        return None

    def convert(self, model: nn.Module) -> Skipped:
        """Fold BatchNorm and put quantized layers in the place of float ones, in place.

        Gives the attentions whose products are left in float; a model's attention may be of a kind
        of its own.
        """
        fold_batch_norm(model)

        def convert(name: str, module: nn.Module) -> nn.Module | None:
            if type(module) is nn.Linear:
                return self.linear(name, module)
            if type(module) is nn.Conv2d:
                return self.convolution(name, module)
            if type(module) is Attention and is_plain(module):
                return self.attention(name, module)
            return self.other(name, module)

        replace_layers(model, convert)
        reason = "the products within this attention are left in float"
        return [
            (name, f"{type(module).__name__}: {reason}")
            for name, module in attentions(model).items()
            if not isinstance(module, QuantAttention)
        ]


PROJECTIONS = ("qkv", "proj")


@torch.no_grad()
def quantized(
    model: nn.Module,
    images: Tensor,
    convert: Callable[[nn.Module], Skipped],
    *,
    title: str,
    batch_size: int = 64,
) -> tuple[nn.Module, Skipped]:
    """A copy of a Vision Transformer that `convert` has changed in place, calibrated; and what it
    left in float.

    images: calibration images (N, C, H, W), normalised as the model wants them. title: what
    messages call the method. Raises ValueError for no images, for NaN or infinity, naming the
    layer, and for a model already quantized; UserError for a model without attention and for a
    layer that the images never reach.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"the calibration set is empty or no batch of images: shape {tuple(images.shape)}"
        )
    device = next(model.parameters()).device
    model = copy_of_float_model(model)
    if not attentions(model):
        raise UserError(
            f"{type(model).__name__} has no attention: {title} quantizes Vision Transformers, lsq "
            "and diffq any model"
        )
    skipped = convert(model)
    calibrate(model.to(device), images.to(device), batch_size)
    return model, skipped


def operands(model: nn.Module) -> list[str]:
    """The names of all that a quantized model rounds: weights, and the grids of activations."""
    weights = (f"{name}.weight" for name, _ in weight_layers(model))
    grids = (
        name
        for name, module in model.named_modules()
        if isinstance(module, Grid) and module.bits != IDENTITY_BITS
    )
    return sorted((*weights, *grids))


def weight_layers(model: nn.Module) -> Iterable[tuple[str, WeightLayer]]:
    """The layers of `model` with integer weights, by name."""
    for name, module in model.named_modules():
        if isinstance(module, WeightLayer) and module.bits != IDENTITY_BITS:
            yield name, module


def codes(model: nn.Module) -> dict[str, Codes]:
    """The integer weights of a quantized model, for `packing.pack_model`."""
    return {
        f"{name}.weight": Codes(
            layer.weight, layer.bits, quantization_range(layer.bits, signed=True)[0]
        )
        for name, layer in weight_layers(model)
    }


def compress(
    context: Context[Any],
    images: int,
    quantize: Callable[[nn.Module, Tensor], tuple[nn.Module, Skipped]],
) -> nn.Module:
    """The cell's parent quantized, on so many calibration images, and noted; nothing is trained.

    quantize: makes of the dense model and the images (N, C, H, W) what `quantized` gives.
    """
    calibration = calibration_images(context, images)
    dense = context.model().to(Accelerator().device)
    model, skipped = quantize(dense, calibration)
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLayer):
            context.touched(name)
    for name, module in dense.named_modules():
        if isinstance(module, nn.BatchNorm2d):  # folded into the convolution before it
            context.touched(name)
    note_skipped(context, dense, skipped)
    return model
