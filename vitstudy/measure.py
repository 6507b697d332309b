"""Measures a model: its answers on the test images, its costs, and the machine that it runs on.

Parameters and MACs have a closed formula for the ViT here and a counter that looks at the model;
the tests hold one against the other.
"""

from __future__ import annotations

import copy
import math
import os
import platform
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitstudy import statistics
from vitstudy.errors import TrainingFailed
from vitstudy.profiles import EVALUATION_BATCH

if TYPE_CHECKING:
    from vitstudy.context import Context

MIB = 2**20
LIKELIEST = 5
"""Number of classes that are kept of every test image's prediction."""


def on_test_images(
    context: Context[Any], model: nn.Module, *, alone: bool = False
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Evaluate `model` on all test images; return a record's fields and the predictions.

    The predictions are `labels` (N,), and `classes` and `probabilities`, both (N, 5), likeliest
    first.

    alone: whether the images are evaluated one by one, too, as is due where an image's logits
    depend on those beside it.

    Raises TrainingFailed where a logit is not finite.
    """
    test = context.data.test
    logits = context.evaluate(model, test)
    if not torch.isfinite(logits).all():
        raise TrainingFailed(
            f"the outputs of {context.name} on the test images are no finite numbers"
        )
    probabilities = logits.softmax(dim=1)
    top = probabilities.topk(min(LIKELIEST, probabilities.shape[1]), dim=1)
    labels, predicted = test.labels.numpy(), top.indices[:, 0].numpy()
    correct = predicted == labels
    low, high, interval = statistics.accuracy_interval(correct, test.sources)
    count = np.bincount(labels, minlength=context.data.spec.num_classes)
    right = np.bincount(labels, weights=correct, minlength=len(count))
    fields = {
        "accuracy": float(correct.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_interval": interval,
        "per_class_accuracy": [
            round(float(r / c), 6) if c else None for r, c in zip(right, count, strict=True)
        ],
        "calibration_error": statistics.expected_calibration_error(
            top.values[:, 0].numpy().astype(np.float64), correct
        ),
        "test_images": len(labels),
        "evaluation_batch": EVALUATION_BATCH,
    }
    if alone:
        one_by_one = context.evaluate(model, test, batch_size=1).argmax(1).numpy()
        fields["accuracy_alone"] = float((one_by_one == labels).mean())
        fields["flips_alone"] = int((one_by_one != predicted).sum())
    return fields, {
        "labels": labels.astype(np.uint8),
        "classes": top.indices.numpy().astype(np.uint8),
        "probabilities": top.values.numpy().astype(np.float16),
    }


def costs(context: Context[Any], model: nn.Module, packer: ModuleType) -> dict[str, Any]:
    """Measure a record's fields on the costs of `model`, and on the machine.

    packer: the module that packs it; an engine's has `facts`, since torch's counters do not see
    into an engine.
    """
    size, channels = context.profile.architecture.image_size, context.data.spec.channels
    fields = costs_of(model, packer, torch.zeros(1, channels, size, size))
    return {**fields, "threads": torch.get_num_threads(), "cpu": cpu(), "gpu": gpu()}


def costs_of(model: nn.Module, packer: ModuleType, example: Tensor) -> dict[str, Any]:
    """Count `parameters` and `macs` of `model` for the input `example`, (1, ...); an engine tells.

    packer: as `costs` takes it.
    """
    if hasattr(packer, "facts"):
        facts: dict[str, Any] = packer.facts(model, example)
        return facts
    return {"parameters": count_parameters(model), "macs": count_macs_of(model, example)}


def count_parameters(model: nn.Module) -> int:
    """Count the learned values of `model`, also those that a quantized layer keeps packed."""
    total: int = sum(parameter.numel() for parameter in model.parameters())
    for module in model.modules():
        if callable(weight := getattr(module, "weight", None)):  # PyTorch's quantized layers
            bias = module.bias()
            total += weight().numel() + (0 if bias is None else bias.numel())
    return total


def _linear_dynamic(
    inputs: tuple[int, ...], *_: object, out_shape: tuple[int, ...] = (), **_options: object
) -> int:
    """Count the operations of PyTorch's int8 linear layer: two for each input of each output."""
    return 2 * math.prod(out_shape) * inputs[-1]


def count_macs(model: nn.Module, image_size: int | tuple[int, int], channels: int) -> int:
    """Count the multiply-accumulates of one image by torch's own counter, attention included.

    image_size: height and width in pixels, or (height, width).
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    return count_macs_of(model, torch.zeros(1, channels, *sides))


def count_macs_of(model: nn.Module, example: Tensor) -> int:
    """Count the multiply-accumulates of one input, `example` (1, ...), by torch's own counter.

    The counter knows no fused attention on the CPU in some versions of torch and calls it free, so
    it is shown the plain one: two matrix products.
    """
    known = {}
    if hasattr(torch.ops.quantized, "linear_dynamic"):
        known[torch.ops.quantized.linear_dynamic] = _linear_dynamic
    counter = FlopCounterMode(display=False, custom_mapping=known)
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    with counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        copy.deepcopy(model).eval()(example.to(device))
    operations: int = counter.get_total_flops()
    return operations // 2


def cpu() -> str:
    """Return the processor's name, its cores, and the vector instructions that torch uses."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()})"


def instruction_sets() -> list[str]:
    """List the processor's vector and matrix instructions that matter to int8 and bfloat16."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return []
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    wanted = ("avx2", "avx512f", "vnni", "bf16", "amx", "asimddp", "i8mm", "sve")
    return sorted({flag for flag in flags.split() if any(part in flag for part in wanted)})


def has_bf16() -> bool:
    """Tell whether the processor says that it computes in bfloat16 itself."""
    return any("bf16" in name for name in instruction_sets())


def gpu() -> str | None:
    """Return the name of the current GPU; None where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


# -- energy ---------------------------------------------------------------------------------------

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the processors' energy counters (RAPL), to root alone on most machines."""


def energy_counters() -> dict[str, tuple[float, float]]:
    """Read, by counter, the joules so far and the joules at which it starts again from 0.

    Processor packages are counted whole, with all that runs on them.
    """
    counters = {}
    for folder in sorted(POWERCAP.glob("*-rapl:[0-9]*")):
        if folder.name.count(":") == 1:  # a package; what has two is a part of one
            try:
                joules, most = (
                    int((folder / name).read_text(encoding="utf-8")) / 1e6
                    for name in ("energy_uj", "max_energy_range_uj")
                )
                name = (folder / "name").read_text(encoding="utf-8").strip()
                counters[name] = (joules, most)
            except (OSError, ValueError):
                continue  # not for this user to read
    if torch.cuda.is_available() and (gpu_joules := _gpu_joules()) is not None:
        counters["gpu"] = (gpu_joules, float("inf"))
    return counters


def _gpu_joules() -> float | None:
    """Read the joules of the current GPU since its driver was loaded; None where NVML cannot."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(
            f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        )
        millijoules: int = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        return millijoules / 1e3
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None


def energy_between(
    before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]
) -> dict[str, float] | None:
    """Return the joules of each counter between two readings; None where there is no counter.

    before, after: answers of `energy_counters`. A counter that started again meanwhile is taken to
    have done so once.
    """
    joules = {}
    for name in before.keys() & after.keys():
        spent = after[name][0] - before[name][0]
        joules[name] = round(spent if spent >= 0 else spent + before[name][1], 2)
    return dict(sorted(joules.items())) or None
