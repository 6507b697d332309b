"""What notebook 01 shows of uniform quantization: Eq. 1-3 on real weights and activations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vitstudy.errors import check_bits
from vitstudy.quantization import uniform
from vitstudy.report.evidence import Evidence
from vitstudy.study import Cell

BITS = (2, 3, 4, 5, 6, 7, 8)
WEIGHTS = {
    "qkv_weight": "query, key and value weights",
    "fc1_weight": "first MLP weights",
    "fc2_weight": "second MLP weights",
}
ACTIVATIONS = {
    "qkv_input": "attention input",
    "fc1_input": "first MLP input",
    "fc2_input": "second MLP input (after GELU)",
    "norm_input": "last LayerNorm input",
}
TITLES = WEIGHTS | ACTIVATIONS
SCHEMES = {"symmetric": True, "asymmetric": False}


def tensors(profile: str) -> tuple[Cell, dict[str, Tensor]]:
    """The last block's tensors that the first baseline with an analysis file left, and its cell.

    Raises UserError, with the command to run, where there is none.
    """
    evidence = Evidence(profile)
    for dataset, arrays in evidence.analyses("vanilla").items():
        found = {name: torch.from_numpy(values) for name, values in arrays.items()}
        return evidence.cell(dataset, "vanilla"), found
    raise evidence.absent("tensors of vanilla", "vanilla", them="them")


def describe(found: dict[str, Tensor]) -> pd.DataFrame:
    """Shape and spread of each tensor; `tail` is its largest magnitude in standard deviations."""
    rows = []
    for name, title in TITLES.items():
        values = found[name]
        rows.append(
            {
                "tensor": title,
                "shape": " × ".join(map(str, values.shape)),
                "least": round(float(values.min()), 3),
                "greatest": round(float(values.max()), 3),
                "std": round(float(values.std()), 3),
                "tail": round(float(values.abs().max() / values.std()), 1),
            }
        )
    return pd.DataFrame(rows)


def worked_example(values: list[float], bits: int, symmetric: bool) -> dict:
    """Eq. 1-3 by hand and by the library: scale, both zero points, integers, values again."""
    check_bits(bits)
    r = torch.tensor(values, dtype=torch.float64)
    params = uniform.choose_params(*uniform.min_max(r), bits, symmetric=symmetric, signed=symmetric)
    q = uniform.quantize(r, params)
    paper = torch.round(r / params.scale) - params.paper_zero_point
    return {
        "scale S": round(params.scale.item(), 6),
        "zero point (library)": params.zero_point.item(),
        "zero point (papers)": params.paper_zero_point.item(),
        "integers (library, clamped)": q.tolist(),
        "integers (papers' Eq. 1)": [int(each) for each in paper],
        "values again": [round(each, 4) for each in uniform.dequantize(q, params).tolist()],
    }


def staircase(low: float, high: float, bits: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Inputs a little beyond [low, high] and what each scheme makes of them, all (N,)."""
    check_bits(bits)
    room = (high - low) / 5
    inputs = torch.linspace(low - room, high + room, 2_001)
    outputs = {
        name: uniform.fake_quantize(inputs, _params((low, high), bits, symmetric)).numpy()
        for name, symmetric in SCHEMES.items()
    }
    return inputs.numpy(), outputs


def _params(limits, bits: int, symmetric: bool, axis: int | None = None) -> uniform.QuantParams:
    return uniform.choose_params(*limits, bits, symmetric=symmetric, signed=symmetric, axis=axis)


def levels(values: Tensor, bits: int) -> dict[str, np.ndarray]:
    """The values that each scheme can say, of the min/max range; at most 2^bits of them."""
    check_bits(bits)
    found = {}
    for name, symmetric in SCHEMES.items():
        params = _params(uniform.min_max(values), bits, symmetric)
        codes = torch.arange(*uniform.quantization_range(bits, symmetric)).to(torch.int32)
        last = torch.tensor([uniform.quantization_range(bits, symmetric)[1]], dtype=torch.int32)
        found[name] = uniform.dequantize(torch.cat([codes, last]), params).numpy()
    return found


def sqnr(values: Tensor, limits, bits: int, symmetric: bool, axis: int | None = None) -> float:
    """Decibels of `values` over their quantization error, for the clipping range `limits`."""
    check_bits(bits)
    params = _params(limits, bits, symmetric, axis)
    return uniform.sqnr_db(values, uniform.fake_quantize(values, params))


def error_against_bits(found: dict[str, Tensor], bits: tuple[int, ...] = BITS) -> pd.DataFrame:
    """SQNR of every weight and activation by bits, scheme and granularity, range by min/max.

    Columns `tensor`, `bits`, `scheme`, `granularity`, `sqnr` (dB). Activations are a sample
    without their channels, so they are quantized per tensor alone.
    """
    rows = []
    for name in TITLES:
        axes = {"per tensor": None} | ({"per channel": 0} if name in WEIGHTS else {})
        for granularity, axis in axes.items():
            limits = uniform.min_max(found[name], axis=axis)
            for scheme, symmetric in SCHEMES.items():
                for width in bits:
                    value = sqnr(found[name], limits, width, symmetric, axis)
                    rows.append((name, width, scheme, granularity, value))
    return pd.DataFrame(rows, columns=["tensor", "bits", "scheme", "granularity", "sqnr"])


def calibrations(values: Tensor, bits: int, symmetric: bool = False) -> dict[str, tuple]:
    """Clipping ranges (low, high) of `values` by min/max, by two percentiles and by least MSE."""
    check_bits(bits)
    found = {
        "min/max": uniform.min_max(values),
        "99.9 % percentile": uniform.percentile(values, fraction=0.999),
        "99 % percentile": uniform.percentile(values, fraction=0.99),
        "MSE": uniform.mse(values, bits, symmetric=symmetric, signed=symmetric),
    }
    return {name: (low.item(), high.item()) for name, (low, high) in found.items()}


def calibration_error(found: dict[str, Tensor], bits: tuple[int, ...] = (3, 4, 8)) -> pd.DataFrame:
    """SQNR of every activation by calibration and bits, asymmetric, per tensor.

    Columns `tensor`, `bits`, `calibration`, `sqnr` (dB).
    """
    rows = [
        (name, width, calibration, sqnr(found[name], limits, width, symmetric=False))
        for name in ACTIVATIONS
        for width in bits
        for calibration, limits in calibrations(found[name], width).items()
    ]
    return pd.DataFrame(rows, columns=["tensor", "bits", "calibration", "sqnr"])


def gain(errors: pd.DataFrame, column: str, better: str, than: str) -> pd.Series:
    """Mean gain in dB, by tensor, of one value of `column` over another."""
    wide = errors.pivot_table(index="tensor", columns=column, values="sqnr")
    return wide[better] - wide[than]


def gains(errors: pd.DataFrame, bits: int) -> pd.DataFrame:
    """By tensor, dB that a scale a channel and a zero point gain at `bits`; NaN where none is."""
    some = errors[errors["bits"] == bits]
    found = pd.DataFrame(
        {
            "a scale a channel": gain(some, "granularity", "per channel", "per tensor"),
            "a zero point": gain(some, "scheme", "asymmetric", "symmetric"),
        }
    )
    return found.reindex(TITLES).rename(index=TITLES)
