"""Profiles: all that differs between the sizes at which the study runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from vitstudy.errors import unknown

EVALUATION_BATCH = 250
"""Number of images in a batch of the evaluation, on every profile."""


@dataclass(frozen=True)
class Architecture:
    """The shape of a Vision Transformer with a class token, as timm builds it."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float
    image_size: int = 32
    patch_size: int = 4
    """Height and width of a token, in pixels; a convolutional stem has the same."""
    stem: tuple[tuple[int, int, int], ...] = ()
    """Convolutions before the blocks: (channels, kernel, stride); empty for linear patches."""
    timm_name: str = ""
    """timm's name of the pretrained model to start from; empty for training from scratch."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: by a linear warm-up, then a linear decay to zero."""

    steps: int
    batch_size: int
    learning_rate: float = 2e-3
    """Learning rate of AdamW, for every parameter that is not a matrix in a block."""
    matrix_learning_rate: float = 0.02
    """Learning rate of Muon, for the matrices in the blocks; 0 leaves these to AdamW too."""
    weight_decay: float = 0.05
    warmup: float = 0.15
    """Share of the steps in which the learning rate rises."""
    label_smoothing: float = 0.1
    cutmix: float = 0.0
    """Share of the batches in which a box of each image, and as much of its label, is replaced."""
    bf16: bool = False
    """Whether training uses automatic mixed precision in bfloat16."""
    compile: bool = False
    """Whether the model is compiled by torch.compile, on a GPU only."""


@dataclass(frozen=True)
class Teacher:
    """A residual CNN to distil from, and how it is trained; the rest is as for the baseline."""

    channels: tuple[int, ...]
    """Channels of each stage; every stage but the first halves height and width."""
    blocks: int = 1
    """Number of residual blocks in a stage; a block is two 3×3 convolutions."""
    stem_stride: int = 1
    steps: float = 1.0
    """Training steps, as a share of the baseline's."""
    learning_rate: float = 2e-3
    matrix_learning_rate: float = 0.02
    """Learning rate of Muon, for every convolution but the first."""
    weight_decay: float = 0.05
    label_smoothing: float = 0.0
    """0, since smoothing hides what a teacher knows of the wrong classes (Müller et al., 2019)."""
    bf16: bool = False
    """Whether it computes in bfloat16 (mixed precision), when it is trained and when it teaches."""


@dataclass(frozen=True)
class Distilled:
    """The names of timm's distilled models to fine-tune; empty for distilling from scratch."""

    base: str = ""
    tiny: str = ""


@dataclass(frozen=True)
class Profile:
    """The data, the sizes and the machine of one run of the study."""

    name: str
    title: str
    machine: str
    datasets: tuple[str, str]
    """The set with 10 classes (Table 1) and the set with 100 (Table 2)."""
    architecture: Architecture
    recipes: tuple[Recipe, Recipe]
    """How the baseline is trained, on each of the two data sets."""
    teacher: Teacher
    distilled: Distilled = Distilled()
    seeds: tuple[int, ...] = (0,)
    vanilla_seeds: tuple[int, ...] = ()
    """Further seeds of vanilla alone, computed last: they show what a training's luck does."""
    threads: int = 0
    """Number of CPU threads of a cell, on which its results depend; 0 for all.

    One thread each for two cells side by side is faster than two threads for one after the other,
    and far faster where anything else runs: a thread that waits for its turn holds up the other.
    """
    limit: tuple[int, int, int, int] | None = None
    """The most images of train, calibration, validation and test; None for all."""
    tiers: tuple[str, ...] = ("paper", "survey", "control", "variant")
    """The tiers of methods (`methods.TIERS`) that it computes, with what those start from; the rest
    is computed when asked for by name."""
    leaves_out_data: tuple[str, ...] = ()
    """Data sets whose cells are computed only when asked for by name."""
    one_job: tuple[str, ...] = ()
    """Data sets whose cells are so short that one job takes them all: starting Python with torch
    for every family of methods would cost more than it gains."""
    committed: bool = True
    """Whether the repository holds the profile's records."""
    speed_rounds: int = 7
    """Number of turns that each model gets in an interleaved timing."""
    speed_batch: int = 64
    """Images in a batch of the timing; the papers' iterations per second fit about this size."""

    def recipe(self, dataset: str) -> Recipe:
        """Return how the baseline is trained on one of the profile's data sets."""
        return self.recipes[self.datasets.index(dataset)]

    def describe(self, dataset: str, also: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return all that the profile says about cells of `dataset`, as plain values.

        also: names of further fields, which concern only some methods.
        """
        return {
            "architecture": asdict(self.architecture),
            "recipe": asdict(self.recipe(dataset)),
            "limit": self.limit,
            "threads": self.threads,
            **{name: asdict(getattr(self, name)) for name in also},
        }


DIGITS = ("digits", "digit-pairs")
CIFAR = ("cifar10", "cifar100")

_digits = Profile(
    "digits",
    "Digits and pairs of digits, a ViT of 0.13 M parameters",
    "2 CPU cores",
    DIGITS,
    Architecture(
        width=64, depth=3, heads=4, mlp_ratio=2, stem=((16, 2, 2), (32, 3, 2), (64, 3, 1))
    ),
    (
        # Vanilla on validation and test images, %: 200 steps 96.25 and 97.50, 300 98.12 and 98.89;
        # of the pairs 400 steps 65.00 and 65.70, 600 91.50 and 94.70, 800 92.50 and 96.55.
        Recipe(steps=300, batch_size=32, weight_decay=0.5),
        Recipe(steps=600, batch_size=32, weight_decay=0.5, matrix_learning_rate=0.03),
    ),
    Teacher(channels=(16, 32, 64), stem_stride=2, weight_decay=0.5),
    threads=1,
    tiers=("paper", "control"),
    one_job=("digits",),
    committed=False,
    speed_rounds=5,
)
_cifar = Profile(
    "cifar",
    "CIFAR-10 and CIFAR-100, a ViT of 9 M parameters from scratch",
    "one GPU",
    CIFAR,
    Architecture(
        width=384,
        depth=6,
        heads=6,
        mlp_ratio=2,
        stem=(
            *((64, 3, 1), (64, 3, 1), (128, 3, 2), (128, 3, 1)),
            *((256, 3, 2), (256, 3, 1), (384, 3, 1)),
        ),
    ),
    # A step takes 27 ms on an H100, 33 ms where it is not compiled; 24 epochs of a network of
    # width 256 and 8 blocks without CutMix had learned the training images by heart.
    (Recipe(steps=28 * 87, batch_size=512, cutmix=0.5, bf16=True, compile=True),) * 2,
    Teacher(channels=(128, 256, 512), steps=0.75, bf16=True),
    seeds=(0, 1, 2),
)

PROFILES = {
    profile.name: profile
    for profile in (
        replace(
            _digits,
            name="smoke",
            title="A few hundred digits, 30 steps: tests only",
            architecture=Architecture(
                width=32, depth=2, heads=2, mlp_ratio=2, stem=((8, 2, 2), (16, 3, 2), (32, 3, 1))
            ),
            recipes=(Recipe(steps=30, batch_size=16),) * 2,
            limit=(256, 64, 64, 128),
            tiers=("paper", "survey", "control"),
            one_job=(),
            speed_rounds=3,
            speed_batch=16,
        ),
        _digits,
        # Chosen by 5,000 images that are neither trained on nor tested, after 3 epochs on CIFAR-10,
        # for the accuracy that a second of training buys. Width 96, 6 blocks, a stem of five
        # convolutions from 24 channels: 74.4 %. From there rates half as high again (Muon) and
        # twice as high (AdamW) 73.4 %, batches of 64 73.3 %, a stem from 32 channels 75.0 %, that
        # stem with a sixth convolution 76.9 %; with five, width 128 and 4 blocks 76.4 %.
        Profile(
            "cifar-cpu",
            "CIFAR-10 and CIFAR-100, a ViT of 0.9 M parameters from scratch",
            "2 CPU cores",
            CIFAR,
            Architecture(
                width=128,
                depth=4,
                heads=4,
                mlp_ratio=2,
                stem=(
                    *((32, 3, 1), (64, 3, 2), (64, 3, 1), (64, 3, 1)),
                    *((128, 3, 2), (128, 3, 1)),
                ),
            ),
            # In float32: a CPU without units for bfloat16 takes twelve times as long to imitate it.
            # The rows that were committed first were trained in bfloat16, as their records say.
            (Recipe(steps=12 * 351, batch_size=128),) * 2,
            Teacher(channels=(32, 64, 128, 128)),
            vanilla_seeds=(1, 2),
            threads=1,
        ),
        _cifar,
        replace(
            _cifar,
            name="cifar224",
            title="CIFAR-10 at 224 pixels, a ViT-S/16-shaped model from scratch",
            architecture=Architecture(
                width=384, depth=12, heads=6, mlp_ratio=4, image_size=224, patch_size=16
            ),
            recipes=(Recipe(steps=10_500, batch_size=256, bf16=True, compile=True),) * 2,
            teacher=replace(_cifar.teacher, steps=1.0),
            leaves_out_data=("cifar100",),
        ),
        replace(
            _cifar,
            name="paper",
            title="The papers' own setting: pretrained ViT-B/16 at 224 pixels, fine-tuned",
            machine="GPUs",
            teacher=Teacher(channels=(128, 256, 512), steps=10, bf16=True),
            distilled=Distilled(
                base="deit_base_distilled_patch16_224", tiny="deit_tiny_distilled_patch16_224"
            ),
            architecture=Architecture(
                width=768,
                depth=12,
                heads=12,
                mlp_ratio=4,
                image_size=224,
                patch_size=16,
                timm_name="vit_base_patch16_224",
            ),
            recipes=(
                Recipe(
                    steps=2_100,
                    batch_size=64,
                    learning_rate=3e-5,
                    matrix_learning_rate=0,
                    weight_decay=0,
                    label_smoothing=0,
                    bf16=True,
                ),
            )
            * 2,
        ),
    )
}


def get(name: str) -> Profile:
    """Return the profile `name`; raise UserError, which names the valid ones, for another name."""
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    return PROFILES[name]
