"""The rows of the papers' Tables 1 and 2, in their order, one entry each.

Published numbers are those that papers A, B and C print alike: accuracy in percent, speeds in
iterations per second, size in MB. None stands where they print "-".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vitstudy.errors import unknown


@dataclass(frozen=True)
class Published:
    accuracy: float
    gpu_speed: float | None
    cpu_speed: float | None
    size: float | None


@dataclass(frozen=True)
class Method:
    key: str
    title: str
    """The Model column, as the papers print it, less the reference."""
    method: str
    """The Method column."""
    reference: str
    published: tuple[Published, Published]
    """CIFAR-10 (Table 1) and CIFAR-100 (Table 2)."""
    module: str = ""
    """Where `compress(context)` is; empty while the study does not have the method."""
    packer: str = "vitstudy.models"
    """Where `pack` and `unpack` of its models are."""
    options: dict = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    """The methods whose artifacts it starts from; vanilla's predictions are at hand for all."""
    weight_bits: float | None = 32
    activation_bits: float | None = 32
    simulated: bool = False
    """Whether the artifact imitates in float the arithmetic that it is named for."""
    device: str | None = None
    """Where its models must run; None for wherever the machine runs best."""
    note: str = ""


P = Published
METHODS = (
    Method(
        "vanilla",
        "Vanilla ViT",
        "-",
        "Dosovitskiy et al., An Image Is Worth 16x16 Words, 2021",
        (P(98.94, 4.48, 0.050, 327), P(92.87, 4.34, 0.093, 327)),
        module="vitstudy.baseline",
    ),
    Method(
        "dynamic",
        "Dynamic Quantization",
        "Quantization (PTQ)",
        "PyTorch's dynamic quantization of linear layers",
        (P(98.73, None, 0.062, 84), P(90.87, None, 0.122, 84)),
        module="vitstudy.quantization.dynamic",
        packer="vitstudy.quantization.dynamic",
        parents=("vanilla",),
        weight_bits=8,
        activation_bits=8,
        device="cpu",
        note="W8 per tensor; activations quantized at run time to 7 of 8 bits (reduced range)",
    ),
    Method(
        "fq-vit",
        "FQ-ViT",
        "Quantization (PTQ)",
        "Lin et al., FQ-ViT, 2021",
        (P(97.31, None, None, None), P(84.87, None, None, None)),
    ),
    Method(
        "lsq-w4",
        "DIFFQ with LSQ",
        "Quantization (QAT)",
        "Esser et al., Learned Step Size Quantization, 2019",
        (P(93.37, 2.10, None, 41), P(76.08, 2.10, None, 41)),
    ),
    Method(
        "diffq",
        "DIFFQ with diffq",
        "Quantization (QAT)",
        "Défossez et al., Differentiable Model Compression via Pseudo Quantization Noise, 2021",
        (P(60.29, 12.20, None, 2), P(41.02, 12.00, None, 2)),
    ),
    Method(
        "deit-base",
        "DeiT base",
        "Knowledge Distillation",
        "Touvron et al., Training Data-Efficient Image Transformers, 2021",
        (P(98.47, 7.04, 0.096, 327), P(87.35, 6.97, 0.149, 327)),
    ),
    Method(
        "deit-tiny",
        "DeiT tiny",
        "Knowledge Distillation",
        "Touvron et al., Training Data-Efficient Image Transformers, 2021",
        (P(95.43, 16.78, None, 21), P(75.90, 16.16, None, 21)),
    ),
    Method(
        "vtp-r0.1",
        "ViT-Pruning(r=0.1)",
        "Pruning",
        "Zhu et al., Visual Transformer Pruning, 2021",
        (P(88.36, 4.86, None, 301), P(74.46, 4.69, None, 302)),
    ),
    Method(
        "vtp-r0.2",
        "ViT-Pruning(r=0.2)",
        "Pruning",
        "Zhu et al., Visual Transformer Pruning, 2021",
        (P(80.56, 5.54, None, 254), P(64.27, 5.19, None, 272)),
    ),
    Method(
        "nystrom-m24",
        "ViT-Nyströmformer(m=24)",
        "Low-rank Approximation",
        "Xiong et al., Nyströmformer, 2021",
        (P(65.91, 4.67, None, 327), P(38.51, 4.77, None, 327)),
    ),
    Method(
        "nystrom-m32",
        "ViT-Nyströmformer(m=32)",
        "Low-rank Approximation",
        "Xiong et al., Nyströmformer, 2021",
        (P(75.94, 4.57, None, 327), P(50.31, 4.65, None, 327)),
    ),
    Method(
        "nystrom-m64",
        "ViT-Nyströmformer(m=64)",
        "Low-rank Approximation",
        "Xiong et al., Nyströmformer, 2021",
        (P(91.70, 4.38, None, 327), P(74.01, 4.46, None, 327)),
    ),
    Method(
        "deit-base+dynamic",
        "DeiT base + Dynamic Quantization",
        "Knowledge Distillation + PTQ",
        "Touvron et al., 2021, and PyTorch's dynamic quantization",
        (P(96.75, None, 0.117, 84), P(82.61, None, 0.196, 84)),
    ),
)


def available() -> tuple[Method, ...]:
    """The rows that the study can measure."""
    return tuple(method for method in METHODS if method.module)


def get(key: str) -> Method:
    """The method `key`; raises UserError, naming the valid ones, where the study has none."""
    for method in available():
        if method.key == key:
            return method
    raise unknown("method", key, [method.key for method in available()])
