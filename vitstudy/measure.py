"""What a record says of a model: what it answers on the test images, what it costs, where it ran.

Parameters and MACs have a closed formula for the ViT here and a counter that looks at the model;
the tests hold one against the other.
"""

from __future__ import annotations

import copy
import os
import platform
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitstudy import statistics
from vitstudy.errors import TrainingFailed
from vitstudy.profiles import EVALUATION_BATCH, Architecture

if TYPE_CHECKING:
    from vitstudy.context import Context

MIB = 2**20


LIKELIEST = 5
"""How many classes are kept of every test image's prediction."""


def on_test_images(
    context: Context, model: nn.Module, *, alone: bool = False
) -> tuple[dict, dict[str, np.ndarray]]:
    """A record's fields on what `model` answers on all test images, and its predictions.

    The predictions are `labels` (N,), `classes` (N, 5), likeliest first, and `probabilities`
    (N, 5). With `alone` the images are evaluated one by one, too, as is due where an image's logits
    depend on those beside it. Raises TrainingFailed where a logit is not finite.
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


def costs(context: Context, model: nn.Module, packer: ModuleType) -> dict:
    """A record's fields on what `model` costs, and on the machine that it was measured on.

    packer: the module that packs it; an engine's has `facts`, since torch's counters do not see
    into an engine.
    """
    size, channels = context.profile.architecture.image_size, context.data.spec.channels
    fields = costs_of(model, packer, torch.zeros(1, channels, size, size))
    return {**fields, "threads": torch.get_num_threads(), "cpu": cpu(), "gpu": gpu()}


def costs_of(model: nn.Module, packer: ModuleType, example: Tensor) -> dict:
    """`parameters` and `macs` of `model` for one input, `example` (1, ...), and an engine's facts.

    packer: as `costs`.
    """
    if hasattr(packer, "facts"):
        return packer.facts(model, example)
    return {"parameters": count_parameters(model), "macs": count_macs_of(model, example)}


def count_parameters(model: nn.Module) -> int:
    """Learned values of `model`, those that a quantized layer keeps packed included."""
    total = sum(parameter.numel() for parameter in model.parameters())
    for module in model.modules():
        if callable(weight := getattr(module, "weight", None)):  # PyTorch's quantized layers
            bias = module.bias()
            total += weight().numel() + (0 if bias is None else bias.numel())
    return total


def _linear_dynamic(inputs, packed, *args, out_shape=None, **kwargs) -> int:
    """Operations of PyTorch's int8 linear layer: two for each input of each output."""
    outputs = 1
    for side in out_shape:
        outputs *= side
    return 2 * outputs * inputs[-1]


def count_macs(model: nn.Module, image_size: int | tuple[int, int], channels: int) -> int:
    """Multiply-accumulates of one image by torch's own counter, attention's products included.

    image_size: of the sides, or (height, width).
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    return count_macs_of(model, torch.zeros(1, channels, *sides))


def count_macs_of(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of one input, `example` (1, ...), by torch's own counter.

    The counter knows no fused attention on the CPU in some versions of torch and calls it free, so
    it is shown the plain one: two matrix products.
    """
    known = {}
    if hasattr(torch.ops.quantized, "linear_dynamic"):
        known[torch.ops.quantized.linear_dynamic] = _linear_dynamic
    counter = FlopCounterMode(display=False, custom_mapping=known)
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    with counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        copy.deepcopy(model).eval()(example.to(device))
    return counter.get_total_flops() // 2


def _stem(architecture: Architecture, channels: int) -> tuple[int, int]:
    """Parameters and MACs of what turns an image into tokens."""
    side = architecture.image_size
    if not architecture.stem:
        weights = channels * architecture.patch_size**2 * architecture.width
        return weights + architecture.width, weights * (side // architecture.patch_size) ** 2
    parameters = macs = 0
    for out, kernel, stride in architecture.stem:
        side = -(-side // stride)
        weights = channels * kernel**2 * out
        parameters += weights + 2 * out  # BatchNorm's scale and shift
        macs += weights * side**2
        channels = out
    return parameters, macs


def vit_parameters(architecture: Architecture, num_classes: int, channels: int) -> int:
    """Parameters of the ViT of `architecture`, by formula."""
    width, hidden = architecture.width, round(architecture.width * architecture.mlp_ratio)
    tokens = (architecture.image_size // architecture.patch_size) ** 2 + 1
    block = 4 * width * width + 4 * width + 2 * width * hidden + hidden + width + 4 * width
    embeddings = width + tokens * width  # class token, positions
    head = 2 * width + width * num_classes + num_classes
    return _stem(architecture, channels)[0] + embeddings + architecture.depth * block + head


def vit_macs(architecture: Architecture, num_classes: int, channels: int) -> int:
    """Multiply-accumulates of one image through the ViT of `architecture`, by formula.

    Matrix products and convolutions; norms, softmax and GELU are not counted, as is usual.
    """
    width, hidden = architecture.width, round(architecture.width * architecture.mlp_ratio)
    tokens = (architecture.image_size // architecture.patch_size) ** 2 + 1
    block = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    return _stem(architecture, channels)[1] + architecture.depth * block + width * num_classes


def cpu() -> str:
    """The processor's name, as the system gives it, and the vector instructions torch uses."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()})"


def instruction_sets() -> list[str]:
    """The processor's vector and matrix instructions that matter to int8 and bfloat16."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return []
    flags = next(
        (
            s
            for s in cpuinfo.read_text(encoding="utf-8").splitlines()
            if s.startswith(("flags", "Features"))
        ),
        "",
    )
    wanted = ("avx2", "avx512f", "vnni", "bf16", "amx", "asimddp", "i8mm", "sve")
    return sorted({flag for flag in flags.split() if any(part in flag for part in wanted)})


def has_bf16() -> bool:
    """Whether the processor computes in bfloat16 itself; one that does not say so does not."""
    return any("bf16" in each for each in instruction_sets())


def gpu() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


# -- energy ---------------------------------------------------------------------------------------

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the processors' energy counters (RAPL), to root alone on most machines."""


def energy_counters() -> dict[str, tuple[float, float]]:
    """Joules so far and the joules at which it starts again from 0, by counter; empty without any.

    Processor packages are counted whole: what else runs meanwhile is in it.
    """
    found = {}
    for folder in sorted(POWERCAP.glob("*-rapl:[0-9]*")):
        if folder.name.count(":") == 1:  # a package; what has two is a part of one
            try:
                numbers = [
                    int((folder / name).read_text(encoding="utf-8")) / 1e6
                    for name in ("energy_uj", "max_energy_range_uj")
                ]
                found[(folder / "name").read_text(encoding="utf-8").strip()] = (
                    numbers[0],
                    numbers[1],
                )
            except (OSError, ValueError):
                continue  # not for this user to read
    if torch.cuda.is_available():
        joules = _gpu_joules()
        if joules is not None:
            found["gpu"] = (joules, float("inf"))
    return found


def _gpu_joules() -> float | None:
    """Joules of the current GPU since its driver was loaded; None where NVML does not tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(
            f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        )
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None


def energy_between(
    before: dict[str, tuple[float, float]], after: dict[str, tuple[float, float]]
) -> dict[str, float] | None:
    """Joules that each counter counted between two readings of `energy_counters`; None of none.

    A counter that started again meanwhile is taken to have done so once.
    """
    found = {}
    for name in before.keys() & after.keys():
        spent = after[name][0] - before[name][0]
        found[name] = round(spent if spent >= 0 else spent + before[name][1], 2)
    return dict(sorted(found.items())) or None
