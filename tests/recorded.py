"""Recorded inputs and outputs of the methods' public code, and how closely ours must agree."""

import json
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "reference"


def recorded(name: str, dtype: torch.dtype = torch.float64) -> tuple[dict, dict]:
    """A case's tensors, inputs and weights in `dtype`, and what it says of itself."""
    with np.load(FOLDER / f"{name}.npz") as content:
        found = {key: content[key] for key in content}
    meta = json.loads(str(found.pop("meta")))
    tensors = {key: torch.from_numpy(value) for key, value in found.items()}
    moved = {k: v.to(dtype) if k.startswith(("in_", "w.")) else v for k, v in tensors.items()}
    return moved, meta


def assert_recorded(got: torch.Tensor, tensors: dict, meta: dict, name: str = "out") -> None:
    """1e-10 of the largest in float64, 2e-5 or ten times the code's own rounding in float32."""
    if got.dtype == torch.float64:
        reference = tensors[f"{name}_f64"]
        tolerance = 1e-10 * reference.abs().max()
    else:
        reference = tensors[name]
        tolerance = max(2e-5 * reference.abs().max(), 10 * meta["f32_vs_f64"][name])
    assert (got - reference).abs().max() <= tolerance
