"""FQ-ViT: post-training quantization of a whole Vision Transformer.

Lin et al., FQ-ViT: Post-Training Quantization for Fully Quantized Vision Transformer, IJCAI 2022.
Two remedies for what min/max does to a ViT: power-of-two factors, a shift a channel, where the
inputs of LayerNorm differ from channel to channel; and Log-Int-Softmax, attention maps as powers of
two, where almost all of their values are small. First the mathematics as functions on tensors, then
the layers, then `quantize_model` and the study's `compress`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from vitstudy import models
from vitstudy.context import Context
from vitstudy.quantization.layers import (
    Quantized,
    Skipped,
    calibration_images,
    copy_of_float_model,
    fold_batch_norm,
    layers_left,
    note_skipped,
    reading_a_file,
    replace_layers,
)
from vitstudy.quantization.packing import pack_tensors, unpack_tensors
from vitstudy.quantization.uniform import (
    IDENTITY_BITS,
    check_bits,
    choose_params,
    min_max,
    quantization_range,
    quantize,
)

# -- the mathematics ------------------------------------------------------------------------------


def affine_range(low: Tensor, high: Tensor, bits: int, signed: bool = False) -> tuple[Tensor, ...]:
    """Scale and zero point of one grid over all channels' ranges, (), ().

    The range is stretched to hold zero. Where it does not, the paper's clip of the zero point
    leaves every value outside the grid; where it does, nothing changes.
    """
    q_min, q_max = quantization_range(bits, signed)
    low, high = low.min().clamp(max=0), high.max().clamp(min=0)
    scale = ((high - low) / (q_max - q_min)).clamp(min=torch.finfo(low.dtype).eps)
    return scale, (q_min - torch.round(low / scale)).clamp(q_min, q_max)


def power_of_two_factors(
    x: Tensor,
    bits: int,
    *,
    signed: bool = False,
    max_factor: int = 3,
    low: Tensor | None = None,
    high: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scales (C,), zero point () and factors (C,) of the Power-of-Two Factor (paper section 3.2).

    x: (..., C). One scale s and one zero point for all channels, and a factor a in 0..K a channel:
    the scale is s 2^a, and s 2^K spans the whole range [low, high], by default that of x. Each
    channel takes the a of least squared error, the smallest among equals. All a are tried at once.
    As in the paper the zero point belongs to the widest scale, so a narrower channel may be clipped
    on one side.
    """
    widest, zero_point = affine_range(
        x.amin() if low is None else low, x.amax() if high is None else high, bits, signed
    )
    errors = factor_errors(x, widest, zero_point, bits, signed, max_factor)
    factors = errors.argmin(0)
    return widest / 2**max_factor * 2.0**factors, zero_point, factors


def factor_errors(
    x: Tensor, widest: Tensor, zero_point: Tensor, bits: int, signed: bool, max_factor: int
) -> Tensor:
    """Mean squared error of every factor and channel, (K + 1, C), for x (..., C)."""
    q_min, q_max = quantization_range(bits, signed)
    smallest = widest / 2**max_factor
    x = x.reshape(-1, x.shape[-1])
    unit = x / smallest  # in steps of the finest grid: the other grids are exact shifts of it
    errors = []
    for factor in range(max_factor + 1):
        step = 2.0**factor
        q = unit.mul(1 / step).add_(zero_point).round_().clamp_(q_min, q_max)
        errors.append(q.sub_(zero_point).mul_(step).sub_(unit).square_().mean(0))
    return torch.stack(errors)


def log2_quantize(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes min(round(-log2 x), 2^b - 1) of x in [0, 1], and where the code was cut off.

    Paper section 3.3. Values above 1 get code 0. Raises ValueError for negative values and NaN.
    """
    if not (x >= 0).all():
        raise ValueError("log2 quantization takes values in [0, 1], not negative ones or NaN")
    exponent = torch.round(-torch.log2(x))
    return exponent.clamp(0, 2**bits - 1), exponent >= 2**bits


def log2_dequantize(codes: Tensor, beyond: Tensor | None = None) -> Tensor:
    """2^-code; and 0 where `beyond`, as the authors' code has it.

    The paper has no zero: its least value is 2^-(2^b - 1), for which b bits suffice. With the mask
    one code more is needed.
    """
    values = torch.exp2(-codes)
    return values if beyond is None else values.masked_fill(beyond, 0.0)


# exp(x) ~ 0.35815147 x^2 + 0.96963238 x + 1 on (-ln 2, 0]
_LINEAR, _CONSTANT = 0.96963238 / 0.35815147, 1 / 0.35815147
_LN2, _SHIFTS = 0.6931, 30


def integer_exp(steps: Tensor, scale: Tensor | float) -> Tensor:
    """exp(steps * scale) up to a common factor, for steps <= 0, by integers (float64).

    Kim et al., I-BERT, ICML 2021: x = -q ln 2 + r with whole q, and a polynomial of second degree
    in r; all of it in steps of the scale. Written on float64, which holds these integers exactly:
    they pass 2^40, too much for int32 and for float32's mantissa.
    """
    scale = torch.as_tensor(scale, dtype=torch.float64, device=steps.device)
    steps = steps.double()
    ln2 = torch.floor(-_LN2 / scale)
    steps = torch.maximum(steps, _SHIFTS * ln2)
    shifts = torch.floor(steps / ln2)
    rest = steps - ln2 * shifts
    value = rest * (rest + torch.floor(_LINEAR / scale)) + torch.floor(_CONSTANT / scale**2)
    return torch.floor(value * torch.exp2(_SHIFTS - shifts)).clamp(min=0)


def log_int_softmax_exponents(steps: Tensor, scale: Tensor | float) -> Tensor:
    """Exponents of Log-Int-Softmax (int32) before the clip to b bits, 1000 for a weight of zero.

    steps: logits (..., N) in steps of `scale`, with any zero point, float or integer. The quotient
    sum / e is rounded, then its logarithm: upwards from 1.5 * 2^n on, as integers do it
    (`log2_quantize` turns at sqrt(2) * 2^n). From a step of 1.67 on the polynomial's constant would
    be zero; such a grid is refined by shifts, which moves no value.
    """
    scale = torch.as_tensor(scale, dtype=torch.float64, device=steps.device)
    refinement = 1.0
    if scale**2 > _CONSTANT:
        refinement = torch.exp2(torch.ceil(torch.log2(scale)) + 4)
        scale = scale / refinement
    distance = steps.amax(-1, keepdim=True) - steps
    if steps.is_floating_point():
        weights = integer_exp(-distance.double() * refinement, scale)
    else:  # b bits have 2^b distances at most: looked up
        table = -torch.arange(int(distance.max()) + 1, device=steps.device).double() * refinement
        weights = integer_exp(table, scale)[distance.long()]
    quotient = torch.round(weights.sum(-1, keepdim=True) / weights).clamp_(max=2.0**1000)
    # 1.5 * 2^n <= k < 1.5 * 2^(n+1) gives n + 1, and frexp tells it without a logarithm's error
    return torch.frexp(quotient.div_(1.5)).exponent


def log_int_softmax(
    x: Tensor, scale: Tensor | float, bits: int, *, zero_beyond: bool = False
) -> Tensor:
    """Softmax over the last axis by integers, its values powers of two of b bits (section 3.3).

    x: logits on a grid of step `scale`. With `zero_beyond`, as in the authors' code, what is below
    2^-(2^b - 1) becomes 0.
    """
    scale = torch.as_tensor(scale, dtype=torch.float64, device=x.device)
    exponents = log_int_softmax_exponents(x.double() / scale, scale)
    codes = exponents.clamp(0, 2**bits - 1).to(x.dtype)
    return log2_dequantize(codes, exponents >= 2**bits if zero_beyond else None)


def multiplier_and_shift(factor: Tensor) -> tuple[Tensor, Tensor]:
    """M in 0..255 and N in 0..31 with |factor| ~ M / 2^N (section 3.2)."""
    factor = factor.abs()
    shift = (7 - torch.floor(torch.log2(factor))).clamp(0, 31)
    return torch.floor(factor * torch.exp2(shift)).clamp(0, 255), shift


def integer_layer_norm(
    x: Tensor, scale: Tensor, gamma: Tensor, beta: Tensor, out_scale: Tensor
) -> Tensor:
    """LayerNorm of x (..., C) on its grid, by integers, as integers in steps of `out_scale`.

    scale: () or (C,), powers of two apart, or of a divisor of C channels (a patch merge repeats
    them). The mean and variance are sums of integers; gain and bias become an 8-bit multiplier and
    a shift. Neither zero point is needed, and there is no epsilon: a token whose channels are all
    alike, where that divides by zero, gives beta.
    """
    num_channels = x.shape[-1]
    if scale.ndim and scale.numel() != num_channels:
        scale = scale.repeat(num_channels // scale.numel())
    smallest = scale.min()
    x = torch.round(x / scale) * torch.round(scale / smallest)
    mean = x.mean(-1, keepdim=True) * smallest
    variance = num_channels * x.square().sum(-1, keepdim=True) - x.sum(-1, keepdim=True).square()
    deviation = smallest / num_channels * torch.sqrt(variance.clamp(min=0))
    flat = deviation == 0
    inverse = torch.where(flat, 0.0, 1 / deviation)
    factor = smallest * inverse * gamma / out_scale
    multiplier, shift = multiplier_and_shift(factor)
    bias = torch.round((beta - mean * inverse * gamma) / out_scale * torch.exp2(shift))
    return torch.round((factor.sign() * multiplier * x + bias) / torch.exp2(shift))


# -- the layers -----------------------------------------------------------------------------------


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
            raise ValueError(f"{self.name}: calibration never reached this layer")
        scale, zero_point = affine_range(self.low, self.high, self.bits)
        if self.channels is not None:
            scale = scale / 2**self.max_factor * 2.0 ** self.errors.argmin(0)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)
        self.low = self.high = self.errors = None

    def extra_repr(self) -> str:
        return f"bits={self.bits}" + (", power-of-two factors" if self.channels else "")


class _WeightLayer(nn.Module, Quantized):
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


class QuantLinear(_WeightLayer):
    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        y = F.linear(self.input_quantizer(x), self.real_weight(), self.bias)
        return self.output_quantizer(y)


class QuantConv2d(_WeightLayer):
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
        y = integer_layer_norm(x, source.scale, self.norm.weight, self.norm.bias, target.scale)
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
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        maps = self.softmax(q @ k.transpose(-2, -1) * self.scale)  # (B, H, N, N)
        return self.proj((maps @ v).transpose(1, 2).reshape(b, n, -1))

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


# -- the whole model ------------------------------------------------------------------------------

EMBEDDINGS = ("cls_token", "dist_token", "reg_token", "pos_embed")


@torch.no_grad()
def quantize_model(
    model: nn.Module, images: Tensor, options: Options | None = None, batch_size: int = 64
) -> tuple[nn.Module, Skipped]:
    """A fully quantized copy of a timm VisionTransformer, and the layers left in float.

    images: calibration images (N, C, H, W), normalised as the model wants them. They set every
    grid of the activations: ranges first, then power-of-two factors, over all images (the authors'
    code takes the factors from the last batch alone). Bits, remedies: see `Options`.

    The arithmetic is imitated in float: GELU and, without Log-Int-Softmax, softmax are computed on
    quantized values; biases, gains and layer scales stay float. Raises ValueError for no images,
    for NaN or infinity, naming the layer, and for a model already quantized.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"the calibration set is empty or no batch of images: shape {tuple(images.shape)}"
        )
    model = copy_of_float_model(model)
    skipped = _convert(model, options or Options())
    calibrate(model, images, batch_size)
    return model, skipped


def calibrate(model: nn.Module, images: Tensor, batch_size: int = 64) -> None:
    """Set every ActivationQuantizer of `model` from `images` (N, C, H, W), in place."""
    quantizers = {n: m for n, m in model.named_modules() if isinstance(m, ActivationQuantizer)}
    for phase in ("range", "factors"):
        if phase == "factors" and all(q.channels is None for q in quantizers.values()):
            continue
        for name, quantizer in quantizers.items():
            quantizer.phase, quantizer.name = phase, name
        for batch in images.split(batch_size):
            model(batch)
    for quantizer in quantizers.values():
        quantizer.settle()
        quantizer.phase = "on"


def _convert(model: nn.Module, options: Options) -> Skipped:
    """Fold BatchNorm and put quantized layers in the place of float ones, in place."""
    fold_batch_norm(model)

    def convert(name: str, module: nn.Module) -> nn.Module | None:
        if type(module) is nn.Linear:
            return QuantLinear(module, options.bits, name)
        if type(module) is nn.Conv2d:
            return QuantConv2d(module, options.bits, name)
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            return QuantLayerNorm(module, options)
        if type(module) is Attention and _is_plain(module):
            return QuantAttention(module, options, name)
        return None

    replace_layers(model, convert)
    skipped = []
    convolutions = [m for m in model.patch_embed.modules() if isinstance(m, QuantConv2d)]
    if convolutions:
        convolutions[-1].output_quantizer = ActivationQuantizer(options.bits)
    for index, block in enumerate(model.blocks):
        name = f"blocks.{index}"
        if not isinstance(block.attn, QuantAttention):
            reason = "the products within this attention are left in float"
            skipped.append((f"{name}.attn", f"{type(block.attn).__name__}: {reason}"))
        if type(block) is not Block or not isinstance(block.norm1, QuantLayerNorm):
            skipped.append((name, f"{type(block).__name__}: its residual sums are left in float"))
            continue
        # what the norm gives is on its grid already
        if isinstance(block.attn, QuantAttention):
            block.attn.qkv.input_quantizer = nn.Identity()
        if isinstance(getattr(block.mlp, "fc1", None), QuantLinear):
            block.mlp.fc1.input_quantizer = nn.Identity()
        if isinstance(getattr(block.mlp, "fc2", None), QuantLinear):
            block.mlp.fc2.output_quantizer = ActivationQuantizer(options.bits)
        model.blocks[index] = QuantBlock(block)
    for name in EMBEDDINGS:
        value = getattr(model, name, None)
        if value is not None and options.bits != IDENTITY_BITS:
            grid = choose_params(
                *min_max(value, name=name), options.bits, symmetric=True, signed=True
            )
            value.data = (quantize(value, grid) * grid.scale).to(value.dtype)
            model.register_buffer(f"{name}_scale", grid.scale)
    handled = (QuantLayerNorm, _WeightLayer, QuantAttention)
    skipped += layers_left(model, handled)
    model.fq_vit = options
    model.eval()
    return skipped


def _is_plain(attention: Attention) -> bool:
    """Whether timm's attention has none of its optional parts."""
    parts = [getattr(attention, part, None) for part in ("q_norm", "k_norm", "norm", "gate")]
    return all(part is None or isinstance(part, nn.Identity) for part in parts)


# -- its file -------------------------------------------------------------------------------------


def pack(model: nn.Module) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a `quantize_model`, its integers packed, and what `unpack` needs."""
    options: Options = model.fq_vit
    tensors, widths = dict(model.state_dict()), {}
    if options.bits != IDENTITY_BITS:
        width = (options.bits, quantization_range(options.bits, signed=True)[0])
        for name, module in model.named_modules():
            if isinstance(module, _WeightLayer):
                widths[f"{name}.weight"] = width
        for name in EMBEDDINGS:
            if f"{name}_scale" in tensors:
                steps = torch.round(tensors[name] / tensors[f"{name}_scale"])
                tensors[name], widths[name] = steps.to(torch.int32), width
    packed, layout = pack_tensors(tensors, widths)
    return packed, {**model.description, "fq_vit": asdict(options), "packed": layout}


def unpack(tensors: dict[str, Tensor], description: dict) -> nn.Module:
    """The quantized model that `pack` took apart, with the same logits to the bit.

    Raises UserError where the tensors and the description do not make one.
    """
    with reading_a_file("FQ-ViT"):
        tensors = unpack_tensors(tensors, description["packed"])
        for name in EMBEDDINGS:
            if f"{name}_scale" in tensors:
                tensors[name] = tensors[name] * tensors[f"{name}_scale"]
        model = models.skeleton(description)
        _convert(model, Options(**description["fq_vit"]))
        model.load_state_dict(tensors)
    return model


# -- the row of the study -------------------------------------------------------------------------


def compress(context: Context) -> nn.Module:
    """Quantize the baseline, calibrated on the calibration split alone; nothing is trained."""
    options = dict(context.options)
    images = calibration_images(context, options.pop("calibration_images"))
    dense = context.model()
    model, skipped = quantize_model(dense, images, Options(**options))
    changed = (QuantLayerNorm, _WeightLayer, QuantAttention)
    for name, module in model.named_modules():
        if isinstance(module, changed):
            context.touched(name)
    for name, module in dense.named_modules():
        if isinstance(module, nn.BatchNorm2d):  # folded into the convolution before it
            context.touched(name)
    for name in EMBEDDINGS:
        if getattr(dense, name, None) is not None:
            context.touched(name)
    note_skipped(context, dense, skipped)
    return model
