"""The settings of the quantizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vitstudy.configs import Config, FineTuned, optional


@dataclass(frozen=True, kw_only=True)
class Dynamic(Config):
    """PyTorch's dynamic quantization, which has no settings."""

    module = "vitstudy.quantization.dynamic"


@dataclass(frozen=True, kw_only=True)
class FQViT(Config):
    """FQ-ViT with either of its remedies or both; with neither it is min/max at the same bits.

    bits: of weights and activations. attention_bits: of attention maps. calibration_images: how
    many of the calibration split set the grids. calibration_draws: how many random sets of each
    size the analysis calibrates on besides.
    """

    module = "vitstudy.quantization.fq_vit"
    bits: int
    attention_bits: int
    power_of_two: bool = True
    log_int_softmax: bool = True
    calibration_images: int = 1_024
    calibration_draws: int | None = optional()


@dataclass(frozen=True, kw_only=True)
class LSQ(FineTuned):
    """Learned step sizes; with `steps` 0 plain rounding, the control.

    first_last_bits: of the first and the last layer, None for as many as the others have. start:
    where the steps start (`lsq.initial_step`). step_range: how far a step can go in the training,
    as a share of its first value.
    """

    module = "vitstudy.quantization.lsq"
    of_training: ClassVar[tuple[str, ...]] = ("rate", "step_range")
    weight_bits: int
    activation_bits: int = 32
    first_last_bits: int | None = None
    start: Literal["mean", "mse", "max"] = "mse"
    step_range: float = 0.2


@dataclass(frozen=True, kw_only=True)
class PseudoNoise(Config):
    """What DiffQ trains under: noise for rounding, and a `penalty` on the size's share of float's.

    group_size: weights that share a width.
    """

    module = "vitstudy.quantization.diffq"
    penalty: float = 1.0
    noise: Literal["uniform", "gaussian"] = "uniform"
    group_size: int = 8


@dataclass(frozen=True, kw_only=True)
class DiffQ(FineTuned, PseudoNoise):
    """DiffQ from the trained baseline."""

    module = "vitstudy.quantization.diffq"


@dataclass(frozen=True, kw_only=True)
class NarrowDiffQ(PseudoNoise):
    """DiffQ from scratch, of a share `width` of the profile's width."""

    width: float


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime(Config):
    """ONNX Runtime with weights of 8 bits, or of 32, which is no quantization."""

    module = "vitstudy.quantization.onnx_runtime"
    weight_bits: Literal[8, 32]


@dataclass(frozen=True, kw_only=True)
class OnnxFourBits(Config):
    """LSQ's four bits in ONNX Runtime's kernels, with activations of 8 bits or in float."""

    module = "vitstudy.quantization.onnx_four_bits"
    activation_bits: Literal[8, 32]


@dataclass(frozen=True, kw_only=True)
class TorchaoInt8(Config):
    """torchao's dynamic int8, which has no settings."""

    module = "vitstudy.quantization.torchao_int8"
