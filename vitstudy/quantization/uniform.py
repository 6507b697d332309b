r"""Uniform quantization: papers' Eq. 1-3 (A, B, C) and the survey's Eq. 5.

One convention in the code, that of PyTorch and ONNX:

    q = clamp(round(r / S) + Z, q_min, q_max)        r ~ S (q - Z)

- The papers write Q(r) = Int(r / S) - Z and r ~ S (Q(r) + Z): their Z is the negative of this one
  (`QuantParams.paper_zero_point`); the integers are the same.
- The clamp is the survey's (Eq. 5); the papers forgot it, and need it: their symmetric scale puts
  max|r| half a level above the highest code.
- Rounding is to nearest, half to even (`torch.round`), before Z is added: ties do not depend on Z.
- Any width from 1 (signed: 2) to 16 bits; 32 bits are the identity and return the input itself.
- One scale per tensor, per channel (`axis`) or per group of `group_size` neighbours along the last
  axis. Every row has groups of its own, and a last group that is not full is simply smaller:
  nothing is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

IDENTITY_BITS = 32
Range = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class QuantParams:
    """Scale and zero point: 0-d per tensor, (C,) per channel, (..., groups) per group."""

    scale: Tensor  # > 0
    zero_point: Tensor  # int32
    bits: int
    signed: bool
    axis: int | None = None
    group_size: int | None = None

    @property
    def paper_zero_point(self) -> Tensor:
        """The papers' Z (Eq. 1): the negative of the library's."""
        return -self.zero_point


def check_bits(bits: int, signed: bool) -> None:
    """Raise ValueError unless `bits` is 1 (signed: 2) to 16, or 32 for the identity."""
    lowest = 2 if signed else 1
    if (
        isinstance(bits, bool)
        or not isinstance(bits, int)
        or not (lowest <= bits <= 16 or bits == IDENTITY_BITS)
    ):
        kind = "signed" if signed else "unsigned"
        raise ValueError(
            f"bits={bits!r} is out of range: {kind} takes {lowest} to 16, or 32 for the identity"
        )


def quantization_range(bits: int, signed: bool) -> tuple[int, int]:
    """The lowest and highest integer of `bits` bits.

    Raises ValueError outside 1 (signed: 2) to 16.
    """
    check_bits(bits, signed)
    if bits == IDENTITY_BITS:
        raise ValueError("32 bits are the identity and have no integer range: take 1 to 16")
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def choose_params(
    low: Tensor | float,
    high: Tensor | float,
    bits: int,
    *,
    symmetric: bool,
    signed: bool,
    narrow_range: bool = False,
    axis: int | None = None,
    group_size: int | None = None,
) -> QuantParams:
    """Scale and zero point for the clipping range [low, high] (papers' Eq. 3).

    Affine: S = (high - low) / (2^b - 1), Z = q_min - round(low / S). The papers never say how Z is
    chosen; this Z sends `low` to the lowest code. The range is taken as it is, so where it leaves
    zero out, zero is no code.
    Symmetric: Z = 0. Signed, S = 2 max|r| / (2^b - 1) as in the papers, or with `narrow_range` the
    more usual max|r| / (2^(b-1) - 1), which reaches max|r| exactly and leaves the lowest code
    unused. Unsigned, S = high / (2^b - 1).

    The scale is always positive. A range of one point c gets S = |c| (1 for c = 0) and so loses
    nothing, unless c is subnormal. A range too narrow for its distance from zero gets the least S
    at which r / S still rounds rightly. Raises ValueError for bits out of range, for bounds that
    are not finite or in the wrong order, and for a symmetric unsigned range that goes below zero.
    """
    check_bits(bits, signed)
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    low, high = (b.detach().to(torch.promote_types(b.dtype, torch.float32)) for b in (low, high))
    if low.shape != high.shape:
        raise ValueError(
            f"low and high must have one shape, not {tuple(low.shape)} and {tuple(high.shape)}"
        )
    if not (torch.isfinite(low).all() and torch.isfinite(high).all() and (low <= high).all()):
        raise ValueError("the clipping range must be finite with low <= high")
    if symmetric and not signed and (low < 0).any():
        raise ValueError(
            "a symmetric unsigned range cannot hold negative values: use signed or affine"
        )
    if bits == IDENTITY_BITS:
        return QuantParams(
            torch.ones_like(low),
            torch.zeros_like(low, dtype=torch.int32),
            bits,
            signed,
            axis,
            group_size,
        )

    q_min, q_max = quantization_range(bits, signed)
    levels = q_max - q_min  # 2^b - 1
    largest = torch.maximum(low.abs(), high.abs())
    if not symmetric:
        scale = high / levels - low / levels  # divided first: high - low may overflow
    elif signed:
        scale = largest / (q_max if narrow_range else levels / 2)
    else:
        scale = high / levels
    constant = low == high
    # |r / S| stays below 2^21: float32 has two bits left for the fraction, and Z fits into int32
    scale = torch.maximum(scale, largest * 2.0**-21)
    scale = torch.where(
        constant, torch.where(largest > 0, largest, torch.ones_like(largest)), scale
    )
    scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)
    if symmetric:
        zero_point = torch.zeros_like(scale)
    else:
        zero_point = q_min - torch.round(low / scale)
        # a constant is 1, 0 or -1 times its scale: Z only has to leave room for a -1
        zero_point = torch.where(constant, (low < 0) * float(max(0, q_min + 1)), zero_point)
    return QuantParams(scale, zero_point.to(torch.int32), bits, signed, axis, group_size)


def affine_range(low: Tensor, high: Tensor, bits: int, signed: bool = False) -> tuple[Tensor, ...]:
    """Scale and zero point of one grid over all channels' ranges, (), ().

    The range is stretched to hold zero. Where it does not, FQ-ViT's clip of the zero point
    leaves every value outside the grid; where it does, nothing changes.
    """
    q_min, q_max = quantization_range(bits, signed)
    low, high = low.min().clamp(max=0), high.max().clamp(min=0)
    scale = ((high - low) / (q_max - q_min)).clamp(min=torch.finfo(low.dtype).eps)
    return scale, (q_min - torch.round(low / scale)).clamp(q_min, q_max)


def quantize(x: Tensor, params: QuantParams, name: str = "tensor") -> Tensor:
    """Integers (int32, the shape of x) of a real tensor; at 32 bits x itself.

    Papers' Eq. 1 with the clamp of the survey's Eq. 5. Raises ValueError, naming the tensor, for
    NaN or infinity and where the scale does not fit the shape.
    """
    if params.bits == IDENTITY_BITS:
        return x
    _check_values(x, name)
    q_min, q_max = quantization_range(params.bits, params.signed)
    scale, zero_point = (
        _spread(params.scale, x, params, name),
        _spread(params.zero_point, x, params, name),
    )
    q = torch.round(x.to(scale.dtype) / scale) + zero_point
    return q.clamp(q_min, q_max).to(torch.int32)


def dequantize(q: Tensor, params: QuantParams, name: str = "tensor") -> Tensor:
    """Real values S (q - Z) of integers, in the scale's type (Eq. 2); at 32 bits q itself."""
    if params.bits == IDENTITY_BITS:
        return q
    return (q - _spread(params.zero_point, q, params, name)) * _spread(
        params.scale, q, params, name
    )


def fake_quantize(x: Tensor, params: QuantParams, name: str = "tensor") -> Tensor:
    """The round trip through the integers, in the type of x; at 32 bits x itself.

    Raises what `quantize` raises.
    """
    if params.bits == IDENTITY_BITS:
        return x
    return dequantize(quantize(x, params, name), params, name).to(x.dtype)


# Observers: (low, high) of calibration data, given as one tensor or as batches of it.


def min_max(
    batches: Tensor | Iterable[Tensor],
    *,
    axis: int | None = None,
    group_size: int | None = None,
    name: str = "tensor",
) -> Range:
    """Least and greatest value over all batches.

    Raises ValueError, naming the tensor, for no data, NaN or infinity.
    """
    low = high = None
    for batch_low, batch_high in _batch_ranges(batches, axis, group_size, name):
        low = batch_low if low is None else torch.minimum(low, batch_low)
        high = batch_high if high is None else torch.maximum(high, batch_high)
    return low, high


def moving_average(
    batches: Tensor | Iterable[Tensor],
    *,
    weight: float = 0.01,
    axis: int | None = None,
    group_size: int | None = None,
    name: str = "tensor",
) -> Range:
    """Exponential moving average of the batches' min and max.

    The first batch sets them, each later one counts `weight`.
    Raises ValueError as `min_max`, and for a weight outside (0, 1].
    """
    if not 0 < weight <= 1:
        raise ValueError(
            f"weight={weight} is out of range: the new batch counts more than 0 and at most 1"
        )
    low = high = None
    for batch_low, batch_high in _batch_ranges(batches, axis, group_size, name):
        low = batch_low if low is None else low + weight * (batch_low - low)
        high = batch_high if high is None else high + weight * (batch_high - high)
    return low, high


def percentile(
    batches: Tensor | Iterable[Tensor],
    *,
    fraction: float = 0.9999,
    axis: int | None = None,
    group_size: int | None = None,
    name: str = "tensor",
) -> Range:
    """The (1 - fraction) and fraction quantiles of all batches together, linearly interpolated.

    Raises ValueError as `min_max`, and for a fraction outside [0.5, 1]; 1 is `min_max`.
    """
    if not 0.5 <= fraction <= 1:
        raise ValueError(f"fraction={fraction} is out of range: it lies between 0.5 and 1")

    def quantiles(
        rows: Tensor,
    ) -> Range:  # (..., E): sorted, since torch.quantile stops at 16 M elements
        ordered = rows.sort(dim=-1).values
        last = ordered.shape[-1] - 1
        below = int(fraction * last)
        above, part = min(below + 1, last), fraction * last - below
        high = torch.lerp(ordered[..., below], ordered[..., above], part)
        low = torch.lerp(ordered[..., last - below], ordered[..., last - above], part)
        return low, high

    return _reduce(_together(batches, axis, group_size, name), quantiles)


def mse(
    batches: Tensor | Iterable[Tensor],
    bits: int,
    *,
    symmetric: bool,
    signed: bool,
    narrow_range: bool = False,
    num_candidates: int = 100,
    axis: int | None = None,
    group_size: int | None = None,
    name: str = "tensor",
) -> Range:
    """The shrunken min/max range of least mean squared error, of `num_candidates`.

    The candidates 1, 1 - 1/n, ..., 1/n shrink the range towards zero (affine: towards its point
    nearest to zero), and are tried many at a time. The whole range is the first candidate and wins
    ties, so the error is never above that of `min_max`. Raises ValueError as `min_max` and
    `choose_params`.
    """
    if num_candidates < 1:
        raise ValueError(f"num_candidates={num_candidates} is out of range: take at least 1")
    check_bits(bits, signed)

    def search(rows: Tensor) -> Range:  # (..., E)
        low, high = rows.amin(-1), rows.amax(-1)
        if bits == IDENTITY_BITS:
            return low, high
        whole = low, high
        if symmetric and signed:
            high = torch.maximum(low.abs(), high.abs())
            low = -high
        zero = torch.zeros_like(low)
        anchor = zero if symmetric else torch.minimum(torch.maximum(low, zero), high)
        ratios = (
            1 - torch.arange(num_candidates, device=rows.device, dtype=rows.dtype) / num_candidates
        )
        ratios = ratios.view(-1, *[1] * low.ndim)
        lows, highs = (
            anchor + ratios * (low - anchor),
            anchor + ratios * (high - anchor),
        )  # (K, ...)
        lows[0], highs[0] = whole  # as they were: no rounding, and a constant stays one
        errors = []
        step = max(
            1, 2**22 // rows.numel()
        )  # candidates at a time: keeps the temporaries within the cache's reach
        for some_low, some_high in zip(lows.split(step), highs.split(step), strict=True):
            params = choose_params(
                some_low[..., None],
                some_high[..., None],
                bits,
                symmetric=symmetric,
                signed=signed,
                narrow_range=narrow_range,
            )
            q_min, q_max = quantization_range(bits, signed)
            q = (torch.round(rows / params.scale) + params.zero_point).clamp_(
                q_min, q_max
            )  # (k, ..., E)
            errors.append(((q - params.zero_point) * params.scale - rows).square_().mean(-1))
        best = torch.cat(errors).argmin(0, keepdim=True)
        return lows.gather(0, best)[0], highs.gather(0, best)[0]

    return _reduce(_together(batches, axis, group_size, name), search)


def sqnr_db(x: Tensor, x_quantized: Tensor) -> float:
    """Signal to quantization noise in decibels, 10 log10(sum x^2 / sum (x - x')^2).

    Infinite where nothing was lost.
    """
    signal = x.double().square().sum()
    noise = (x.double() - x_quantized.double()).square().sum()
    return float("inf") if noise == 0 else float(10 * torch.log10(signal / noise))


# Shared by all of the above.


def _check_values(x: Tensor, name: str) -> None:
    if not x.is_floating_point():
        raise ValueError(f"{name}: real values are quantized, not {x.dtype}")
    if not torch.isfinite(x).all():
        raise ValueError(f"{name}: holds NaN or infinity, which have no quantized value")


def _spread(values: Tensor, x: Tensor, params: QuantParams, name: str) -> Tensor:
    """Repeat one value a channel or group so that it broadcasts over x."""
    values = values.to(x.device)
    if params.group_size is not None:
        groups = -(-x.shape[-1] // params.group_size) if x.ndim else 0
        if tuple(values.shape) != (*x.shape[:-1], groups):
            raise ValueError(
                f"{name}: {tuple(values.shape)} scales do not fit {tuple(x.shape)} "
                f"in groups of {params.group_size}"
            )
        return values.repeat_interleave(params.group_size, -1)[..., : x.shape[-1]]
    if params.axis is not None:
        _check_axis(x, params.axis, name)
        if tuple(values.shape) != (x.shape[params.axis],):
            raise ValueError(
                f"{name}: {tuple(values.shape)} scales do not fit {tuple(x.shape)} "
                f"along axis {params.axis}"
            )
        shape = [1] * x.ndim
        shape[params.axis] = -1
        return values.view(shape)
    if values.ndim:
        raise ValueError(f"{name}: {tuple(values.shape)} scales need an axis or a group_size")
    return values


def _check_axis(x: Tensor, axis: int, name: str) -> None:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{name}: axis {axis} is out of range for shape {tuple(x.shape)}")


def _rows(x: Tensor, axis: int | None, group_size: int | None, name: str) -> list[Tensor]:
    """Lay out x as (..., E) such that the E values that share a scale are the last axis."""
    if axis is not None and group_size is not None:
        raise ValueError("axis and group_size exclude each other: a group lies within its row")
    _check_values(x, name)
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    if x.numel() == 0:
        raise ValueError(f"{name}: is empty, there is no range to observe")
    if group_size is not None:
        if group_size < 1 or not x.ndim:
            raise ValueError(
                f"{name}: group_size={group_size} is out of range for shape {tuple(x.shape)}: "
                "take at least 1"
            )
        full = x.shape[-1] // group_size * group_size
        parts = [x[..., :full].unflatten(-1, (full // group_size, group_size)), x[..., None, full:]]
        return [part for part in parts if part.numel()]
    if axis is not None:
        _check_axis(x, axis, name)
        return [x.movedim(axis, 0).reshape(x.shape[axis], -1)]
    return [x.reshape(-1)]


def _each(
    batches: Tensor | Iterable[Tensor], axis: int | None, group_size: int | None, name: str
) -> Iterator[list[Tensor]]:
    empty = True
    for batch in [batches] if isinstance(batches, Tensor) else batches:
        empty = False
        yield _rows(batch, axis, group_size, name)
    if empty:
        raise ValueError(f"{name}: the calibration set is empty")


def _together(
    batches: Tensor | Iterable[Tensor], axis: int | None, group_size: int | None, name: str
) -> list[Tensor]:
    parts = list(zip(*_each(batches, axis, group_size, name), strict=True))
    return [torch.cat(part, dim=-1) for part in parts]


def _reduce(parts: list[Tensor], function: Callable[[Tensor], Range]) -> Range:
    lows, highs = zip(*(function(part) for part in parts), strict=True)
    if len(parts) == 1:
        return lows[0], highs[0]
    return torch.cat(lows, dim=-1), torch.cat(highs, dim=-1)


def _batch_ranges(
    batches: Tensor | Iterable[Tensor], axis: int | None, group_size: int | None, name: str
) -> Iterator[Range]:
    for parts in _each(batches, axis, group_size, name):
        yield _reduce(parts, lambda rows: (rows.amin(-1), rows.amax(-1)))
