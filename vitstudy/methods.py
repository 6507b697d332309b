"""The rows of the papers' Tables 1 and 2, in their order, one entry each; then what the study adds.

`VARIANTS` are other settings of a row and its controls: what trains as long, or has as many bits
or bytes, without the method. `SWEEP` are settings that only the bit-width sweep shows. Published
numbers are those that papers A, B and C print alike: accuracy in percent, speeds in iterations per
second, size in MB. None stands where they print "-".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec

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
    """Where `pack` and `unpack` of its models are, and `facts` of those that an engine runs."""
    options: dict = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    """The methods whose artifacts it starts from; vanilla's predictions are at hand for all."""
    weight_bits: float | None = 32
    """None where they are learned: the module's `mean_bits(model)` then counts them."""
    activation_bits: float | None = 32
    simulated: bool = False
    """Whether the artifact imitates in float the arithmetic that it is named for."""
    device: str | None = None
    """Where its models must run; None for wherever the machine runs best."""
    requires: tuple[str, ...] = ()
    """Packages beyond the study's own, as they are imported and installed: those of its engine."""
    note: str = ""

    @property
    def sweep(self) -> bool:
        """Whether it is a point of the bit-width sweep alone."""
        return self in SWEEP


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
    """Bits of weights and activations, and of both in the first and the last layer.

    Of two bits the steps start as in LSQ's own paper, of more where rounding errs least: after a
    training as short as this one either is the better of the two on validation.
    """
    bits = {"weight_bits": weight, "activation_bits": activation}
    start = "mean" if weight == 2 else "mse"
    options = {**bits, "first_last_bits": ends, "start": start, "step_range": 0.2, **FINE_TUNING}
    return {**bits, "options": options}


def _fq_vit(bits: int, attention_bits: int, factors=True, log2=True, **others) -> dict:
    """FQ-ViT with either of its remedies or both; with neither it is min/max at the same bits."""
    widths = {"bits": bits, "attention_bits": attention_bits}
    remedies = {"power_of_two": factors, "log_int_softmax": log2}
    return dict(
        module="vitstudy.quantization.fq_vit",
        packer="vitstudy.quantization.fq_vit",
        parents=("vanilla",),
        simulated=True,
        weight_bits=bits,
        activation_bits=bits,
        options={**widths, **remedies, "calibration_images": 1_024, **others},
    )


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
        **_fq_vit(8, 4, calibration_draws=5),
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


_LIN = METHODS[2].reference
_REMEDIES = (
    ("-minmax", "neither remedy", False, False, "control: one scale a layer, uniform maps"),
    ("-ptf", "power-of-two factors alone", True, False, "uniform attention maps"),
    ("-lis", "Log-Int-Softmax alone", False, True, "one scale for all channels"),
)
_ORT = "ONNX Runtime's dynamic quantization"
_ONNX = dict(
    module="vitstudy.quantization.onnx_runtime",
    packer="vitstudy.quantization.onnx_runtime",
    device="cpu",
    requires=("onnx", "onnxruntime", "onnxscript"),
)
_QAT, _ESSER = "Quantization (QAT)", "Esser et al., Learned Step Size Quantization, 2019"
_DEFOSSEZ = METHODS[4].reference


def _lsq(weight: int, activation: int = 32, ends: int | None = None, note: str = "") -> Method:
    bits = f"w{weight}" if activation == 32 else f"w{weight}a{activation}"
    return Method(
        f"lsq-{bits}",
        f"LSQ, {bits.upper()}",
        _QAT,
        _ESSER,
        beneath="lsq-w4",
        note=note or "activations in float",
        **_LSQ,
        **_lsq_bits(weight, activation, ends),
    )


def _rounded(bits: int, start: str = "max") -> Method:
    how = {"max": "that reaches the largest", "mse": "of least squared error, where LSQ starts"}
    return Method(
        f"rounded-w{bits}" + ("" if start == "max" else f"-{start}"),
        f"Plain rounding, W{bits}" + ("" if start == "max" else ", clipped"),
        "Quantization (PTQ)",
        "the papers' Eq. 1-3",
        beneath="lsq-w4",
        weight_bits=bits,
        note=f"control: LSQ's bits without training, one scale a tensor {how[start]}",
        **_LSQ,
        options={
            **{"weight_bits": bits, "activation_bits": 32, "first_last_bits": None},
            **{"start": start, "steps": 0},
        },
    )


def _fq_vit_at(bits: int) -> Method:
    maps = min(bits, 4)
    return Method(
        f"fq-vit-w{bits}a{bits}",
        f"FQ-ViT, W{bits}A{bits}",
        "Quantization (PTQ)",
        _LIN,
        beneath="fq-vit",
        note=f"attention maps of {maps} bits",
        **_fq_vit(bits, maps),
    )


def _diffq(key: str, title: str, note: str, **options) -> Method:
    return Method(
        key,
        f"DiffQ, {title}",
        _QAT,
        _DEFOSSEZ,
        beneath="diffq",
        parents=("vanilla",),
        note=note,
        **_DIFFQ,
        options={**_PENALTY, **FINE_TUNING, **options},
    )


def _same_bytes(key: str) -> Method:
    return Method(
        f"small-as-{key}",
        "Vanilla ViT of " + ("DiffQ's bytes" if key == "diffq" else "fine-tuned DiffQ's bytes"),
        "-",
        "none",
        beneath="diffq",
        module="vitstudy.small",
        options={"bytes_of": key},
        parents=(key,),
        note=f"control: a dense network of as many bytes as {key}, from scratch, trained as long",
    )


_ENDS = "first and last layer of 8 bits, as in LSQ's own paper"
VARIANTS = (
    *(
        Method(
            f"{key}{ending}",
            f"FQ-ViT, W{bits}A{bits}, maps of {maps} bits, {title}",
            "Quantization (PTQ)",
            _LIN,
            beneath="fq-vit",
            note=note,
            **_fq_vit(bits, maps, factors, log2),
        )
        for key, bits, maps, remedies in (
            ("fq-vit", 8, 4, _REMEDIES),
            # At these widths, chosen on validation, each remedy has something to cure.
            ("fq-vit-w6m3", 6, 3, (*_REMEDIES, ("", "both", True, True, "both remedies"))),
        )
        for ending, title, factors, log2, note in remedies
    ),
    _lsq(8),
    *(_lsq(bits, bits, 8, _ENDS) for bits in (4, 3, 2)),
    _rounded(4),
    _rounded(4, "mse"),
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
        "onnx",
        "ONNX Runtime, float32",
        "-",
        _ORT,
        beneath="dynamic",
        options={"weight_bits": 32},
        parents=("vanilla",),
        note="control: is it the engine, or the integers?",
        **_ONNX,
    ),
    Method(
        "onnx-int8",
        "ONNX Runtime, dynamic int8",
        "Quantization (PTQ)",
        _ORT,
        beneath="dynamic",
        weight_bits=8,
        activation_bits=8,
        options={"weight_bits": 8},
        parents=("onnx", "vanilla"),
        note="W8 per channel; activations quantized at run time, per tensor",
        **_ONNX,
    ),
    Method(
        "torchao-int8",
        "torchao, dynamic int8",
        "Quantization (PTQ)",
        "torchao, the PyTorch project's quantization library",
        beneath="dynamic",
        module="vitstudy.quantization.torchao_int8",
        packer="vitstudy.quantization.torchao_int8",
        parents=("vanilla",),
        weight_bits=8,
        activation_bits=8,
        device="cpu",
        requires=("torchao",),
        note="W8 per channel; activations quantized at run time, per token; not compiled",
    ),
    *(
        Method(
            key,
            f"LSQ, W4{title} in ONNX Runtime",
            _QAT,
            _ESSER,
            beneath="lsq-w4",
            weight_bits=4,
            activation_bits=activation,
            options={"activation_bits": activation},
            parents=("lsq-w4",),
            note=note,
            **{**_ONNX, "module": "vitstudy.quantization.onnx_four_bits"},
        )
        for key, title, activation, note in (
            ("lsq-w4-onnx", "", 32, "LSQ's integers run by 4-bit kernels, activations in float"),
            ("lsq-w4-onnx-a8", "A8", 8, "the same; activations int8 in blocks, at run time"),
        )
    ),
    _diffq("diffq-finetuned", "from the baseline", "vanilla's own size, fine-tuned"),
    _diffq(
        "diffq-gaussian",
        "from the baseline, Gaussian noise",
        "the paper's other noise; else as the one above",
        noise="gaussian",
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
    _same_bytes("diffq"),
    _same_bytes("diffq-finetuned"),
)

# Points of the bit-width sweep that are no row or variant of their own: one figure shows them.
SWEEP = (
    *(_rounded(bits) for bits in (8, 7, 6, 5, 3, 2)),
    *(_fq_vit_at(bits) for bits in (7, 6, 5, 4, 3, 2)),
    *(_lsq(bits) for bits in (7, 6, 5, 3, 2)),
    *(
        _diffq(f"diffq-p{penalty:g}", f"penalty {penalty:g}", "fine-tuned", penalty=penalty)
        for penalty in (0.1, 0.3, 3.0, 10.0)
    ),
)


def available() -> tuple[Method, ...]:
    """What the study can measure: the papers' rows, each followed by what stands beneath it."""
    found = []
    for row in METHODS:
        points = [each for each in SWEEP if each.beneath == row.key]
        found += [each for each in (row, *beneath(row.key), *points) if each.module]
    return tuple(found)


def beneath(key: str) -> tuple[Method, ...]:
    """The variants and controls of the papers' row `key`."""
    return tuple(method for method in VARIANTS if method.beneath == key)


def not_installed(method: Method) -> str:
    """Why `method` cannot be run here, as a clause; empty where it can."""
    absent = [name for name in method.requires if find_spec(name) is None]
    verb = "is" if len(absent) == 1 else "are"
    return f"{', '.join(absent)} {verb} not installed" if absent else ""


def get(key: str) -> Method:
    """The method `key`; raises UserError, naming the valid ones, where the study has none."""
    for method in available():
        if method.key == key:
            return method
    raise unknown("method", key, [method.key for method in available()])
