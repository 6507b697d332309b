"""FQ-ViT's layers: what takes the place of timm's while a whole model is quantized."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from vitstudy.errors import UserError
from vitstudy.quantization.fq_vit_maths import (
    affine_range,
    factor_errors,
    integer_layer_norm,
    log2_dequantize,
    log_int_softmax_exponents,
)
from vitstudy.quantization.layers import NEVER_CALLED, Quantized
from vitstudy.quantization.uniform import (
    IDENTITY_BITS,
    check_bits,
    choose_params,
    min_max,
    quantization_range,
    quantize,
)


@dataclass(frozen=True)
class Options:
    """What is quantized and how; both remedies off is plain min/max at the same widths.

    bits: of weights (per output channel, symmetric) and activations (per layer, affine).
    attention_bits: of attention maps, logarithmic with `log_int_softmax`, uniform without. At 32
    bits a quantizer is the identity and its remedy has nothing to act on.
    """

    bits: int = 8
    attention_bits: int = 4
    power_of_two: bool = True
    log_int_softmax: bool = True
    max_factor: int = 3

    def __post_init__(self) -> None:
        check_bits(self.bits, signed=True)
        check_bits(self.attention_bits, signed=False)


class ActivationQuantizer(nn.Module, Quantized):
    """An unsigned affine grid for activations, set by calibration.

    One scale a layer; with `channels`, power-of-two factors over the last axis. `phase` is "range"
    and then "factors" while `calibrate` looks at data, which passes unchanged, and "on" afterwards.
    """

    def __init__(self, bits: int, channels: int | None = None, max_factor: int = 3):
        super().__init__()
        self.bits, self.channels, self.max_factor = bits, channels, max_factor
        self.phase, self.name = "on", ""
        self.register_buffer("scale", torch.ones(() if channels is None else channels))
        self.register_buffer("zero_point", torch.zeros(()))
        self.low = self.high = self.errors = None

    def forward(self, x: Tensor) -> Tensor:
        if self.bits == IDENTITY_BITS:
            return x
        if self.phase == "on":
            return self.steps(x) * self.scale
        if self.phase == "range":
            low, high = min_max(x, name=self.name)
            self.low = low if self.low is None else torch.minimum(self.low, low)
            self.high = high if self.high is None else torch.maximum(self.high, high)
        elif self.channels is not None:
            widest, zero_point = affine_range(self.low, self.high, self.bits)
            errors = factor_errors(x, widest, zero_point, self.bits, False, self.max_factor)
            errors *= x.numel() // x.shape[-1]
            self.errors = errors if self.errors is None else self.errors + errors
        return x

    def steps(self, x: Tensor) -> Tensor:
        """Whole numbers q - Z of x on the grid."""
        q_min, q_max = quantization_range(self.bits, signed=False)
        q = torch.round(x / self.scale).add_(self.zero_point).clamp_(q_min, q_max)
        return q.sub_(self.zero_point)

    def settle(self) -> None:
        """Take the scale from what was seen."""
        if self.bits == IDENTITY_BITS:
            return
        if self.low is None:
            raise UserError(f"{self.name.rpartition('.')[0]} {NEVER_CALLED}")
        scale, zero_point = affine_range(self.low, self.high, self.bits)
        if self.channels is not None:
            scale = scale / 2**self.max_factor * 2.0 ** self.errors.argmin(0)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)
        self.low = self.high = self.errors = None

    def extra_repr(self) -> str:
        return f"bits={self.bits}" + (", power-of-two factors" if self.channels else "")


class WeightLayer(nn.Module, Quantized):
    """Integer weights with a scale an output channel, and grids for what goes in and out."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, bits: int, name: str):
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
        self.input_quantizer = ActivationQuantizer(bits)
        self.output_quantizer = nn.Identity()

    def real_weight(self) -> Tensor:
        return self.weight if self.bits == IDENTITY_BITS else self.weight * self.weight_scale

    def extra_repr(self) -> str:
        return f"weight={tuple(self.weight.shape)}, bits={self.bits} per output channel"


class QuantLinear(WeightLayer):
    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        y = F.linear(self.input_quantizer(x), self.real_weight(), self.bias)
        return self.output_quantizer(y)


class QuantConv2d(WeightLayer):
    def __init__(self, layer: nn.Conv2d, bits: int, name: str):
        super().__init__(layer, bits, name)
        if layer.padding_mode != "zeros":
            raise ValueError(f"{name}: padding_mode={layer.padding_mode!r} is not quantized here")
        self.geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        y = F.conv2d(self.input_quantizer(x), self.real_weight(), self.bias, *self.geometry)
        return self.output_quantizer(y)


class QuantLayerNorm(nn.Module, Quantized):
    """LayerNorm of a quantized input; with power-of-two factors by integers.

    Gain and bias are kept in float, as in the authors' code: only their product with the scales
    becomes a multiplier and a shift.
    """

    def __init__(self, norm: nn.LayerNorm, options: Options):
        super().__init__()
        self.norm = norm
        factors = options.power_of_two and options.bits != IDENTITY_BITS
        channels = norm.normalized_shape[-1] if factors else None
        self.input_quantizer = ActivationQuantizer(options.bits, channels, options.max_factor)
        self.output_quantizer = ActivationQuantizer(options.bits)

    def normalize(self, x: Tensor) -> Tensor:
        """The norm of x that is already on the input grid."""
        source, target = self.input_quantizer, self.output_quantizer
        if source.channels is None or source.phase != "on":
            return target(self.norm(x))
        gain, bias = self.norm.weight, self.norm.bias
        gain = x.new_ones(x.shape[-1]) if gain is None else gain
        bias = x.new_zeros(x.shape[-1]) if bias is None else bias
        y = integer_layer_norm(x, source.scale, gain, bias, target.scale)
        return target(y * target.scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.normalize(self.input_quantizer(x))


class QuantAttention(nn.Module, Quantized):
    """timm's self-attention with a grid before each matrix product and for the maps."""

    def __init__(self, attention: Attention, options: Options, name: str):
        super().__init__()
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.attention_bits = options.attention_bits
        self.qkv = QuantLinear(attention.qkv, options.bits, f"{name}.qkv")
        self.qkv.output_quantizer = ActivationQuantizer(options.bits)
        self.logit_quantizer = ActivationQuantizer(options.bits)
        self.log_int = options.log_int_softmax and IDENTITY_BITS not in (
            options.bits,
            options.attention_bits,
        )
        if not self.log_int:
            self.map_quantizer = ActivationQuantizer(options.attention_bits)
        self.proj = QuantLinear(attention.proj, options.bits, f"{name}.proj")
        self.proj.output_quantizer = ActivationQuantizer(options.bits)

    def softmax(self, logits: Tensor) -> Tensor:
        grid = self.logit_quantizer
        if self.log_int and grid.phase == "on":
            steps = grid.steps(logits).to(torch.int32)
            exponents = log_int_softmax_exponents(steps, grid.scale)
            codes = exponents.clamp_(max=2**self.attention_bits - 1)
            return log2_dequantize(codes.to(logits.dtype))
        maps = grid(logits).softmax(dim=-1)
        return maps if self.log_int else self.map_quantizer(maps)

    def forward(self, x: Tensor, **no_mask) -> Tensor:
        if any(value is not None and value is not False for value in no_mask.values()):
            raise ValueError("attention masks are not quantized here")
        qkv = self.qkv(x).unflatten(
            -1, (3, self.num_heads, -1)
        )  # (B, N, 3, H, D), of no images too
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        maps = self.softmax(q @ k.transpose(-2, -1) * self.scale)  # (B, H, N, N)
        return self.proj((maps @ v).transpose(1, 2).flatten(2))

    def extra_repr(self) -> str:
        kind = "log2" if self.log_int else "uniform"
        return f"attention maps: {self.attention_bits} bits, {kind}"


class QuantBlock(nn.Module, Quantized):
    """timm's pre-norm block whose residual stream lies on the grid of the norm that reads it."""

    def __init__(self, block: Block):
        super().__init__()
        for name in ("norm1", "attn", "ls1", "norm2", "mlp", "ls2"):
            setattr(self, name, getattr(block, name))

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D)
        x = self.norm1.input_quantizer(x)
        x = x + self.ls1(self.attn(self.norm1.normalize(x)))
        x = self.norm2.input_quantizer(x)
        return x + self.ls2(self.mlp(self.norm2.normalize(x)))
