"""LSQ: step sizes learned together with the weights.

Esser et al., Learned Step Size Quantization, ICLR 2020. The papers' row was made with the DiffQ
authors' tools, whose LSQ quantizes weights only: `prepare(model, 4)`. LSQ's own paper quantizes
activations too and keeps the first and last layer at 8 bits:
`prepare(model, 4, 4, first_last_bits=8, images=batch)`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitstudy import finetuning
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.packing import Codes, pack_model, unpack_model
from vitstudy.quantization.configs import LSQ
from vitstudy.quantization.layers import (
    NEVER_CALLED,
    Quantized,
    Skipped,
    attentions,
    calibration_images,
    copy_of_float_model,
    layers_left,
    note_skipped,
    replace_layers,
)
from vitstudy.quantization.uniform import IDENTITY_BITS, check_bits, quantization_range

# -- the mathematics ------------------------------------------------------------------------------


class _RoundToStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, step, q_min, q_max, gradient_scale):
        v = x / step
        codes = v.clamp(q_min, q_max).round_()
        inside = (v > q_min) & (v < q_max)
        ctx.save_for_backward(inside, torch.addcmul(codes, v, inside.to(v.dtype), value=-1))
        ctx.gradient_scale, ctx.step_shape = gradient_scale, step.shape
        return codes * step

    @staticmethod
    def backward(ctx, gradient):
        inside, slope = ctx.saved_tensors
        by_step = (gradient * slope).sum_to_size(ctx.step_shape) * ctx.gradient_scale
        return gradient * inside, by_step, None, None, None


def learned_step(
    x: Tensor,
    step_size: Tensor,
    bits: int,
    signed: bool,
    gradient_scale: float = 1.0,
    *,
    symmetric: bool = False,
) -> Tensor:
    """round(clip(x / s, -Q_N, Q_P)) s with the paper's gradients (Eq. 1-3 and 5); at 32 bits x.

    step_size: positive, () or broadcastable to x. The gradient by x is 1 strictly inside the bounds
    and 0 at and beyond them; by s it is round(v) - v inside, -Q_N or Q_P at and beyond the bounds,
    times `gradient_scale`. `symmetric` drops the lowest code. Raises ValueError for bits.
    """
    check_bits(bits, signed)
    if bits == IDENTITY_BITS:
        return x
    q_min, q_max = quantization_range(bits, signed)
    q_min = -q_max if symmetric and signed else q_min
    if x.dtype in (torch.bfloat16, torch.float16):  # under autocast; too coarse to tell codes apart
        x = x.float()
    return _RoundToStep.apply(x, step_size, q_min, q_max, gradient_scale)


def step_gradient_scale(count: int, bits: int, signed: bool) -> float:
    """1 / sqrt(N Q_P): N weights of the layer, or features of one image (section 2.2).

    Some codes count the whole batch as N; the paper counts features.
    """
    return 1 / math.sqrt(count * quantization_range(bits, signed)[1])


STARTS = ("mean", "max", "mse")
SHRINKINGS = 100


def initial_step(
    x: Tensor, bits: int, signed: bool, *, start: str = "mean", axis: int | None = None
) -> Tensor:
    """2 mean|x| / sqrt(Q_P) of a tensor, or along an axis (section 2.1); positive for zeros too.

    start="max" gives the step at which the largest value ends at the highest code instead, as in
    the survey's papers' Eq. 3: untrained, that is plain rounding. "mse" shrinks that step, by
    hundredths, to the one of least squared error: a short training does not get from the paper's
    start, which clips much of a trained weight, to a good one. Raises ValueError for `start`.
    """
    if start not in STARTS:
        raise ValueError(f"start={start!r} is unknown; valid: {', '.join(map(repr, STARTS))}")
    q_min, q_max = quantization_range(bits, signed)
    rows = x.reshape(1, -1) if axis is None else x.movedim(axis, 0).flatten(1)
    if start == "mean":
        step = 2 * rows.abs().mean(1) / math.sqrt(q_max)
    else:
        step = rows.abs().amax(1) / ((q_max - q_min) / 2 if signed else q_max)
    step = step.clamp(min=1e-30)
    if start == "mse":
        step = _least_squares(rows, step, q_min, q_max)
    return step[0] if axis is None else step


def _least_squares(rows: Tensor, widest: Tensor, q_min: int, q_max: int) -> Tensor:
    """The share of each row's widest step, in hundredths, at which rounding it errs least."""
    best, least = widest, torch.full_like(widest, math.inf)
    for share in range(SHRINKINGS, 0, -1):
        step = widest * (share / SHRINKINGS)
        v = rows / step[:, None]
        error = (v.round().clamp_(q_min, q_max) - v).square_().sum(1) * step.square()
        best = torch.where(error < least, step, best)
        least = torch.minimum(error, least)
    return best


def wants_sign(x: Tensor, bits: int) -> bool:
    """Whether activations lose less on the signed grid than on the unsigned one, at first steps.

    The paper's networks have ReLU, so its activations are unsigned. Those of a ViT are not, but
    with few bits what GELU leaves below zero is not worth half of the codes.
    """
    rounded = (learned_step(x, initial_step(x, bits, s), bits, s) for s in (False, True))
    unsigned, signed = ((y - x).square().sum() for y in rounded)
    return bool(signed < unsigned)


# -- the layers -----------------------------------------------------------------------------------


class _LsqLayer(Quantized):
    """Weights, and from `set_input_step` on inputs, rounded to learned steps.

    A step is kept as the value it started from and a learned ratio to that: Adam and its kin move a
    parameter by about the learning rate whatever its gradient's scale, and steps are small numbers.
    """

    def take(self, layer: nn.Module, weight_bits: int, input_bits: int, step: Tensor) -> None:
        self.weight, self.bias = layer.weight, layer.bias
        self.weight_bits, self.input_bits = weight_bits, input_bits
        self.register_buffer("weight_start", step)
        self.weight_ratio = nn.Parameter(torch.ones_like(step))
        if input_bits != IDENTITY_BITS:
            self.register_buffer("input_start", torch.ones_like(step))
            self.input_ratio = nn.Parameter(torch.ones_like(step))
            self.register_buffer("input_signed", torch.tensor(True))
            self.input_is_signed: bool | None = None  # the buffer's value, None before it is set
        self.train(layer.training)

    def set_input_step(self, x: Tensor, start: str, name: str) -> None:
        if not torch.isfinite(x).all():
            raise ValueError(f"{name}: its input holds NaN or infinity in calibration")
        self.input_is_signed = signed = wants_sign(x, self.input_bits)
        self.input_signed.fill_(signed)
        self.input_start.copy_(initial_step(x, self.input_bits, signed, start=start))

    @property
    def weight_step(self) -> Tensor:
        # an optimizer may carry the ratio through zero: its size is what counts
        return self.weight_start * self.weight_ratio.abs()

    @property
    def input_step(self) -> Tensor:
        return self.input_start * self.input_ratio.abs()

    def rounded_weight(self) -> Tensor:
        if self.weight_bits == IDENTITY_BITS:
            return self.weight
        scale = step_gradient_scale(self.weight.numel(), self.weight_bits, signed=True)
        return learned_step(self.weight, self.weight_step, self.weight_bits, True, scale)

    def rounded_input(self, x: Tensor) -> Tensor:
        if self.input_bits == IDENTITY_BITS or self.input_is_signed is None:
            return x
        scale = step_gradient_scale(x[0].numel(), self.input_bits, self.input_is_signed)
        return learned_step(x, self.input_step, self.input_bits, self.input_is_signed, scale)

    def codes(self) -> Tensor:
        """The integers of the weights (int32)."""
        q_min, q_max = quantization_range(self.weight_bits, signed=True)
        v = self.weight.detach() / self.weight_step.detach()
        return v.clamp(q_min, q_max).round().to(torch.int32)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if f"{prefix}input_signed" in state_dict:
            self.input_is_signed = bool(state_dict[f"{prefix}input_signed"])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, W{self.weight_bits}A{self.input_bits} learned steps"


class LsqLinear(_LsqLayer, nn.Linear):
    def forward(self, x: Tensor) -> Tensor:  # (..., in) -> (..., out)
        return F.linear(self.rounded_input(x), self.rounded_weight(), self.bias)


class LsqConv2d(_LsqLayer, nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return self._conv_forward(self.rounded_input(x), self.rounded_weight(), self.bias)


# -- the whole model ------------------------------------------------------------------------------


def prepare(
    model: nn.Module,
    weight_bits: int,
    activation_bits: int = IDENTITY_BITS,
    *,
    first_last_bits: int | None = None,
    images: Tensor | None = None,
    start: str = "mean",
) -> tuple[nn.Module, Skipped]:
    """A copy of `model` whose linear and convolutional layers learn their steps, to be fine-tuned.

    Also gives the layers left in float. images: the first batch (B, C, H, W), needed where
    activations are quantized; their steps start from it. first_last_bits: of the first and the last
    layer's weights and inputs. start: see `initial_step`; left untrained, "max" is the control by
    plain rounding. At 32 bits nothing is replaced. With activations quantized, the products inside
    attention stay in float, for they have no weights. Raises ValueError for bits, for a missing
    batch, for NaN, naming the layer, and for a model already quantized; UserError for a layer that
    `images` never reach, since what reads its weight directly would go past its steps.
    """
    first_last = {False: (weight_bits, activation_bits), True: (weight_bits, activation_bits)}
    if first_last_bits is not None:
        kept = [b if b == IDENTITY_BITS else first_last_bits for b in first_last[True]]
        first_last[True] = tuple(kept)
    for bits in (*first_last[False], *first_last[True]):
        check_bits(bits, signed=True)
    if activation_bits != IDENTITY_BITS and (images is None or not len(images)):
        raise ValueError("the calibration set is empty: the steps of activations start from images")
    training = model.training
    model = copy_of_float_model(model)
    names = [name for name, module in model.named_modules() if _can_take(module)]
    ends = {names[0], names[-1]} if names else set()

    def convert(name: str, module: nn.Module) -> nn.Module | None:
        widths = first_last[name in ends]
        return _convert(module, *widths, name, start) if _can_take(module) else None

    if (weight_bits, activation_bits) != (IDENTITY_BITS, IDENTITY_BITS):
        replace_layers(model, convert)
    if activation_bits != IDENTITY_BITS:
        _start_inputs(model, images, start)
    model.lsq = {
        name: [module.weight_bits, module.input_bits]
        for name, module in model.named_modules()
        if isinstance(module, _LsqLayer)
    }
    skipped = layers_left(model, (_LsqLayer,))
    skipped += [
        (name, "a parameter of the model itself: left in float")
        for name, _ in model.named_parameters(recurse=False)
    ]
    if activation_bits != IDENTITY_BITS:
        skipped += [
            (name, f"{type(module).__name__}: its products have no weights, left in float")
            for name, module in attentions(model).items()
        ]
    return model.train(training), skipped


def _can_take(module: nn.Module) -> bool:
    return type(module) in (nn.Linear, nn.Conv2d)


def _convert(
    layer: nn.Module, weight_bits: int, input_bits: int, name: str, start: str = "mean"
) -> nn.Module:
    weight = layer.weight.detach()
    if not torch.isfinite(weight).all():
        raise ValueError(f"{name}.weight: holds NaN or infinity")
    if weight_bits == IDENTITY_BITS:
        step = weight.new_ones(())
    else:
        step = initial_step(weight, weight_bits, signed=True, start=start)
    if type(layer) is nn.Linear:
        new = LsqLinear(layer.in_features, layer.out_features, layer.bias is not None)
    else:
        new = LsqConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
        )
    new.take(layer, weight_bits, input_bits, step)
    return new


@torch.no_grad()
def _start_inputs(model: nn.Module, images: Tensor, start: str) -> None:
    """One pass: every layer takes its step from what reaches it, and then uses it.

    Raises UserError for a layer that nothing reaches.
    """

    def look(layer: _LsqLayer, inputs: tuple[Tensor]) -> None:
        layer.set_input_step(inputs[0], start, names[layer])

    names = {m: name for name, m in model.named_modules() if isinstance(m, _LsqLayer)}
    starting = [layer for layer in names if layer.input_bits < 32]
    hooks = [layer.register_forward_pre_hook(look) for layer in starting]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in starting:
        if layer.input_is_signed is None:
            raise UserError(f"{names[layer]} {NEVER_CALLED}")


@torch.no_grad()
def set_step_rate(model: nn.Module, rate: float) -> None:
    """Let every step learn `rate` times as fast as the weights, in place; nothing else changes."""
    rate = 2.0 ** round(math.log2(rate))  # a power of two moves no step
    for layer in model.modules():
        if isinstance(layer, _LsqLayer):
            layer.weight_start *= rate
            layer.weight_ratio /= rate
            if layer.input_bits != IDENTITY_BITS:
                layer.input_start *= rate
                layer.input_ratio /= rate


# -- its file -------------------------------------------------------------------------------------


def pack(model: nn.Module) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a model that `prepare` made, weights packed, and what `unpack` needs."""
    codes = {}
    for name, module in model.named_modules():
        if isinstance(module, _LsqLayer) and module.weight_bits != IDENTITY_BITS:
            q_min = quantization_range(module.weight_bits, signed=True)[0]
            codes[f"{name}.weight"] = Codes(module.codes(), module.weight_bits, q_min)
    return pack_model(model, codes, lsq=model.lsq)


def unpack(tensors: dict[str, Tensor], description: dict) -> nn.Module:
    """The model that `pack` took apart, with the same logits to the bit: its weights are integers
    times their step, which round to themselves.

    Where the tensors and the description do not make one, `models.load` says so in one line.
    """
    widths = description["lsq"]

    def layer(name: str, module: nn.Module) -> nn.Module | None:
        return _convert(module, *widths[name], name) if name in widths else None

    def convert(model: nn.Module) -> None:
        replace_layers(model, layer)
        model.lsq = widths

    def restore(model: nn.Module, name: str, tensors: dict[str, Tensor]) -> Tensor:
        step = tensors[f"{name}_start"] * tensors[f"{name}_ratio"].abs()
        return tensors[name] * step

    return unpack_model(tensors, description, convert, restore)


# -- the rows of the study ------------------------------------------------------------------------

FIRST_BATCH = 64
"""Calibration images that the steps of activations start from."""


def compress(context: Context[LSQ]) -> nn.Module:
    """Fine-tune the baseline with learned steps; with `steps` 0 it is only rounded, a control.

    `step_range` is how far a step can go in the training, as a share of its first value.
    """
    config = context.config
    model, skipped = prepare(
        context.model(),
        config.weight_bits,
        config.activation_bits,
        first_last_bits=config.first_last_bits,
        images=calibration_images(context, FIRST_BATCH),
        start=config.start,
    )
    for name in model.lsq:
        context.touched(name)
    note_skipped(context, model, skipped)
    if config.steps:
        recipe = finetuning.recipe(context)
        set_step_rate(model, finetuning.rate_to_travel(config.step_range, recipe))
        context.fit(model, recipe)
    return model.cpu()


def analyse(context: Context[LSQ], model: nn.Module) -> dict[str, np.ndarray]:
    """Of each quantized layer, in the model's order, what its weights' step has come to; all (L,).

    `layers`, the names; `step`, over the step that it started from; `clipped`, the share of the
    weights at the outermost codes.
    """
    dense = dict(context.model().named_modules())
    found = {"layers": [], "step": [], "clipped": []}
    for name, layer in model.named_modules():
        if name in model.lsq:
            width, weight = layer.weight_bits, dense[name].weight.detach()
            start = initial_step(weight, width, signed=True, start=context.config.start)
            codes = layer.codes()
            outermost = sum(codes == end for end in quantization_range(width, signed=True))
            found["layers"].append(name)
            found["step"].append(float(layer.weight_step.detach() / start))
            found["clipped"].append(float(outermost.float().mean()))
    return {name: np.array(values) for name, values in found.items()}
