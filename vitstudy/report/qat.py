"""What notebook 03 says of quantization-aware training: LSQ's steps, DiffQ's bits, the controls."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from vitstudy import methods
from vitstudy.errors import check_bits
from vitstudy.quantization import diffq, lsq
from vitstudy.quantization.uniform import quantization_range
from vitstudy.report.evidence import Evidence
from vitstudy.report.readable import significant
from vitstudy.report.significance import difference

LSQ_ROWS = (
    *("vanilla", "continued", "rounded-w4", "rounded-w4-mse", "lsq-w4", "lsq-w8"),
    *("lsq-w4a4", "lsq-w3a3", "lsq-w2a2"),
)
DIFFQ_ROWS = (
    *("diffq", "small", "small-as-diffq"),
    *("diffq-finetuned", "diffq-gaussian", "small-as-diffq-finetuned"),
)


# -- the mathematics, by example ------------------------------------------------------------------


def worked_example(values: list[float], step: float, bits: int) -> dict:
    """What LSQ makes of `values` at a step size: integers, values, and the gradients of their sum.

    Float64; the gradient by the step without its scale.
    """
    check_bits(bits)
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    s = torch.tensor(step, dtype=torch.float64, requires_grad=True)
    y = lsq.learned_step(x, s, bits, signed=True)
    y.sum().backward()
    return {
        "v = r / s": [round(v, 4) for v in (x / s).tolist()],
        "integers": [int(q) for q in (y / s).round().tolist()],
        "values again": [round(v, 4) for v in y.tolist()],
        "gradient by r": x.grad.tolist(),
        "gradient by s, summed": round(s.grad.item(), 4),
        "scale of that gradient": round(lsq.step_gradient_scale(len(values), bits, True), 4),
    }


def gradients(bits: int, count: int = 2_001) -> dict[str, np.ndarray]:
    """Over v = r / s: LSQ's output q, its gradient by s and by r, all (count,); signed."""
    check_bits(bits)
    q_min, q_max = quantization_range(bits, signed=True)
    v = torch.linspace(q_min - 1.5, q_max + 1.5, count, dtype=torch.float64, requires_grad=True)
    s = torch.ones_like(v, requires_grad=True)
    y = lsq.learned_step(v, s, bits, signed=True)
    y.sum().backward()
    found = {"v": v.detach(), "q": y.detach(), "by_step": s.grad, "by_value": v.grad}
    return {name: tensor.numpy() for name, tensor in found.items()}


def noise_against_rounding(weight: torch.Tensor, bits: tuple[int, ...]) -> pd.DataFrame:
    """Root mean square error in steps: of rounding, and of each noise that stands for it.

    A step is the weight's range over 2^b - 1; uniform noise has 1 / sqrt(12) of one.
    """
    rows = []
    for width in bits:
        check_bits(width)
        levels, low, high = diffq.uniform_levels(weight, width)
        step = float(high - low) / (2**width - 1)
        errors = {"rounding": diffq.from_levels(levels, width, low, high) - weight}
        for noise in ("uniform", "gaussian"):
            generator = torch.Generator().manual_seed(width)
            noisy = diffq.add_noise(weight, torch.tensor(float(width)), noise, generator)
            errors[f"{noise} noise"] = noisy - weight
        row = {name: float(e.square().mean().sqrt()) / step for name, e in errors.items()}
        rows.append({"bits": width, **row})
    return pd.DataFrame(rows).assign(theory=1 / math.sqrt(12))


# -- records --------------------------------------------------------------------------------------


def rows(profile: str, which: int, keys: tuple[str, ...]) -> pd.DataFrame:
    """The measured rows among `keys` of Table 1's or 2's data set, as text for a reader."""
    evidence = Evidence(profile)
    dataset = evidence.dataset(which)
    return pd.DataFrame(
        {
            "Model": methods.get(key).title,
            "Accuracy, % (95 %)": f"{100 * record.accuracy:.2f} "
            f"({100 * record.accuracy_low:.2f} to {100 * record.accuracy_high:.2f})",
            "Answers that differ from vanilla's": "" if key == "vanilla" else str(record.flips),
            "Bits, weights / activations": f"{record.weight_bits:.3g} / "
            f"{record.activation_bits:.3g}",
            "File, MiB": significant(record.size_mib),
            "Steps": f"{record.steps:,}",
        }
        for key in keys
        if (record := evidence.record(dataset, key))
    )


def steps(profile: str, key: str = "lsq-w4") -> pd.DataFrame:
    """LSQ's learned steps, a row a layer and table: columns as `lsq.analyse` has them."""
    evidence, frames = Evidence(profile), []
    for which, dataset in enumerate(evidence.datasets, 1):
        if found := evidence.analysis(dataset, key):
            frame = pd.DataFrame(found)
            frames.append(frame.assign(table=which, depth=range(len(frame))))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def learned_bits(profile: str, which: int, key: str) -> pd.DataFrame | None:
    """Share of the groups, percent, at each width (columns) in each tensor (rows), or None."""
    evidence = Evidence(profile)
    found = evidence.analysis(evidence.dataset(which), key)
    if not found:
        return None
    counts = found["groups"]
    used = np.flatnonzero(counts.sum(0))
    widths = range(used.min(), used.max() + 1)
    shares = 100 * counts[:, widths] / counts.sum(1, keepdims=True)
    names = [name.removesuffix(".weight") for name in found["tensors"]]
    return pd.DataFrame(shares, index=names, columns=[width + 1 for width in widths])


def sizes(profile: str) -> pd.DataFrame:
    """DiffQ's size told twice, by its formula and by the packed payload, bytes, and their ratio."""
    evidence, shown = Evidence(profile), []
    for which, dataset in enumerate(evidence.datasets, 1):
        for key in ("diffq", "diffq-finetuned", "diffq-gaussian"):
            if found := evidence.analysis(dataset, key):
                formula, payload = int(found["formula_bytes"]), int(found["payload_bytes"])
                shown.append(
                    {
                        "table": which,
                        "model": methods.get(key).title,
                        "by the formula, bytes": formula,
                        "packed, bytes": payload,
                        "packed / formula": round(payload / formula, 4),
                    }
                )
    return pd.DataFrame(shown)


COMPARED = (
    ("lsq-w4", "rounded-w4", "Training with learned steps, over plain rounding at 4 bits"),
    ("lsq-w4", "rounded-w4-mse", "The same, over rounding at the steps that it started from"),
    ("lsq-w4", "continued", "4-bit weights, over training on in float"),
    ("diffq", "small", "DiffQ's bits, over its own small network in float"),
    ("diffq", "small-as-diffq", "DiffQ's bits, over a dense network of as many bytes"),
    ("diffq-finetuned", "small-as-diffq-finetuned", "The same, where DiffQ has the baseline"),
    ("diffq-finetuned", "diffq-gaussian", "Uniform noise, over Gaussian"),
)
"""A row, the row that it is compared with, and what that shows."""
FINDING = (
    "- {what}: {difference} points, paired on the same images (95 %; {accuracy:.2f} against "
    "{other_accuracy:.2f} %), {size} against {other_size} MiB."
)


def findings(profile: str, which: int) -> list[str]:
    """Sentences with the measured accuracies, a line each, of what there is to compare."""
    evidence = Evidence(profile)
    dataset = evidence.dataset(which)
    lines = [
        FINDING.format(
            what=what,
            difference=change,
            accuracy=evidence.accuracy(dataset, key),
            other_accuracy=evidence.accuracy(dataset, other),
            size=significant(evidence.mean(dataset, key, "size_mib"), 3),
            other_size=significant(evidence.mean(dataset, other, "size_mib"), 3),
        )
        for key, other, what in COMPARED
        if (change := difference(profile, dataset, key, other))
    ]
    return lines or ["- Nothing to compare is measured on this profile yet."]
