"""What notebook 11 takes from the study: its baseline as a user's model, and images for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from vitstudy import data, models, profiles
from vitstudy.profiles import Profile
from vitstudy.report import style
from vitstudy.study import Cell

CALIBRATION, TRAIN, TEST = 64, 512, 256
"""So many images of each split at most: the notebook is to be run in some seconds."""
LARGE, FEW = 64, 32
"""Of images with longer sides than this, in pixels, so few of each split."""


@dataclass(frozen=True)
class Images:
    """Images as a model takes them: (N, C, H, W) float32."""

    calibration: Tensor
    train: TensorDataset
    test: Tensor
    labels: Tensor
    """Of the test images, (N,)."""
    sentence: str
    """What model and images these are, in Markdown."""


def baseline(profile: str) -> tuple[nn.Module, Images]:
    """The baseline of the profile's first data set and first seed, and images of that set.

    Where its file or the data are not at hand, as where a committed profile is shown from its
    records, the same network with random weights or random images stand in, and the sentence says
    so.
    """
    known = profiles.get(profile)
    name = known.datasets[0]
    spec, cell = data.spec(name), Cell(profile, name, "vanilla", known.seeds[0])
    if cell.artifact_path.exists():
        model, told = models.load(cell.artifact_path), f"The model is that of **{cell}**"
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = models.build(known.architecture, spec.num_classes, spec.channels).eval()
        told = f"The file of {cell} is not at hand: its network with random weights stands in"
    if data.at_hand(name):
        images = _of_data(known, name)
        return model, Images(*images, f"{told}; the images are {spec.title}.")
    return model, Images(*_drawn(known, spec), f"{told}; so do random images for {spec.title}.")


def _of_data(profile: Profile, name: str) -> tuple[Tensor, TensorDataset, Tensor, Tensor]:
    given, size = data.load(name, profile.limit), profile.architecture.image_size
    most = TRAIN if size <= LARGE else FEW
    heads = [
        each.head(min(count, most))
        for each, count in (
            (given.calibration, CALIBRATION),
            (given.train, TRAIN),
            (given.test, TEST),
        )
    ]
    calibration, train, test = (given.normalise(each.images, size) for each in heads)
    return calibration, TensorDataset(train, heads[1].labels), test, heads[2].labels


def _drawn(profile: Profile, spec: data.Spec) -> tuple[Tensor, TensorDataset, Tensor, Tensor]:
    generator, size = torch.Generator().manual_seed(0), profile.architecture.image_size
    images = torch.randn(CALIBRATION, spec.channels, size, size, generator=generator)
    labels = torch.arange(CALIBRATION) % spec.num_classes
    return images, TensorDataset(images, labels), images, labels


@torch.inference_mode()
def accuracy(model: nn.Module, images: Images) -> float:
    """The share of the test images that `model` puts into the right class, percent."""
    return 100 * (model(images.test).argmax(1) == images.labels).double().mean().item()


@style.styled
@torch.inference_mode()
def logits_figure(model: nn.Module, small: nn.Module, images: Images, title: str) -> Figure:
    """Each logit of `small` against that of `model`, on 32 test images."""
    before, after = (each(images.test[:32]).flatten().numpy() for each in (model, small))
    figure = style.figure(4.5, 4.2)
    axes = figure.subplots()
    ends = [min(before.min(), after.min()), max(before.max(), after.max())]
    axes.plot(ends, ends, color=style.GREY, linewidth=1)
    axes.plot(before, after, ".", markersize=4)
    axes.set(title=title, xlabel="logit of the float model", ylabel="logit of the smaller model")
    return figure
