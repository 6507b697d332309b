"""The rows of the papers' Tables 1 and 2, in their order, one entry each; then what the study adds.

`VARIANTS` are other settings of a row and its controls: what trains as long, or has as many bits
or bytes, without the method. Published numbers are those that papers A, B and C print alike:
accuracy in percent, speeds in iterations per second, size in MB. None stands where they print "-".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vitstudy.errors import unknown


@dataclass(frozen=True)
class Published:
    accuracy: float | None
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
    published: tuple[Published, Published] | None = None
    """CIFAR-10 (Table 1) and CIFAR-100 (Table 2); None where the papers have no such row."""
    beneath: str = ""
    """The papers' row that it is a variant or a control of; empty for the papers' own rows."""
    module: str = ""
    """Where `compress(context)` is; empty while the study does not have the method."""
    packer: str = "vitstudy.models"
    """Where `pack` and `unpack` of its models are."""
    options: dict = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    """The methods whose artifacts it starts from; vanilla's predictions are at hand for all."""
    parents_of_pretrained: tuple[str, ...] | None = None
    """The same in a profile that starts from pretrained weights, where it differs there."""
    reads: tuple[str, ...] = ()
    """What of the profile it depends on besides its architecture, recipe, limit and threads."""
    weight_bits: float | None = 32
    """None where they are learned: the module's `mean_bits(model)` then counts them."""
    activation_bits: float | None = 32
    simulated: bool = False
    """Whether the artifact imitates in float the arithmetic that it is named for."""
    device: str | None = None
    """Where its models must run; None for wherever the machine runs best."""
    note: str = ""


# What is fine-tuned from the baseline, and the control that only goes on: shares of the profile's
# steps and learning rates.
FINE_TUNING = {"steps": 0.1, "rate": 0.03}
SMALL = {"width": 0.25}  # ViT-B to DeiT-Ti, which at three bits a weight is a file of 2 MB

_LSQ = dict(
    module="vitstudy.quantization.lsq",
    packer="vitstudy.quantization.lsq",
    parents=("vanilla",),
    simulated=True,
)
_DIFFQ = dict(
    module="vitstudy.quantization.diffq",
    packer="vitstudy.quantization.diffq",
    weight_bits=None,
    simulated=True,
)
_PENALTY = {"penalty": 1.0, "noise": "uniform", "group_size": 8}


def _lsq_bits(weight: int, activation: int = 32, ends: int | None = None) -> dict:
    """Bits of weights and activations, and of both in the first and the last layer."""
    bits = {"weight_bits": weight, "activation_bits": activation}
    options = {**bits, "first_last_bits": ends, "start": "mean", "step_range": 0.2, **FINE_TUNING}
    return {**bits, "options": options}


_HINTON = "Hinton et al., Distilling the Knowledge in a Neural Network, 2015"
_TOUVRON = "Touvron et al., Training Data-Efficient Image Transformers, 2021"
_DEIT = dict(
    module="vitstudy.distillation.deit",
    parents=("teacher",),
    parents_of_pretrained=(),  # the papers' rows fine-tune what others distilled
    reads=("distilled",),
)


def _deit(target: str = "hard", *, token: bool = True, again: bool = False, width: float = 1.0):
    """What each head learns, with DeiT's equal weights for both, and the share of the width."""
    return {"target": target, "weight": 0.5, "token": token, "again": again, "width": width}


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
        module="vitstudy.quantization.fq_vit",
        packer="vitstudy.quantization.fq_vit",
        options={
            **{"bits": 8, "attention_bits": 4, "power_of_two": True, "log_int_softmax": True},
            "calibration_images": 1_024,
        },
        parents=("vanilla",),
        weight_bits=8,
        activation_bits=8,
        simulated=True,
        note="W8 per channel, A8 per layer, attention maps of 4 bits",
    ),
    Method(
        "lsq-w4",
        "DIFFQ with LSQ",
        "Quantization (QAT)",
        "Esser et al., Learned Step Size Quantization, 2019",
        (P(93.37, 2.10, None, 41), P(76.08, 2.10, None, 41)),
        note="W4 with learned steps, activations in float; fine-tuned from the baseline",
        **_LSQ,
        **_lsq_bits(4),
    ),
    Method(
        "diffq",
        "DIFFQ with diffq",
        "Quantization (QAT)",
        "Défossez et al., Differentiable Model Compression via Pseudo Quantization Noise, 2021",
        (P(60.29, 12.20, None, 2), P(41.02, 12.00, None, 2)),
        note="a quarter of vanilla's width, from scratch; bits learned in groups of 8 weights",
        **_DIFFQ,
        options={**SMALL, **_PENALTY},
    ),
    Method(
        "deit-base",
        "DeiT base",
        "Knowledge Distillation",
        _TOUVRON,
        (P(98.47, 7.04, 0.096, 327), P(87.35, 6.97, 0.149, 327)),
        note="vanilla's shape and one token more; as many steps from scratch, both heads averaged",
        **_DEIT,
        options=_deit(),
    ),
    Method(
        "deit-tiny",
        "DeiT tiny",
        "Knowledge Distillation",
        _TOUVRON,
        (P(95.43, 16.78, None, 21), P(75.90, 16.16, None, 21)),
        note="DeiT base at a quarter of the width, as in its paper",
        **_DEIT,
        options=_deit(**SMALL),
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
        module="vitstudy.quantization.dynamic",
        packer="vitstudy.quantization.dynamic",
        parents=("deit-base",),
        weight_bits=8,
        activation_bits=8,
        device="cpu",
        note="as Dynamic Quantization",
    ),
)


_QAT, _ESSER = "Quantization (QAT)", "Esser et al., Learned Step Size Quantization, 2019"
_DEFOSSEZ = METHODS[4].reference
VARIANTS = (
    *(
        Method(
            key,
            f"LSQ, W{weight}A{activation}" if activation < 32 else f"LSQ, W{weight}",
            _QAT,
            _ESSER,
            beneath="lsq-w4",
            note=note,
            **_LSQ,
            **_lsq_bits(weight, activation, ends),
        )
        for key, weight, activation, ends, note in (
            ("lsq-w8", 8, 32, None, "activations in float"),
            ("lsq-w4a4", 4, 4, 8, "first and last layer of 8 bits, as in LSQ's own paper"),
            ("lsq-w3a3", 3, 3, 8, "first and last layer of 8 bits, as in LSQ's own paper"),
            ("lsq-w2a2", 2, 2, 8, "first and last layer of 8 bits, as in LSQ's own paper"),
        )
    ),
    Method(
        "rounded-w4",
        "Plain rounding, W4",
        "Quantization (PTQ)",
        "the papers' Eq. 1-3",
        beneath="lsq-w4",
        weight_bits=4,
        note="control: LSQ's bits without training, one scale a tensor that reaches the largest",
        **_LSQ,
        options={
            **{"weight_bits": 4, "activation_bits": 32, "first_last_bits": None, "start": "max"},
            "steps": 0,
        },
    ),
    Method(
        "continued",
        "Vanilla ViT, trained on",
        "-",
        "none",
        beneath="lsq-w4",
        module="vitstudy.finetuning",
        options=FINE_TUNING,
        parents=("vanilla",),
        note="control: the baseline fine-tuned for LSQ's steps, in float",
    ),
    Method(
        "diffq-finetuned",
        "DiffQ, from the baseline",
        _QAT,
        _DEFOSSEZ,
        beneath="diffq",
        parents=("vanilla",),
        note="vanilla's own size, fine-tuned",
        **_DIFFQ,
        options={**_PENALTY, **FINE_TUNING},
    ),
    Method(
        "small",
        "Vanilla ViT, a quarter of the width",
        "-",
        "none",
        beneath="diffq",
        module="vitstudy.small",
        options=SMALL,
        note="control: DiffQ's network, trained as long in float",
    ),
    Method(
        "small-as-diffq",
        "Vanilla ViT of DiffQ's bytes",
        "-",
        "none",
        beneath="diffq",
        module="vitstudy.small",
        options={"bytes_of": "diffq"},
        parents=("diffq",),
        note="control: a dense network of as many bytes, trained as long",
    ),
    Method(
        "teacher",
        "The teacher, a residual CNN",
        "-",
        "He et al., Deep Residual Learning for Image Recognition, 2016",
        beneath="deit-base",
        module="vitstudy.distillation.teacher",
        packer="vitstudy.distillation.teacher",
        reads=("teacher",),
        note="no ViT: what the students are distilled from",
    ),
    *(
        Method(
            key,
            title,
            "Knowledge Distillation",
            _HINTON,
            beneath="deit-base",
            module="vitstudy.distillation.soft",
            parents=("teacher",),
            options={"temperature": temperature, "weight": 0.7, "expectation": expectation},
            note=f"{note}, τ = {temperature:g}; vanilla's network and steps",
        )
        for key, title, temperature, expectation, note in (
            ("soft", "Soft distillation", 2.0, "student", "KL(student ‖ teacher), as printed"),
            (
                "soft-usual",
                "Soft distillation, usual direction",
                2.0,
                "teacher",
                "KL(teacher ‖ student)",
            ),
            ("soft-t1", "Soft distillation, cold", 1.0, "student", "KL(student ‖ teacher)"),
            ("soft-t8", "Soft distillation, hot", 8.0, "student", "KL(student ‖ teacher)"),
        )
    ),
    Method(
        "hard",
        "Hard distillation",
        "Knowledge Distillation",
        _TOUVRON,
        beneath="deit-base",
        module="vitstudy.distillation.deit",
        parents=("teacher",),
        options=_deit(token=False),
        note="Eq. 5 without a token; vanilla's network and steps",
    ),
    Method(
        "token-labels",
        "DeiT base, both heads by the labels",
        "-",
        "none",
        beneath="deit-base",
        note="control: the token without a teacher, as many steps",
        **{**_DEIT, "parents": ()},
        options=_deit("labels"),
    ),
    Method(
        "tiny-labels",
        "DeiT tiny, both heads by the labels",
        "-",
        "none",
        beneath="deit-tiny",
        note="control: the same network without a teacher, as many steps",
        **{**_DEIT, "parents": ()},
        options=_deit("labels", **SMALL),
    ),
    Method(
        "deit-again",
        "DeiT base, distilled again",
        "Knowledge Distillation",
        _TOUVRON,
        beneath="deit-base",
        note="of pretrained profiles: the token learns from the study's own teacher",
        **{**_DEIT, "parents_of_pretrained": None},
        options=_deit(again=True),
    ),
)


def available() -> tuple[Method, ...]:
    """What the study can measure: the papers' rows, each followed by what stands beneath it."""
    found = []
    for row in METHODS:
        found += [each for each in (row, *beneath(row.key)) if each.module]
    return tuple(found)


def beneath(key: str) -> tuple[Method, ...]:
    """The variants and controls of the papers' row `key`."""
    return tuple(method for method in VARIANTS if method.beneath == key)


def get(key: str) -> Method:
    """The method `key`; raises UserError, naming the valid ones, where the study has none."""
    for method in available():
        if method.key == key:
            return method
    raise unknown("method", key, [method.key for method in available()])
