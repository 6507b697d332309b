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
    weight_bits: float | None = 32
    """None where they are learned: the module's `mean_bits(model)` then counts them."""
    activation_bits: float | None = 32
    simulated: bool = False
    """Whether the artifact imitates in float the arithmetic that it is named for."""
    timed: bool = True
    """Whether its speed is measured; not where another row's model has the same shape."""
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


_ZHU = "Zhu et al., Visual Transformer Pruning, 2021"
_YU = "Yu and Wu, A Unified Pruning Framework for Vision Transformers, 2021"


def _cut(parent: str, score: str, r: float, **options) -> dict:
    """Cutting a trained parent by a score until r of all its parameters are gone."""
    return dict(
        module="vitstudy.pruning.cut",
        parents=(parent,),
        options={"score": score, "r": r, **options},
        timed=False,
    )


def _tuned(cut: str) -> dict:
    """The short training of what a cut left."""
    return dict(module="vitstudy.pruning.tune", parents=(cut,), options=FINE_TUNING)


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
        _ZHU,
        (P(88.36, 4.86, None, 301), P(74.46, 4.69, None, 302)),
        note="a tenth of all parameters removed by gates, then fine-tuned",
        **_tuned("vtp-r0.1-cut"),
    ),
    Method(
        "vtp-r0.2",
        "ViT-Pruning(r=0.2)",
        "Pruning",
        _ZHU,
        (P(80.56, 5.54, None, 254), P(64.27, 5.19, None, 272)),
        note="a fifth of all parameters removed by gates, then fine-tuned",
        **_tuned("vtp-r0.2-cut"),
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


# Every score cuts a model that was trained on for as long as the gates were, and what it leaves is
# fine-tuned for as long again; `continued-twice` is trained for both without a cut.
_PRUNED = [
    (
        Method(
            f"{key}-r{r}-cut",
            f"{title} (r={r}), before fine-tuning",
            "Pruning",
            reference,
            beneath=f"vtp-r{r}",
            note=f"{what}, nothing trained after it",
            **_cut(parent, score, r, **options),
        ),
        Method(
            f"{key}-r{r}",
            f"{title} (r={r})",
            "Pruning",
            reference,
            beneath=f"vtp-r{r}",
            note=what,
            **{**_tuned(f"{key}-r{r}-cut"), "timed": score in ("taylor", "kl")},
        ),
    )
    for r in (0.1, 0.2)
    for key, parent, score, title, reference, what, options in (
        ("vtp", "vtp-gates", "gate", "ViT-Pruning", _ZHU, "cut by the gates", {}),
        (
            *("vtp-slow", "vtp-gates-slow", "gate", "ViT-Pruning, slow gates", _ZHU),
            *("cut by gates that hardly moved", {}),
        ),
        (
            *("taylor", "continued", "taylor", "Pruning by Eq. 7", "the papers' Eq. 7"),
            *("cut by the squared first-order change of the loss", {"images": 1_024}),
        ),
        (
            *("kl", "continued", "kl", "Pruning by Eq. 8", _YU),
            *("heads and MLP groups cut by the outputs' divergence", {"images": 64, "groups": 16}),
        ),
        (
            *("magnitude", "continued", "magnitude", "Pruning by magnitude", "none"),
            *("control: cut by the mean size of the weights", {}),
        ),
        (
            *("random", "continued", "random", "Pruning at random", "none"),
            *("control: cut by chance", {}),
        ),
    )
    if (key, r) != ("vtp-slow", 0.1)
]

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
        "vtp-gates",
        "ViT-Pruning, gates trained, nothing cut",
        "Pruning",
        _ZHU,
        beneath="vtp-r0.1",
        module="vitstudy.pruning.gates",
        options={"penalty": 1e-4, "gate_range": 1.0, **FINE_TUNING},
        parents=("vanilla",),
        timed=False,
        note="the baseline trained on with its dimensions behind soft gates, which cost l1",
    ),
    Method(
        "vtp-gates-slow",
        "ViT-Pruning, slow gates, nothing cut",
        "Pruning",
        _ZHU,
        beneath="vtp-r0.2",
        module="vitstudy.pruning.gates",
        options={"penalty": 1e-4, "gate_range": None, **FINE_TUNING},
        parents=("vanilla",),
        timed=False,
        note="gates learn at the network's own rate, as a plain fine-tuning has them",
    ),
    Method(
        "continued-twice",
        "Vanilla ViT, trained on twice",
        "-",
        "none",
        beneath="vtp-r0.1",
        module="vitstudy.finetuning",
        options=FINE_TUNING,
        parents=("continued",),
        timed=False,
        note="control: the baseline fine-tuned for the steps of gates and fine-tuning, in float",
    ),
    *(each for pair in _PRUNED for each in pair if each.key not in ("vtp-r0.1", "vtp-r0.2")),
    Method(
        "skip-r0.2",
        "Skip-dimension model (r=0.2)",
        "Pruning",
        _YU,
        beneath="vtp-r0.2",
        module="vitstudy.pruning.skip",
        options={"penalty": 1e-4, "gate_range": 1.0, "r": 0.2, **FINE_TUNING},
        parents=("vanilla",),
        note="whole blocks behind gates too, learned with the divergence of Eq. 8 in the loss",
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
