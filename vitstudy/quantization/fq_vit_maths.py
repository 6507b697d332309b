"""FQ-ViT's mathematics: the two remedies as functions on tensors, by integers where the paper is.

Lin et al., FQ-ViT: Post-Training Quantization for Fully Quantized Vision Transformer, IJCAI 2022:
power-of-two factors and the integer LayerNorm that reads them (section 3.2), log2 quantization and
Log-Int-Softmax (section 3.3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitstudy.quantization.uniform import affine_range, quantization_range


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
        furthest = int(distance.max()) if distance.numel() else 0
        table = -torch.arange(furthest + 1, device=steps.device).double() * refinement
        looked_up = integer_exp(table, scale).index_select(0, distance.flatten())
        weights = looked_up.view(distance.shape)
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
