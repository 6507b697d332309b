"""DiffQ: bits learned by gradient, with noise in the place of rounding.

Défossez, Adi, Synnaeve, Differentiable Model Compression via Pseudo Quantization Noise, TMLR 2022.
While training, every weight gets noise of about its quantization step, which depends smoothly on
the bits of its group; the loss carries the model's size in MB as a penalty. Then the bits are
rounded and the weights really quantized. An MB is 2^20 bytes.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from vitstudy import finetuning, models, narrow
from vitstudy.context import Context
from vitstudy.quantization.layers import copy_of_float_model, note_skipped
from vitstudy.quantization.packing import pack_tensors, unpack_tensors

LEAST_BITS, MOST_BITS = 1, 15  # of true quantization
NOISES = ("uniform", "gaussian", "none")

# -- the mathematics ------------------------------------------------------------------------------


def uniform_levels(weight: Tensor, bits: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
    """Levels 0..2^b - 1 (int32) over the whole tensor's range, its minimum and its maximum.

    bits: whole numbers, broadcastable to weight: (groups, 1) for weight (groups, size). A constant
    tensor has level 0 everywhere and comes back exactly. Raises ValueError for NaN or infinity.
    """
    if not torch.isfinite(weight).all():
        raise ValueError("the weights hold NaN or infinity, which have no level")
    low, high = weight.min(), weight.max()
    share = (weight - low) / torch.where(high > low, high - low, 1.0)
    return torch.round(share / (1 / _steps(weight, bits))).to(torch.int32), low, high


def from_levels(levels: Tensor, bits: Tensor | int, low: Tensor, high: Tensor) -> Tensor:
    """The real values l / (2^b - 1) (max - min) + min of levels."""
    return levels / _steps(low, bits) * (high - low) + low


def _steps(like: Tensor, bits: Tensor | int) -> Tensor:
    bits = torch.as_tensor(bits, device=like.device).to(like.dtype)
    return torch.exp2(bits) - 1


def add_noise(
    weight: Tensor, bits: Tensor, noise: str = "uniform", generator: torch.Generator | None = None
) -> Tensor:
    """weight + (max - min) / (2^b - 1) u: pseudo quantization noise (section 3.2).

    u is uniform on [-1/2, 1/2], which has rounding's variance, or "gaussian" with deviation 1/2,
    three times that variance, which the authors' code takes by default; "none" is the identity.
    Differentiable in the bits and, through the range, in the least and greatest weight.
    """
    if noise not in NOISES:
        raise ValueError(f"noise={noise!r} is unknown; valid: {', '.join(NOISES)}")
    if noise == "none":
        return weight
    draw = torch.rand if noise == "uniform" else torch.randn
    u = draw(weight.shape, generator=generator, dtype=weight.dtype, device=weight.device)
    u = u - 0.5 if noise == "uniform" else u / 2
    return weight + (weight.max() - weight.min()) / (torch.exp2(bits) - 1) * u


def bits_from_logits(
    logits: Tensor, min_bits: float, max_bits: float, parametrization: str = "bits"
) -> Tensor:
    """Bits between the bounds, by a sigmoid over the bits or over the logarithm of the noise."""
    share = torch.sigmoid(logits)
    if parametrization == "bits":
        return min_bits + (max_bits - min_bits) * share
    least, most = (math.log(1 / (2**bits - 1)) for bits in (max_bits, min_bits))
    return torch.log2(1 + torch.exp(-(share * least + (1 - share) * most)))


def logit_of_bits(bits: float, min_bits: float, max_bits: float) -> float:
    """The logit at which the parametrization "bits" gives `bits`."""
    share = (bits - min_bits) / (max_bits - min_bits)
    return math.log(share / (1 - share))


def true_bits(bits: Tensor) -> Tensor:
    """Whole bits for true quantization, 1 to 15 (int64)."""
    return bits.round().clamp(LEAST_BITS, MOST_BITS).long()


def grouped_size(bits: Tensor, group_size: int, min_bits: float) -> Tensor:
    """Size in bits of one tensor: its weights, its range, and a table of the groups' widths.

    bits: one a group, real (differentiable, but for the table) or whole. The range takes 2 * 32
    bits, the width of the table's entries 8.
    """
    widest = bits.detach().max().round()
    entry = torch.ceil(torch.log2(1 + widest - min_bits))
    return group_size * bits.sum() + 64 + 8 + entry * bits.numel()


def model_size_mb(
    bits: list[Tensor], group_size: int, min_bits: float, num_float32: int, num_float16: int = 0
) -> Tensor:
    """Size of a model in MB by the method's formula: tensors with bits a group, and all else."""
    size = sum(grouped_size(b, group_size, min_bits) for b in bits)
    return (size + 32 * num_float32 + 16 * num_float16) / (8 * 2**20)


def fixed_size_mb(counts: list[int], bits: int, num_float32: int, overhead_bits: int = 64) -> float:
    """Size in MB with one width for all; the overhead a tensor is its range, or LSQ's step (32)."""
    size = sum(bits * count + overhead_bits for count in counts) + 32 * num_float32
    return size / (8 * 2**20)


# -- the model ------------------------------------------------------------------------------------


class DiffQ(nn.Module):
    """A float model that trains under pseudo quantization noise and learns its groups' bits.

    Every parameter above `min_size_mb` is quantized, whatever its layer; smaller ones stay float.
    Groups are neighbours in memory, the last one is filled up. In training mode the weights carry
    fresh noise, in evaluation mode they are truly quantized. Train with
    loss + penalty * `size_mb()`; weight decay is not for `bit_logits`. They are kept divided by
    `bit_rate`, so under Adam, which moves a parameter by about the learning rate, the bits learn
    that many times faster than the weights: a short training needs 10 to 100.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        group_size: int = 8,
        min_bits: float = 2,
        max_bits: float = 15,
        initial_bits: float = 8,
        min_size_mb: float = 0.01,
        noise: str = "uniform",
        bit_rate: float = 1.0,
    ):
        super().__init__()
        if not LEAST_BITS <= min_bits < initial_bits < max_bits <= MOST_BITS:
            raise ValueError(
                f"bits are out of range: {LEAST_BITS} <= min_bits={min_bits} < "
                f"initial_bits={initial_bits} < max_bits={max_bits} <= {MOST_BITS} must hold"
            )
        if noise not in NOISES:
            raise ValueError(f"noise={noise!r} is unknown; valid: {', '.join(NOISES)}")
        if group_size < 1:
            raise ValueError(f"group_size={group_size} is out of range: take at least 1")
        training = model.training
        self.model = copy_of_float_model(model).train(training)
        self.group_size, self.min_bits, self.max_bits = group_size, min_bits, max_bits
        self.noise, self.bit_rate = noise, bit_rate
        self.names = [
            name
            for name, parameter in self.model.named_parameters()
            if parameter.numel() > min_size_mb * 2**20 / 4
        ]
        start = logit_of_bits(initial_bits, min_bits, max_bits) / bit_rate
        self.bit_logits = nn.ParameterList(
            torch.full((-(-self._weight(name).numel() // group_size),), start)
            for name in self.names
        )
        self.train(training)

    def _weight(self, name: str) -> Tensor:
        return self.model.get_parameter(name)

    def _groups(self, weight: Tensor) -> Tensor:
        flat = weight.reshape(-1)
        if short := -flat.numel() % self.group_size:
            flat = torch.cat([flat, flat[-1:].expand(short)])
        return flat.view(-1, self.group_size)

    def bits(self) -> list[Tensor]:
        """The real-valued bits of every group, (groups,) a tensor."""
        return [
            bits_from_logits(logits * self.bit_rate, self.min_bits, self.max_bits)
            for logits in self.bit_logits
        ]

    def size_mb(self) -> Tensor:
        """The size by the method's formula at the present bits, differentiable in them."""
        return model_size_mb(self.bits(), self.group_size, self.min_bits, self.num_float)

    def true_size_mb(self) -> float:
        """The size by the formula once the bits are rounded."""
        bits = [true_bits(b) for b in self.bits()]
        return float(model_size_mb(bits, self.group_size, self.min_bits, self.num_float))

    @property
    def num_float(self) -> int:
        """Parameters that are not quantized."""
        quantized = set(self.names)
        left = (p.numel() for n, p in self.model.named_parameters() if n not in quantized)
        return sum(left)

    def left_in_float(self) -> list[tuple[str, str]]:
        """The parameters that are not quantized, with the reason."""
        quantized = set(self.names)
        return [
            (name, f"{parameter.numel()} values: too small to be worth it, left in float")
            for name, parameter in self.model.named_parameters()
            if name not in quantized
        ]

    def forward(self, x: Tensor) -> Tensor:
        weights = {}
        for name, bits in zip(self.names, self.bits(), strict=True):
            weight = self._weight(name)
            groups = self._groups(weight)
            if self.training:
                groups = add_noise(groups, bits[:, None], self.noise)
            elif self.noise != "none":
                whole = true_bits(bits)[:, None]
                levels, low, high = uniform_levels(groups, whole)
                groups = from_levels(levels, whole, low, high)
            weights[name] = groups.view(-1)[: weight.numel()].view(weight.shape)
        return functional_call(self.model, weights, (x,))

    @torch.no_grad()
    def quantized(self) -> nn.Module:
        """A plain model whose weights are truly quantized, with the logits of evaluation mode."""
        model = deepcopy(self.model).eval()
        model.diffq = {}
        for name, bits in zip(self.names, self.bits(), strict=True):
            weight, whole = model.get_parameter(name), true_bits(bits)
            levels, low, high = uniform_levels(self._groups(weight), whole[:, None])
            model.diffq[name] = (levels, whole, torch.stack([low, high]))
            weight.copy_(_restore(model.diffq[name], weight.shape))
        model.diffq_min_bits, model.quantized_by = int(self.min_bits), "DiffQ"
        return model


def _restore(quantized: tuple[Tensor, Tensor, Tensor], shape: torch.Size) -> Tensor:
    levels, bits, (low, high) = quantized
    return from_levels(levels, bits[:, None], low, high).view(-1)[: shape.numel()].view(shape)


# -- its file -------------------------------------------------------------------------------------


def pack(model: nn.Module) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a model that `DiffQ.quantized` made, packed, and what `unpack` needs."""
    tensors, widths = dict(model.state_dict()), {}
    for name, (levels, bits, bounds) in model.diffq.items():
        tensors[name], tensors[f"{name}.range"] = levels, bounds
        widths[name] = (bits, 0)
    packed, layout = pack_tensors(tensors, widths, lowest_bits=model.diffq_min_bits)
    return packed, {**models.described(model), "packed": layout, "min_bits": model.diffq_min_bits}


def unpack(tensors: dict[str, Tensor], description: dict) -> nn.Module:
    """The model that `pack` took apart, with the same logits to the bit.

    Where the tensors and the description do not make one, `models.load` says so in one line.
    """
    tensors = unpack_tensors(tensors, description["packed"])
    model = models.skeleton(description)
    model.diffq = {}
    for name in description["packed"]:
        bits, bounds = tensors.pop(f"{name}.bits"), tensors.pop(f"{name}.range")
        model.diffq[name] = (tensors[name], bits, bounds)
        tensors[name] = _restore(model.diffq[name], model.get_parameter(name).shape)
    model.load_state_dict(tensors)
    model.diffq_min_bits, model.quantized_by = description["min_bits"], "DiffQ"
    return model.eval()


def mean_bits(model: nn.Module) -> float:
    """Bits a quantized weight of a model that `DiffQ.quantized` made, on average."""
    widths = torch.cat([bits for _, bits, _ in model.diffq.values()])
    return round(float(widths.double().mean()), 4)


# -- the rows of the study ------------------------------------------------------------------------

LOGIT_RANGE = 10.0
"""How far a logit of the bits can go in one training: 8 bits are in the middle, 5 from the ends."""


def compress(context: Context) -> nn.Module:
    """Train under noise with the size penalty, then quantize truly.

    With the option `width` a narrower network from scratch, as the papers' file of 2 MB must be,
    else the baseline. The penalty is on the size's share of the float model's size, so that one
    number serves every profile; the paper's is on MB. The bits learn fast enough to cross their
    range in the training, however long it is.
    """
    options = context.options
    if "width" in options:
        model = narrow.build(context, narrow.share_of_width(context))
        # Noise drawn in the forward pass is not known to compile.
        recipe = replace(context.profile.recipe(context.data.spec.name), compile=False)
    else:
        model, recipe = context.model(), finetuning.recipe(context)
    # Vectors (biases, norms' gains) stay float, as they do in the paper's networks.
    widest = max(len(p) for n, p in model.named_parameters() if p.ndim == 1)
    wrapped = DiffQ(
        model.train(),
        group_size=options["group_size"],
        noise=options["noise"],
        min_size_mb=4 * widest / 2**20,
        bit_rate=finetuning.rate_to_travel(LOGIT_RANGE, recipe),
    )
    for name in wrapped.names:
        context.touched(name)
    note_skipped(context, wrapped.model, wrapped.left_in_float())
    whole = sum(parameter.numel() for parameter in wrapped.model.parameters()) * 4 / 2**20

    def loss(runner: nn.Module, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        fitting = F.cross_entropy(runner(images), labels, label_smoothing=recipe.label_smoothing)
        return fitting + options["penalty"] * wrapped.size_mb() / whole

    context.fit(wrapped, recipe, loss)
    return wrapped.cpu().quantized()


def analyse(context: Context, model: nn.Module) -> dict[str, np.ndarray]:
    """Groups of each width in each quantized tensor, and the model's size told twice.

    `tensors` (T,), `groups` (T, 15) counts for 1 to 15 bits; `formula_bytes`, by the method's
    formula, and `payload_bytes`, of the tensors that the file holds, its header apart.
    """
    names = [name for name, _ in model.named_parameters() if name in model.diffq]
    left = sum(p.numel() for name, p in model.named_parameters() if name not in model.diffq)
    bits = [model.diffq[name][1] for name in names]
    counts = [torch.bincount(each, minlength=MOST_BITS + 1)[1:] for each in bits]
    size = model_size_mb(bits, context.options["group_size"], model.diffq_min_bits, left)
    return {
        "tensors": np.array(names),
        "groups": torch.stack(counts).numpy(),
        "formula_bytes": np.array(round(float(size) * 2**20)),
        "payload_bytes": np.array(
            sum(each.nbytes for each in pack(model)[0].values())
            - sum(each.nbytes for each in model.buffers())
        ),
    }
