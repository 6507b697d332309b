"""The rows of the papers' Tables 1 and 2, in their order, one entry each; then what the study adds.

`SURVEYED` are the methods that the survey discusses, each a row of its own family. `VARIANTS` are
other settings of a row and its controls: what trains as long, or has as many bits
or bytes, without the method. `SWEEP` are settings that only the bit-width sweep shows. A method's
*tier* says how much depends on it, and a profile names the tiers that it computes. Published
numbers are those that papers A, B and C print alike: accuracy in percent, speeds in iterations per
second, size in MB. None stands where they print "-".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.util import find_spec

from vitstudy.errors import unknown


@dataclass(frozen=True)
class Published:
    accuracy: float | None
    gpu_speed: float | None
    cpu_speed: float | None
    size: float | None


TIERS = ("paper", "survey", "control", "variant", "sweep")
"""What a method is to the study, from the papers' own rows to the points of a sweep:

`paper` is a row that the three papers print, `survey` a method that the survey discusses, `control`
is what a notebook's argument needs beside it, `variant` is another setting that is worth its
training where the data are evidence, and `sweep` is one point of many, computed when it is asked
for by name.
"""


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
    tier: str = "variant"
    """One of `TIERS`."""
    beneath: str = ""
    """The papers' row that it is a variant or a control of; empty for what is a row itself."""
    module: str = ""
    """Where `compress(context)` is."""
    packer: str = "vitstudy.models"
    """Where `pack` and `unpack` of its models are, and `facts` of those that an engine runs."""
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
    batch_dependent: bool = False
    """Whether an image's logits depend on the images beside it, as where activations are quantized
    at run time by the range of the whole batch: it is then evaluated one by one, too."""
    timed: bool = True
    """Whether its speed is measured; not where another row's model has the same shape."""
    device: str | None = None
    """Where its models must run; None for wherever the machine runs best."""
    requires: tuple[str, ...] = ()
    """Packages beyond the study's own, as they are imported and installed: those of its engine."""
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
    """Bits of weights and activations, and of both in the first and the last layer.

    Of two bits the steps start as in LSQ's own paper, of more where rounding errs least: after a
    training as short as this one either is the better of the two on validation.
    """
    bits = {"weight_bits": weight, "activation_bits": activation}
    start = "mean" if weight == 2 else "mse"
    options = {**bits, "first_last_bits": ends, "start": start, "step_range": 0.2, **FINE_TUNING}
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


_NYSTROM = dict(module="vitstudy.attention.nystrom", parents=("vanilla",))
_FINE_TUNED = "landmarks: segment means, the class token in the first; fine-tuned from the baseline"


def _landmarks(number: int | None, class_token: str = "segment", **training) -> dict:
    """Landmarks of Nyström attention, None for all tokens; untrained where nothing else is said."""
    return {
        "options": {
            **{"num_landmarks": number, "class_token": class_token, "iterations": 6},
            **(training or {"steps": 0}),
        }
    }


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
        tier="paper",
        module="vitstudy.baseline",
    ),
    Method(
        "dynamic",
        "Dynamic Quantization",
        "Quantization (PTQ)",
        "PyTorch's dynamic quantization of linear layers",
        (P(98.73, None, 0.062, 84), P(90.87, None, 0.122, 84)),
        tier="paper",
        module="vitstudy.quantization.dynamic",
        packer="vitstudy.quantization.dynamic",
        parents=("vanilla",),
        batch_dependent=True,
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
        tier="paper",
        **_fq_vit(8, 4, calibration_draws=5),
        note="W8 per channel, A8 per layer, attention maps of 4 bits",
    ),
    Method(
        "lsq-w4",
        "DIFFQ with LSQ",
        "Quantization (QAT)",
        "Esser et al., Learned Step Size Quantization, 2019",
        (P(93.37, 2.10, None, 41), P(76.08, 2.10, None, 41)),
        tier="paper",
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
        tier="paper",
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
        tier="paper",
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
        tier="paper",
        note="DeiT base at a quarter of the width, as in its paper",
        **_DEIT,
        options=_deit(**SMALL),
    ),
    Method(
        "vtp-r0.1",
        "ViT-Pruning(r=0.1)",
        "Pruning",
        _ZHU,
        (P(88.36, 4.86, None, 301), P(74.46, 4.69, None, 302)),
        tier="paper",
        note="a tenth of all parameters removed by gates, then fine-tuned",
        **_tuned("vtp-r0.1-cut"),
    ),
    Method(
        "vtp-r0.2",
        "ViT-Pruning(r=0.2)",
        "Pruning",
        _ZHU,
        (P(80.56, 5.54, None, 254), P(64.27, 5.19, None, 272)),
        tier="paper",
        note="a fifth of all parameters removed by gates, then fine-tuned",
        **_tuned("vtp-r0.2-cut"),
    ),
    Method(
        "nystrom-m24",
        "ViT-Nyströmformer(m=24)",
        "Low-rank Approximation",
        "Xiong et al., Nyströmformer, 2021",
        (P(65.91, 4.67, None, 327), P(38.51, 4.77, None, 327)),
        tier="paper",
        note=_FINE_TUNED,
        **_NYSTROM,
        **_landmarks(24, **FINE_TUNING),
    ),
    Method(
        "nystrom-m32",
        "ViT-Nyströmformer(m=32)",
        "Low-rank Approximation",
        "Xiong et al., Nyströmformer, 2021",
        (P(75.94, 4.57, None, 327), P(50.31, 4.65, None, 327)),
        tier="paper",
        note=_FINE_TUNED,
        **_NYSTROM,
        **_landmarks(32, **FINE_TUNING),
    ),
    Method(
        "nystrom-m64",
        "ViT-Nyströmformer(m=64)",
        "Low-rank Approximation",
        "Xiong et al., Nyströmformer, 2021",
        (P(91.70, 4.38, None, 327), P(74.01, 4.46, None, 327)),
        tier="paper",
        note=_FINE_TUNED,
        **_NYSTROM,
        **_landmarks(64, **FINE_TUNING),
    ),
    Method(
        "deit-base+dynamic",
        "DeiT base + Dynamic Quantization",
        "Knowledge Distillation + PTQ",
        "Touvron et al., 2021, and PyTorch's dynamic quantization",
        (P(96.75, None, 0.117, 84), P(82.61, None, 0.196, 84)),
        tier="paper",
        module="vitstudy.quantization.dynamic",
        packer="vitstudy.quantization.dynamic",
        parents=("deit-base",),
        batch_dependent=True,
        weight_bits=8,
        activation_bits=8,
        device="cpu",
        note="as Dynamic Quantization",
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
            tier=tier,
            beneath=f"vtp-r{r}",
            note=f"{what}, nothing trained after it",
            **_cut(parent, score, r, **options),
        ),
        Method(
            f"{key}-r{r}",
            f"{title} (r={r})",
            "Pruning",
            reference,
            tier="sweep" if key == "vtp-slow" else tier,
            beneath=f"vtp-r{r}",
            note=what,
            **{**_tuned(f"{key}-r{r}-cut"), "timed": score == "gate"},
        ),
    )
    for r, at_a_fifth in ((0.1, False), (0.2, True))
    for key, parent, score, title, reference, what, tier, options in (
        ("vtp", "vtp-gates", "gate", "ViT-Pruning", _ZHU, "cut by the gates", "control", {}),
        (
            *("vtp-slow", "vtp-gates-slow", "gate", "ViT-Pruning, slow gates", _ZHU),
            *("cut by gates that hardly moved", "variant", {}),
        ),
        (
            *("taylor", "continued", "taylor", "Pruning by Eq. 7", "the papers' Eq. 7"),
            *("cut by the squared first-order change of the loss", "sweep", {"images": 1_024}),
        ),
        (
            *("kl", "continued", "kl", "Pruning by Eq. 8", _YU),
            "heads and MLP groups cut by the outputs' divergence",
            *("variant", {"images": 64, "groups": 16}),
        ),
        (
            *("magnitude", "continued", "magnitude", "Pruning by magnitude", "none"),
            "control: cut by the mean size of the weights",
            *("control" if at_a_fifth else "variant", {}),
        ),
        (
            *("random", "continued", "random", "Pruning at random", "none"),
            *("control: cut by chance", "control" if at_a_fifth else "variant", {}),
        ),
    )
    if (key, r) != ("vtp-slow", 0.1)
]

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
_XIONG = "Xiong et al., Nyströmformer, 2021"
_DROP_IN = "the baseline's weights, not trained further"


def _lsq(weight: int, activation: int = 32, ends: int | None = None, note: str = "") -> Method:
    bits = f"w{weight}" if activation == 32 else f"w{weight}a{activation}"
    return Method(
        f"lsq-{bits}",
        f"LSQ, {bits.upper()}",
        _QAT,
        _ESSER,
        tier="sweep",
        beneath="lsq-w4",
        note=note or "activations in float",
        **_LSQ,
        **_lsq_bits(weight, activation, ends),
    )


def _rounded(bits: int, start: str = "max", tier: str = "control") -> Method:
    how = {"max": "that reaches the largest", "mse": "of least squared error, where LSQ starts"}
    return Method(
        f"rounded-w{bits}" + ("" if start == "max" else f"-{start}"),
        f"Plain rounding, W{bits}" + ("" if start == "max" else ", clipped"),
        "Quantization (PTQ)",
        "the papers' Eq. 1-3",
        tier=tier,
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
        tier="sweep",
        beneath="fq-vit",
        note=f"attention maps of {maps} bits",
        **_fq_vit(bits, maps),
    )


def _diffq(key: str, title: str, note: str, tier: str = "sweep", **options) -> Method:
    return Method(
        key,
        f"DiffQ, {title}",
        _QAT,
        _DEFOSSEZ,
        tier=tier,
        beneath="diffq",
        parents=("vanilla",),
        note=note,
        **_DIFFQ,
        options={**_PENALTY, **FINE_TUNING, **options},
    )


def _same_bytes(key: str, tier: str) -> Method:
    return Method(
        f"small-as-{key}",
        "Vanilla ViT of " + ("DiffQ's bytes" if key == "diffq" else "fine-tuned DiffQ's bytes"),
        "-",
        "none",
        tier=tier,
        beneath="diffq",
        module="vitstudy.narrow",
        options={"bytes_of": key},
        parents=(key,),
        timed=False,
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
            tier="control",
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
        tier="control",
        beneath="lsq-w4",
        module="vitstudy.finetuning",
        options=FINE_TUNING,
        parents=("vanilla",),
        timed=False,
        note="control: the baseline fine-tuned for LSQ's steps, in float",
    ),
    Method(
        "onnx",
        "ONNX Runtime, float32",
        "-",
        _ORT,
        tier="control",
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
        tier="control",
        beneath="dynamic",
        weight_bits=8,
        activation_bits=8,
        options={"weight_bits": 8},
        parents=("onnx", "vanilla"),
        batch_dependent=True,
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
    _diffq("diffq-finetuned", "from the baseline", "vanilla's own size, fine-tuned", "control"),
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
        tier="control",
        beneath="diffq",
        module="vitstudy.narrow",
        options=SMALL,
        note="control: DiffQ's network, trained as long in float",
    ),
    _same_bytes("diffq", "control"),
    _same_bytes("diffq-finetuned", "sweep"),
    Method(
        "teacher",
        "The teacher, a residual CNN",
        "-",
        "He et al., Deep Residual Learning for Image Recognition, 2016",
        tier="control",
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
            tier=tier,
            beneath="deit-base",
            timed=False,
            module="vitstudy.distillation.soft",
            parents=("teacher",),
            options={"temperature": temperature, "weight": 0.7, "expectation": expectation},
            note=f"{note}, τ = {temperature:g}; vanilla's network and steps",
        )
        for key, title, tier, temperature, expectation, note in (
            (
                *("soft", "Soft distillation", "control"),
                *(2.0, "student", "KL(student ‖ teacher), as printed"),
            ),
            (
                *("soft-usual", "Soft distillation, usual direction", "variant"),
                *(2.0, "teacher", "KL(teacher ‖ student)"),
            ),
            (
                *("soft-t1", "Soft distillation, cold", "sweep"),
                *(1.0, "student", "KL(student ‖ teacher)"),
            ),
            (
                *("soft-t8", "Soft distillation, hot", "sweep"),
                *(8.0, "student", "KL(student ‖ teacher)"),
            ),
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
        timed=False,
        note="Eq. 5 without a token; vanilla's network and steps",
    ),
    Method(
        "token-labels",
        "DeiT base, both heads by the labels",
        "-",
        "none",
        tier="control",
        beneath="deit-base",
        timed=False,
        note="control: the token without a teacher, as many steps",
        **{**_DEIT, "parents": ()},
        options=_deit("labels"),
    ),
    Method(
        "tiny-labels",
        "DeiT tiny, both heads by the labels",
        "-",
        "none",
        tier="control",
        beneath="deit-tiny",
        timed=False,
        note="control: the same network without a teacher, as many steps",
        **{**_DEIT, "parents": ()},
        options=_deit("labels", **SMALL),
    ),
    Method(
        "deit-again",
        "DeiT base, distilled again",
        "Knowledge Distillation",
        _TOUVRON,
        tier="sweep",
        beneath="deit-base",
        note="of pretrained profiles: the token learns from the study's own teacher",
        **{**_DEIT, "parents_of_pretrained": None},
        options=_deit(again=True),
    ),
    Method(
        "vtp-gates",
        "ViT-Pruning, gates trained, nothing cut",
        "Pruning",
        _ZHU,
        tier="control",
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
        tier="control",
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
        tier="sweep",
        beneath="vtp-r0.2",
        module="vitstudy.pruning.skip",
        options={"penalty": 1e-4, "gate_range": 1.0, "r": 0.2, **FINE_TUNING},
        parents=("vanilla",),
        note="whole blocks behind gates too, learned with the divergence of Eq. 8 in the loss",
    ),
    *(
        Method(
            key,
            title,
            "Low-rank Approximation",
            _XIONG,
            tier="control",
            beneath=row,
            timed=False,
            note=note,
            **_NYSTROM,
            **_landmarks(*options),
        )
        for key, row, title, note, options in (
            ("nystrom-m8-dropin", "nystrom-m24", "Nyström, m=8, drop-in", _DROP_IN, (8,)),
            (
                "nystrom-m8-class-dropin",
                "nystrom-m24",
                "Nyström, m=8, class token a landmark, drop-in",
                f"{_DROP_IN}; the class token is a landmark of its own, not one of a segment",
                (8, "own"),
            ),
            ("nystrom-m24-dropin", "nystrom-m24", "Nyström, m=24, drop-in", _DROP_IN, (24,)),
            ("nystrom-m32-dropin", "nystrom-m32", "Nyström, m=32, drop-in", _DROP_IN, (32,)),
            ("nystrom-m64-dropin", "nystrom-m64", "Nyström, m=64, drop-in", _DROP_IN, (64,)),
        )
    ),
    Method(
        "nystrom-all",
        "Nyström, as many landmarks as tokens",
        "Low-rank Approximation",
        _XIONG,
        tier="control",
        beneath="nystrom-m64",
        module="vitstudy.attention.spectrum",
        parents=("vanilla",),
        timed=False,
        note="control: softmax attention again; what its matrices are like is analysed here",
        **_landmarks(None),
    ),
)

# Pairs of methods, the second on what the first has made, with the options of its own row. Where it
# is distillation, that is the first's own training with the teacher's soft targets too (`taught`).
_SOFT = {"temperature": 2.0, "weight": 0.5, "expectation": "student"}
_SHORT = {
    "deit-base": "DeiT base",
    "vtp-r0.2": "pruning 0.2",
    "lsq-w4": "LSQ W4",
    "dynamic": "dynamic int8",
    "nystrom-m32": "Nyström 32",
}
_ROWS = {method.key: method for method in (*METHODS, *VARIANTS)}


def _pair(first: str, second: str, tier: str = "sweep", **changes) -> Method:
    """The row `second` with `first` in the place of vanilla."""
    titles = f"{_SHORT[first]} + {_SHORT[second]}"
    return replace(
        _ROWS[second],
        **{
            "key": f"{first}+{second}",
            "title": titles[0].upper() + titles[1:],
            "tier": tier,
            "published": None,
            "beneath": "deit-base+dynamic",
            "parents": (first,),
            "note": f"{_SHORT[second]} as in its own row, from the model of {_SHORT[first]}",
            **changes,
        },
    )


def _pruned_after(first: str) -> tuple[Method, ...]:
    """The three steps of pruning by gates, from the model of `first`."""
    gates, cut = f"{first}+vtp-gates", f"{first}+vtp-r0.2-cut"
    common = {"tier": "sweep", "published": None, "beneath": "deit-base+dynamic"}
    titles = f"{_SHORT[first]} + {_SHORT['vtp-r0.2']}"
    return (
        replace(
            _ROWS["vtp-gates"],
            **{**common, "key": gates, "title": f"{titles}, gates", "parents": (first,)},
        ),
        replace(
            _ROWS["vtp-r0.2-cut"],
            **{**common, "key": cut, "title": f"{titles}, cut", "parents": (gates,)},
        ),
        _pair(first, "vtp-r0.2", parents=(cut,)),
    )


def _taught(key: str, title: str) -> Method:
    base = _ROWS[key]
    return replace(
        base,
        key="taught" if key == "continued" else f"{key}+taught",
        title=title,
        tier="sweep",
        published=None,
        beneath="deit-base+dynamic",
        module="vitstudy.distillation.taught",
        parents=(*base.parents, "teacher"),
        options={**base.options, **_SOFT, "method": base.module},
        timed=False,
        note="its own fine-tuning, with the teacher's soft targets (Eq. 4)",
    )


COMBINED = (
    _taught("continued", "Vanilla ViT, distilled while trained on"),
    *_pruned_after("deit-base"),
    _taught("vtp-r0.2", "Pruning 0.2 + distillation"),
    _pair("deit-base", "lsq-w4"),
    _taught("lsq-w4", "LSQ W4 + distillation"),
    _pair("deit-base", "nystrom-m32"),
    _taught("nystrom-m32", "Nyström 32 + distillation"),
    _pair("vtp-r0.2", "lsq-w4"),
    _pair("vtp-r0.2", "dynamic", "control"),
    _pair("vtp-r0.2", "nystrom-m32"),
    _pair("nystrom-m32", "lsq-w4"),
    _pair(
        "lsq-w4",
        "nystrom-m32",
        packer="vitstudy.quantization.lsq",
        simulated=True,
        weight_bits=4,
    ),
    _pair("nystrom-m32", "dynamic", "control"),
    _pair(
        *("dynamic", "nystrom-m32", "control"),
        **{"packer": "vitstudy.quantization.dynamic", "device": "cpu", "batch_dependent": True},
        **{"weight_bits": 8, "activation_bits": 8},
        options={**_ROWS["nystrom-m32-dropin"].options},
        note="drop-in: integers cannot be fine-tuned",
    ),
)
VARIANTS += COMBINED


# Points of the bit-width sweep that are no row or variant of their own: one figure shows them.
SWEEP = (
    *(_rounded(bits, tier="sweep") for bits in (8, 7, 6, 5, 3, 2)),
    *(_fq_vit_at(bits) for bits in (7, 6, 5, 4, 3, 2)),
    *(_lsq(bits) for bits in (7, 6, 5, 3, 2)),
    *(
        _diffq(f"diffq-p{penalty:g}", f"penalty {penalty:g}", "fine-tuned", penalty=penalty)
        for penalty in (0.1, 0.3, 3.0, 10.0)
    ),
)


def _attention(key: str, title: str, reference: str, mechanism: str, **entry) -> Method:
    """Another attention in the baseline, fine-tuned: `mechanism` is its `module:Class`."""
    settings = {"attention": f"vitstudy.attention.{mechanism}", **entry.pop("settings", {})}
    return Method(
        key,
        title,
        "Efficient Attention",
        reference,
        tier="survey",
        module="vitstudy.attention.replace",
        parents=("vanilla",),
        options={**settings, **FINE_TUNING},
        **entry,
    )


SURVEYED = (
    _attention(
        "hydra",
        "Hydra Attention",
        "Bolya et al., Hydra Attention: Efficient Attention with Many Heads, 2022",
        "hydra:Hydra",
        note="cosine kernel, a head a feature; only elementwise work between q, k and v",
    ),
)


def available() -> tuple[Method, ...]:
    """What the study can measure: the papers' rows, each followed by what stands beneath it, then
    the surveyed methods."""
    found = []
    for row in METHODS:
        points = [each for each in SWEEP if each.beneath == row.key]
        found += [row, *beneath(row.key), *points]
    return (*found, *SURVEYED)


def beneath(key: str) -> tuple[Method, ...]:
    """The variants and controls of the papers' row `key`."""
    return tuple(method for method in VARIANTS if method.beneath == key)


def computed(tiers: tuple[str, ...]) -> set[str]:
    """The keys of the methods of `tiers`, and of all that those start from."""
    found: set[str] = set()
    waiting = [method.key for method in available() if method.tier in tiers]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += get(key).parents
    return found


def not_installed(method: Method) -> str:
    """Why `method` cannot be run here, as a clause; empty where it can."""
    absent = [name for name in method.requires if find_spec(name) is None]
    verb = "is" if len(absent) == 1 else "are"
    return f"{', '.join(absent)} {verb} not installed" if absent else ""


def get(key: str) -> Method:
    """The method `key`; raises UserError, naming the valid ones, where the study has none."""
    for method in (*METHODS, *SURVEYED, *VARIANTS, *SWEEP):
        if method.key == key:
            return method
    raise unknown("method", key, [method.key for method in available()])
