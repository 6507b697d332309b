"""The teacher: a small residual CNN, trained by the study itself.

He et al., Deep Residual Learning for Image Recognition, 2016, in the short form that is usual for
images of 32 pixels. Touvron et al., 2021, find a convolutional teacher better than a transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitstudy.context import Context
from vitstudy.data import IMAGE_SIZE
from vitstudy.errors import UserError
from vitstudy.profiles import Recipe

SAMPLES = 400
"""Validation images whose logits are kept for the notebook, the students' too."""
SHOWN = 4
"""Images that the notebook shows."""


class MatrixConv2d(nn.Module):
    """A convolution whose weights are kept as the matrix (out, k·k·in) that patches are multiplied
    by, so that Muon, which takes matrices, trains it as it trains the ViT's.
    """

    def __init__(self, channels: int, out: int, stride: int = 1, kernel: int = 3):
        super().__init__()
        self.channels, self.out, self.stride, self.kernel = channels, out, stride, kernel
        self.weight = nn.Parameter(torch.empty(out, kernel * kernel * channels))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        weight = self.weight.unflatten(1, (self.kernel, self.kernel, self.channels))
        # Input channels lie innermost: seen as (out, C, k, k) that is PyTorch's "channels last".
        weight = weight.permute(0, 3, 1, 2)
        return F.conv2d(x, weight, stride=self.stride, padding=self.kernel // 2)

    def extra_repr(self) -> str:
        return f"{self.channels}, {self.out}, kernel={self.kernel}, stride={self.stride}"


def _convolution(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(MatrixConv2d(channels, out, stride), nn.BatchNorm2d(out), nn.ReLU())


class Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.steps = nn.Sequential(
            _convolution(channels, channels), _convolution(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        return x + self.steps(x)


class ResidualNetwork(nn.Module):
    """Stages of residual blocks, each half as wide and high as the one before.

    The head sees the means over the four quarters of the last stage: the mean over the whole would
    not say on which side of a pair a digit stands. Images of another size are brought to 32 pixels
    first, which is what all data sets of the study originally have.
    """

    def __init__(
        self, stages: Sequence[int], blocks: int, stem_stride: int, num_classes: int, channels: int
    ):
        super().__init__()
        self.description = {
            "network": {"stages": list(stages), "blocks": blocks, "stem_stride": stem_stride},
            "num_classes": num_classes,
            "channels": channels,
        }
        width = stages[0]
        stem = nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU())
        layers = []
        for position, out in enumerate(stages):
            layers += [_convolution(width, out, stride=2)] if position else []
            layers += [Residual(out) for _ in range(blocks)]
            width = out
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W) to (B, num_classes)
        if images.shape[-1] != IMAGE_SIZE:
            images = F.interpolate(images, size=(IMAGE_SIZE, IMAGE_SIZE), mode="area")
        x = self.blocks(self.stem(images.contiguous(memory_format=torch.channels_last)))
        return self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))


# -- its file -------------------------------------------------------------------------------------


def pack(model: ResidualNetwork) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a teacher and the description that `unpack` builds it from."""
    return model.state_dict(), model.description


def unpack(tensors: dict[str, Tensor], description: dict) -> ResidualNetwork:
    """The teacher that `pack` took apart."""
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn only to be overwritten
        model = ResidualNetwork(
            **description["network"],
            num_classes=description["num_classes"],
            channels=description["channels"],
        )
    model.load_state_dict(tensors)
    return model


# -- teaching -------------------------------------------------------------------------------------


class TeacherLogits:
    """The teacher's logits (B, C) for a batch, in evaluation mode and without gradients.

    Where nothing augments the images they are computed once for all of the training split; else on
    each batch, since the teacher has to see what the student sees. Raises UserError where the
    teacher was trained on other classes.
    """

    def __init__(self, context: Context):
        spec = context.data.spec
        self.model = context.model("teacher").requires_grad_(False)
        told = self.model.description["num_classes"]
        if told != spec.num_classes:
            raise UserError(
                f"the teacher of {context.name} tells {told} classes apart where {spec.name} has "
                f"{spec.num_classes}: make it again with 'python -m vitstudy run "
                f"{context.profile.name}/{spec.name}/teacher'"
            )
        self.bf16 = context.profile.teacher.bf16
        self.table: Tensor | None = None
        # Images that come one batch after the other are not kept, nor need they come again.
        kept = isinstance(context.data.train.images, Tensor)
        if kept and not (spec.shift or spec.flip):
            self.table = context.evaluate(self.model, context.data.train)

    @torch.no_grad()
    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        if self.table is not None:
            self.table = self.table.to(images.device)
            return self.table[indices]
        model = self.model.to(images.device).eval()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            return model(images).float()


# -- the row of the study -------------------------------------------------------------------------


def recipe(context: Context) -> Recipe:
    """The baseline's recipe with what the profile's teacher has of its own."""
    teacher, whole = context.profile.teacher, context.profile.recipe(context.data.spec.name)
    return replace(
        whole,
        steps=max(1, round(whole.steps * teacher.steps)),
        learning_rate=teacher.learning_rate,
        matrix_learning_rate=teacher.matrix_learning_rate,
        weight_decay=teacher.weight_decay,
        label_smoothing=teacher.label_smoothing,
        bf16=teacher.bf16,
    )


def compress(context: Context) -> nn.Module:
    """Train the profile's teacher from scratch, on what the baseline is trained on."""
    teacher, spec = context.profile.teacher, context.data.spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        model = ResidualNetwork(
            teacher.channels, teacher.blocks, teacher.stem_stride, spec.num_classes, spec.channels
        )
    return context.fit(model, recipe(context))


def validation_logits(context: Context, model: nn.Module) -> np.ndarray:
    """The logits (N, C) of the first validation images, the same ones for teacher and students."""
    logits = context.evaluate(model, context.data.validation.head(SAMPLES))
    return logits.numpy().astype(np.float16)


def analyse(context: Context, model: nn.Module) -> dict[str, np.ndarray]:
    """`validation_logits` and their images' labels (N,); and of the images that the teacher is
    least sure of, the places among those (K,) and the bytes (K, C, 32, 32).
    """
    logits, split = validation_logits(context, model), context.data.validation.head(SAMPLES)
    sure = torch.from_numpy(logits).float().softmax(1).amax(1)
    unsure = sure.argsort(stable=True)[:SHOWN]
    return {
        "logits": logits,
        "labels": split.labels.numpy(),
        "unsure": unsure.numpy(),
        "unsure_images": split.images[unsure].numpy(),
    }
