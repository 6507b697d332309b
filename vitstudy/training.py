"""`fit` and `evaluate`, on Hugging Face accelerate: a CPU, one GPU or many are the same call.

The order of the images, their augmentation and torch's own random numbers are functions of the
seed and the step, so a training that was killed goes on from its checkpoint to the same weights.
"""

from __future__ import annotations

import io
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import CutMix
from tqdm import tqdm

from vitstudy import files, measure
from vitstudy.data import IMAGE_SIZE, Dataset, Split
from vitstudy.errors import TrainingFailed
from vitstudy.muon import Muon
from vitstudy.profiles import EVALUATION_BATCH, Recipe

log = logging.getLogger(__name__)

SECONDS_BETWEEN_CHECKPOINTS = 20
SECONDS_BETWEEN_LINES = 10

Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""(model, images, labels, indices into the training split) to a scalar; labels are (B,) classes, or
(B, num_classes) probabilities where images were mixed."""


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` CPU threads, 0 for as many as torch chose."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cross_entropy(smoothing: float) -> Loss:
    def loss(model: nn.Module, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        return F.cross_entropy(model(images), labels, label_smoothing=smoothing)

    return loss


def augment(images: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Each of (B, C, H, W) bytes shifted by up to `shift` pixels and, if `flip`, half mirrored.

    What moves in from outside is zero, black. The images stay bytes: a quarter of the memory.
    """
    batch, channels, height, width = images.shape
    rows, columns = torch.randint(0, 2 * shift + 1, (2, batch, 1), generator=generator)
    rows, columns = rows + torch.arange(height), columns + torch.arange(width)
    if flip:
        mirrored = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    padded = F.pad(images, (shift,) * 4)
    return padded[
        torch.arange(batch, device=images.device)[:, None, None, None],
        torch.arange(channels, device=images.device)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + number)


def _order(length: int, seed: int, epoch: int) -> Tensor:
    # Epochs count down from -1 and steps up from 0, so no two share their random numbers.
    return torch.randperm(length, generator=_generator(seed, -1 - epoch))


def batches(length: int, batch_size: int, seed: int, first: int, last: int) -> Iterator[Tensor]:
    """Indices of the batches of steps `first` to `last`; an epoch's remainder is left out.

    A split smaller than a batch is one batch.
    """
    batch_size = min(batch_size, length)
    per_epoch = length // batch_size
    order, epoch = None, None
    for step in range(first, last):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = _order(length, seed, epoch)
        start = step % per_epoch * batch_size
        yield order[start : start + batch_size]


def optimisers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest; only weights of layers decay."""
    matrices, decayed, others = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if recipe.matrix_learning_rate and parameter.ndim == 2 and "blocks." in name:
            matrices.append(parameter)
        elif parameter.ndim >= 2 and not name.endswith(("pos_embed", "cls_token", "dist_token")):
            decayed.append(parameter)
        else:
            others.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)
    ]
    if matrices:
        made.append(
            Muon(matrices, lr=recipe.matrix_learning_rate, weight_decay=recipe.weight_decay)
        )
    return made


def warmup_then_linear(recipe: Recipe) -> Callable[[int], float]:
    """The factor on the learning rates at each step: up to 1, then down to 0 after the last."""
    warmup = max(1, round(recipe.warmup * recipe.steps))

    def factor(step: int) -> float:
        return min((step + 1) / warmup, (recipe.steps - step) / max(1, recipe.steps - warmup))

    return factor


@contextmanager
def _bf16_on_cpu(model: nn.Module, applies: bool) -> Iterator[None]:
    """Lay the model out for bfloat16 on a CPU, where training then takes half the time.

    Convolutions keep channels innermost. Attention is computed as the products that PyTorch's fused
    kernel fuses: the kernel's backward pass takes four times as long as they do.
    """
    fused = [each for each in model.modules() if getattr(each, "fused_attn", False) and applies]
    if applies:
        model.to(memory_format=torch.channels_last)
    for attention in fused:
        attention.fused_attn = False
    try:
        yield
    finally:
        for attention in fused:
            attention.fused_attn = True


def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    name: str,
    image_size: int = IMAGE_SIZE,
    checkpoint: Path | None = None,
    loss: Loss | None = None,
) -> dict:
    """Train `model` in place on the training split for the recipe's steps; last step, not best.

    `checkpoint` is written from time to time and read first where it exists, so a killed training
    goes on; whoever calls removes it once the result is safe. The result is what it took: `steps`,
    `images_seen`, `seconds`. Raises TrainingFailed where the loss is no finite number.
    """
    accelerator = Accelerator()
    loss = loss or cross_entropy(recipe.label_smoothing)
    schedules_of = optimisers(model, recipe)
    model.to(accelerator.device)
    runner, *prepared = accelerator.prepare(model, *schedules_of)
    if recipe.compile and accelerator.device.type == "cuda":
        runner = torch.compile(runner)
    factor = warmup_then_linear(recipe)
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, factor) for each in schedules_of]
    first, seconds_before = _resume(checkpoint, model, [*schedules_of, *schedules])
    split = _resident(data.train, accelerator.device)
    mix = CutMix(num_classes=data.spec.num_classes)  # Yun et al., 2019, with its α = 1
    model.train()
    progress = _Progress(name, recipe.steps, first)
    started = saved = time.monotonic()
    order = batches(len(split), recipe.batch_size, seed, first, recipe.steps)

    def keep(step: int) -> None:
        if checkpoint and accelerator.is_main_process:
            seconds = seconds_before + time.monotonic() - started
            _checkpoint(checkpoint, step, seconds, model, [*schedules_of, *schedules])

    on_cpu = accelerator.device.type == "cpu"
    if recipe.bf16 and on_cpu and not measure.has_bf16():
        log.warning("%s: this CPU imitates bfloat16, many times slower than float32", name)
    with (
        torch.random.fork_rng(devices=[] if on_cpu else None),
        _bf16_on_cpu(model, recipe.bf16 and on_cpu),
    ):
        for step, indices in enumerate(order, first):
            indices = indices[accelerator.process_index :: accelerator.num_processes]
            number = step * accelerator.num_processes + accelerator.process_index
            generator = _generator(seed, number)
            torch.manual_seed(generator.initial_seed())
            labels = split.labels[indices]
            images = split.images[indices]
            if data.spec.shift or data.spec.flip:
                images = augment(images, data.spec.shift, data.spec.flip, generator)
            if recipe.cutmix and torch.rand((), generator=generator) < recipe.cutmix:
                images, labels = mix(images, labels)
            images = data.normalise(images, image_size)
            with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=recipe.bf16):
                value = loss(runner, images, labels, indices)
            accelerator.backward(value)
            for optimiser, schedule in zip(prepared, schedules, strict=True):
                optimiser.step()
                schedule.step()
                optimiser.zero_grad()
            if step % 10 == 9 or step + 1 == recipe.steps:  # reading the loss waits for a GPU
                found = accelerator.reduce(value.detach(), "mean").item()
                if not math.isfinite(found):
                    raise TrainingFailed(f"the loss of {name} is {found} at step {step + 1}")
                progress.update(step + 1, found)
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                keep(step + 1)
                saved = time.monotonic()
    if first < recipe.steps:
        keep(recipe.steps)
    progress.close()
    model.eval()
    return {
        "steps": recipe.steps,
        "images_seen": recipe.steps * min(recipe.batch_size, len(split)),
        "seconds": seconds_before + time.monotonic() - started,
    }


def _resident(split: Split, device: torch.device) -> Split:
    """The split on a GPU as a whole (CIFAR is 150 MB); on the CPU the memory map serves."""
    if device.type == "cpu":
        return split
    return Split(split.images.to(device), split.labels.to(device), split.sources)


def _checkpoint(path: Path, step: int, seconds: float, model: nn.Module, others: list) -> None:
    state = {
        "step": step,
        "seconds": seconds,
        "model": model.state_dict(),
        "others": [other.state_dict() for other in others],
    }
    content = io.BytesIO()
    torch.save(state, content)
    files.write(path, content.getvalue())


def _resume(path: Path | None, model: nn.Module, others: list) -> tuple[int, float]:
    """Load the checkpoint where there is a whole one; the step to go on with, seconds spent."""
    if path is None or not path.exists():
        return 0, 0.0
    try:
        state = torch.load(path, weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch raise, the cure is the same
        log.warning("%s is damaged (%s); training starts again", path, type(error).__name__)
        return 0, 0.0
    model.load_state_dict(state["model"])
    for other, saved in zip(others, state["others"], strict=True):
        other.load_state_dict(saved)
    log.info("going on from step %d, kept in %s", state["step"], path.name)
    return state["step"], state["seconds"]


class _Progress:
    """A bar on a terminal; elsewhere a line from time to time."""

    def __init__(self, name: str, total: int, first: int):
        self.name, self.total, self.first = name, total, first
        self.started = self.said = time.monotonic()
        self.bar = tqdm(total=total, initial=first, desc=name, leave=False, disable=None)
        self.on_terminal = sys.stderr.isatty()

    def update(self, done: int, loss: float) -> None:
        self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self.bar.update(done - self.bar.n)
        now = time.monotonic()
        if not self.on_terminal and now - self.said > SECONDS_BETWEEN_LINES:
            self.said = now
            left = (now - self.started) / (done - self.first) * (self.total - done)
            log.info(
                "%s: step %d of %d, loss %.3f, %.0f s left", self.name, done, self.total, loss, left
            )

    def close(self) -> None:
        self.bar.close()


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    data: Dataset,
    split: Split,
    *,
    image_size: int = IMAGE_SIZE,
    batch_size: int = EVALUATION_BATCH,
    device: torch.device | str | None = None,
) -> Tensor:
    """The logits (N, num_classes), float32 on the CPU, of every image of `split`, in its order.

    `device` is accelerate's choice where not given; int8 layers of PyTorch need "cpu".
    """
    device = torch.device(device) if device else Accelerator().device
    model.to(device).eval()
    logits = []
    for start in range(0, len(split), batch_size):
        images = split.images[start : start + batch_size].to(device)
        logits.append(model(data.normalise(images, image_size)).float().cpu())
    return torch.cat(logits)
