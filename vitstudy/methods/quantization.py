"""Further quantizers, the controls of the papers' own, and the points of the bit-width sweep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from vitstudy.configs import Continued, Narrower, SameBytes
from vitstudy.methods.method import Method
from vitstudy.methods.papers import QUARTER
from vitstudy.methods.references import DEFOSSEZ, ESSER, LIN, ONNX_RUNTIME
from vitstudy.quantization.configs import (
    LSQ,
    DiffQ,
    FQViT,
    OnnxFourBits,
    OnnxRuntime,
    TorchaoInt8,
)

POST_TRAINING = "Quantization (PTQ)"
AWARE_TRAINING = "Quantization (QAT)"


# -- FQ-ViT and its remedies ----------------------------------------------------------------------


def _fq_vit(key: str, title: str, config: FQViT, *, tier: str, note: str) -> Method:
    return Method(
        key=key,
        title=f"FQ-ViT, W{config.bits}A{config.bits}{title}",
        method=POST_TRAINING,
        reference=LIN,
        tier=tier,
        beneath="fq-vit",
        config=config,
        packer="vitstudy.quantization.fq_vit",
        parents=("vanilla",),
        simulated=True,
        weight_bits=config.bits,
        activation_bits=config.bits,
        note=note,
    )


def _remedies(key: str, both: FQViT) -> tuple[Method, ...]:
    """FQ-ViT at the bits of `both` with neither remedy, and with each of them alone."""
    bits = f", maps of {both.attention_bits} bits, "
    return (
        _fq_vit(
            f"{key}-minmax",
            f"{bits}neither remedy",
            replace(both, power_of_two=False, log_int_softmax=False),
            tier="control",
            note="control: one scale a layer, uniform maps",
        ),
        _fq_vit(
            f"{key}-ptf",
            f"{bits}power-of-two factors alone",
            replace(both, log_int_softmax=False),
            tier="control",
            note="uniform attention maps",
        ),
        _fq_vit(
            f"{key}-lis",
            f"{bits}Log-Int-Softmax alone",
            replace(both, power_of_two=False),
            tier="control",
            note="one scale for all channels",
        ),
    )


def _fq_vit_at(bits: int) -> Method:
    maps = min(bits, 4)
    return _fq_vit(
        f"fq-vit-w{bits}a{bits}",
        "",
        FQViT(bits=bits, attention_bits=maps),
        tier="sweep",
        note=f"attention maps of {maps} bits",
    )


# At these widths, chosen on validation, each remedy has something to cure.
W6_MAPS3 = FQViT(bits=6, attention_bits=3)


# -- LSQ, and rounding without training -----------------------------------------------------------


def _lsq(bits: int, activation_bits: int = 32, ends: int | None = None, note: str = "") -> Method:
    """LSQ at `bits` of the weights, and `ends` bits of the first and the last layer.

    Of two bits the steps start as in LSQ's own paper, of more where rounding errs least: after a
    training as short as this one either is the better of the two on validation.
    """
    name = f"w{bits}" if activation_bits == 32 else f"w{bits}a{activation_bits}"
    return Method(
        key=f"lsq-{name}",
        title=f"LSQ, {name.upper()}",
        method=AWARE_TRAINING,
        reference=ESSER,
        tier="sweep",
        beneath="lsq-w4",
        config=LSQ(
            weight_bits=bits,
            activation_bits=activation_bits,
            first_last_bits=ends,
            start="mean" if bits == 2 else "mse",
        ),
        packer="vitstudy.quantization.lsq",
        parents=("vanilla",),
        simulated=True,
        weight_bits=bits,
        activation_bits=activation_bits,
        note=note or "activations in float",
    )


def _rounded(bits: int, start: Literal["max", "mse"] = "max", tier: str = "control") -> Method:
    """Plain rounding by one scale a tensor that starts as `start` says and stays there."""
    scale = {"max": "that reaches the largest", "mse": "of least squared error, where LSQ starts"}
    return Method(
        key=f"rounded-w{bits}" + ("" if start == "max" else f"-{start}"),
        title=f"Plain rounding, W{bits}" + ("" if start == "max" else ", clipped"),
        method=POST_TRAINING,
        reference="the papers' Eq. 1-3",
        tier=tier,
        beneath="lsq-w4",
        config=LSQ(weight_bits=bits, start=start, steps=0),
        packer="vitstudy.quantization.lsq",
        parents=("vanilla",),
        simulated=True,
        weight_bits=bits,
        note=f"control: LSQ's bits without training, one scale a tensor {scale[start]}",
    )


ENDS = "first and last layer of 8 bits, as in LSQ's own paper"


# -- engines --------------------------------------------------------------------------------------


def _onnx(**entry: Any) -> Method:
    """A row that ONNX Runtime computes."""
    return Method(
        packer="vitstudy.quantization.onnx_runtime",
        device="cpu",
        requires=("onnx", "onnxruntime", "onnxscript"),
        **entry,
    )


def _four_bits(key: str, title: str, activation_bits: Literal[8, 32], note: str) -> Method:
    return _onnx(
        key=key,
        title=f"LSQ, {title} in ONNX Runtime",
        method=AWARE_TRAINING,
        reference=ESSER,
        beneath="lsq-w4",
        config=OnnxFourBits(activation_bits=activation_bits),
        parents=("lsq-w4",),
        weight_bits=4,
        activation_bits=activation_bits,
        note=note,
    )


# -- DiffQ, and networks of its size --------------------------------------------------------------


def _diffq(key: str, title: str, config: DiffQ, note: str, tier: str = "sweep") -> Method:
    return Method(
        key=key,
        title=f"DiffQ, {title}",
        method=AWARE_TRAINING,
        reference=DEFOSSEZ,
        tier=tier,
        beneath="diffq",
        config=config,
        packer="vitstudy.quantization.diffq",
        parents=("vanilla",),
        simulated=True,
        weight_bits=None,
        note=note,
    )


def _same_bytes(key: str, name: str, tier: str) -> Method:
    return Method(
        key=f"small-as-{key}",
        title=f"Vanilla ViT of {name} bytes",
        method="-",
        reference="none",
        tier=tier,
        beneath="diffq",
        config=SameBytes(bytes_of=key),
        parents=(key,),
        timed=False,
        note=f"control: a dense network of as many bytes as {key}, from scratch, trained as long",
    )


VARIANTS = (
    *_remedies("fq-vit", FQViT(bits=8, attention_bits=4)),
    *_remedies("fq-vit-w6m3", W6_MAPS3),
    _fq_vit(
        "fq-vit-w6m3",
        ", maps of 3 bits, both",
        W6_MAPS3,
        tier="control",
        note="both remedies",
    ),
    _lsq(8),
    _lsq(4, 4, 8, ENDS),
    _lsq(3, 3, 8, ENDS),
    _lsq(2, 2, 8, ENDS),
    _rounded(4),
    _rounded(4, "mse"),
    Method(
        key="continued",
        title="Vanilla ViT, trained on",
        method="-",
        reference="none",
        tier="control",
        beneath="lsq-w4",
        config=Continued(),
        parents=("vanilla",),
        timed=False,
        note="control: the baseline fine-tuned for LSQ's steps, in float",
    ),
    _onnx(
        key="onnx",
        title="ONNX Runtime, float32",
        method="-",
        reference=ONNX_RUNTIME,
        tier="control",
        beneath="dynamic",
        config=OnnxRuntime(weight_bits=32),
        parents=("vanilla",),
        note="control: is it the engine, or the integers?",
    ),
    _onnx(
        key="onnx-int8",
        title="ONNX Runtime, dynamic int8",
        method=POST_TRAINING,
        reference=ONNX_RUNTIME,
        tier="control",
        beneath="dynamic",
        config=OnnxRuntime(weight_bits=8),
        parents=("onnx", "vanilla"),
        batch_dependent=True,
        weight_bits=8,
        activation_bits=8,
        note="W8 per channel; activations quantized at run time, per tensor",
    ),
    Method(
        key="torchao-int8",
        title="torchao, dynamic int8",
        method=POST_TRAINING,
        reference="torchao, the PyTorch project's quantization library",
        beneath="dynamic",
        config=TorchaoInt8(),
        packer="vitstudy.quantization.torchao_int8",
        parents=("vanilla",),
        weight_bits=8,
        activation_bits=8,
        device="cpu",
        requires=("torchao",),
        note="W8 per channel; activations quantized at run time, per token; not compiled",
    ),
    _four_bits(
        "lsq-w4-onnx", "W4", 32, "LSQ's integers run by 4-bit kernels, activations in float"
    ),
    _four_bits("lsq-w4-onnx-a8", "W4A8", 8, "the same; activations int8 in blocks, at run time"),
    _diffq(
        "diffq-finetuned",
        "from the baseline",
        DiffQ(),
        "vanilla's own size, fine-tuned",
        tier="control",
    ),
    _diffq(
        "diffq-gaussian",
        "from the baseline, Gaussian noise",
        DiffQ(noise="gaussian"),
        "the paper's other noise; else as the one above",
    ),
    Method(
        key="small",
        title="Vanilla ViT, a quarter of the width",
        method="-",
        reference="none",
        tier="control",
        beneath="diffq",
        config=Narrower(width=QUARTER),
        note="control: DiffQ's network, trained as long in float",
    ),
    _same_bytes("diffq", "DiffQ's", "control"),
    _same_bytes("diffq-finetuned", "fine-tuned DiffQ's", "sweep"),
)

# Points of the bit-width sweep that are no row or variant of their own: one figure shows them.
SWEEP = (
    *(_rounded(bits, tier="sweep") for bits in (8, 7, 6, 5, 3, 2)),
    *(_fq_vit_at(bits) for bits in (7, 6, 5, 4, 3, 2)),
    *(_lsq(bits) for bits in (7, 6, 5, 3, 2)),
    *(
        _diffq(f"diffq-p{each:g}", f"penalty {each:g}", DiffQ(penalty=each), "fine-tuned")
        for each in (0.1, 0.3, 3.0, 10.0)
    ),
)
