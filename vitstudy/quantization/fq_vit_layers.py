"""FQ-ViT's layers: what takes the place of timm's while a whole model is quantized."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.layers import LayerNorm, LayerNormFp32
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from vitstudy.quantization import harness
from vitstudy.quantization.fq_vit_maths import (
    factor_errors,
    integer_layer_norm,
    log2_dequantize,
    log_int_softmax_exponents,
)
from vitstudy.quantization.harness import (
    AffineGrid,
    Frame,
    QuantizedLayer,
)
from vitstudy.quantization.layers import Quantized
from vitstudy.quantization.uniform import IDENTITY_BITS, check_bits


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


class ActivationQuantizer(AffineGrid):
    """An unsigned affine grid for activations, set by calibration.

    One scale a layer; with `channels`, power-of-two factors over the last axis, which are looked
    for once the range is known.
    """

    def __init__(self, bits: int, channels: int | None = None, max_factor: int = 3) -> None:
        super().__init__(bits, () if channels is None else (channels,))
        self.channels, self.max_factor = channels, max_factor
        if channels is not None:
            self.phases = ("range", "factors")
        self.errors: Tensor | None = None

    def observe(self, x: Tensor) -> None:
        if self.phase == "range":
            super().observe(x)
            return
        errors = factor_errors(x, *self.whole_range(), self.bits, False, self.max_factor)
        errors *= x.numel() // x.shape[-1]
        self.errors = errors if self.errors is None else self.errors + errors

    def scale_of(self, whole: Tensor) -> Tensor:
        if self.errors is None:
            return whole
        factors, self.errors = self.errors.argmin(0), None
        return whole / 2**self.max_factor * 2.0**factors

    def extra_repr(self) -> str:
        return super().extra_repr() + (", power-of-two factors" if self.channels else "")


class QuantLayerNorm(nn.Module, QuantizedLayer):
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


class QuantAttention(harness.QuantAttention):
    """timm's self-attention with grids on what its layers give, on the logits and on the maps."""

    def __init__(self, attention: Attention, options: Options, name: str) -> None:
        layers = Layers(options)
        qkv = layers.linear(f"{name}.qkv", attention.qkv)
        proj = layers.linear(f"{name}.proj", attention.proj)
        log_int = options.log_int_softmax and IDENTITY_BITS not in (
            options.bits,
            options.attention_bits,
        )
        grids = {} if log_int else {"map": ActivationQuantizer(options.attention_bits)}
        super().__init__(attention, qkv, proj, grids)
        self.attention_bits, self.log_int = options.attention_bits, log_int
        qkv.output_quantizer = ActivationQuantizer(options.bits)
        proj.output_quantizer = ActivationQuantizer(options.bits)
        self.logit_quantizer = ActivationQuantizer(options.bits)

    def maps(self, logits: Tensor) -> Tensor:
        grid = self.logit_quantizer
        if self.log_int and grid.phase == "on":
            steps = grid.steps(logits).to(torch.int32)
            exponents = log_int_softmax_exponents(steps, grid.scale)
            codes = exponents.clamp_(max=2**self.attention_bits - 1)
            return log2_dequantize(codes.to(logits.dtype))
        return super().maps(grid(logits))

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


LAYER_NORMS = (nn.LayerNorm, LayerNorm, LayerNormFp32)
"""Those over the last axis: timm has others, over channels that come first."""


class Layers(Frame):
    """FQ-ViT's choice: norms too, and attention by the grids of `QuantAttention`."""

    def __init__(self, options: Options) -> None:
        super().__init__(options.bits, lambda operand: ActivationQuantizer(options.bits))
        self.options = options

    def attention(self, name: str, layer: Attention) -> nn.Module:
        return QuantAttention(layer, self.options, name)

    def other(self, name: str, layer: nn.Module) -> nn.Module | None:
        if type(layer) in LAYER_NORMS and len(layer.normalized_shape) == 1:
            return QuantLayerNorm(layer, self.options)
        return None
