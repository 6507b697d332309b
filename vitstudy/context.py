"""What a method may use: the baseline, the splits, the profile, the seed, `fit` and `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor, nn

from vitstudy import models, training
from vitstudy.configs import Config
from vitstudy.data import Dataset, Split, preprocessing
from vitstudy.profiles import EVALUATION_BATCH, Profile, Recipe
from vitstudy.structure import Like

Settings = TypeVar("Settings", bound=Config)


@dataclass
class Context(Generic[Settings]):
    """What `compress(context)` is given to make a model of, and where it notes what it did."""

    profile: Profile
    data: Dataset
    seed: int
    name: str
    """The cell's, for progress and messages."""
    config: Settings
    """The settings of the cell's method."""
    artifacts: dict[str, Path]
    """The files of the methods that this one starts from, by key, the method's own first."""
    checkpoints: Path
    """A folder that is emptied once the artifact is safe."""
    device: str | None = None
    loss: training.Loss | None = None
    """What `fit` minimises where a method gives no loss; None for the labels' cross-entropy."""
    likes: tuple[Like, ...] = ()
    """Structures of the networks in those files that are a user's own."""
    layers_touched: list[str] = field(default_factory=list)
    layers_skipped: list[dict[str, str]] = field(default_factory=list)
    stages: int = 0
    steps: int = 0
    images_seen: int = 0
    training_seconds: float = 0.0

    @property
    def preprocessing(self) -> dict:
        """What a file says of the images that its model takes: `data.preprocessing`."""
        return preprocessing(self.data.spec.name, self.profile.architecture.image_size)

    def model(self, key: str | None = None) -> nn.Module:
        """A fresh copy of the parent `key`, by default the first, as its file has it."""
        return models.load(self.artifacts[key or next(iter(self.artifacts))], self.likes)

    def checkpoint(self) -> Path | None:
        """Where the next training is kept until the artifact is safe; None for nowhere.

        A method may train several times: a stage that was finished goes on from its end.
        """
        return self.checkpoints / f"stage{self.stages}.pt"

    def fit(
        self, model: nn.Module, recipe: Recipe | None = None, loss: training.Loss | None = None
    ) -> nn.Module:
        """Train `model` in place, by the profile's recipe where none is given, and count it."""
        took = training.fit(
            model,
            self.data,
            recipe or self.profile.recipe(self.data.spec.name),
            seed=self.seed,
            name=self.name,
            image_size=self.profile.architecture.image_size,
            checkpoint=self.checkpoint(),
            loss=loss or self.loss,
        )
        self.stages += 1
        self.steps += took["steps"]
        self.images_seen += took["images_seen"]
        self.training_seconds += took["seconds"]
        return model

    def evaluate(
        self, model: nn.Module, split: Split, batch_size: int = EVALUATION_BATCH
    ) -> Tensor:
        """The logits (N, num_classes) of every image of `split`, float32 on the CPU."""
        return training.evaluate(
            model,
            self.data,
            split,
            image_size=self.profile.architecture.image_size,
            batch_size=batch_size,
            device=self.device,
        )

    def touched(self, name: str) -> None:
        """Note that the method changed the layer `name`."""
        self.layers_touched.append(name)

    def skipped(self, name: str, kind: str, reason: str) -> None:
        """Note that the method left the layer `name` of type `kind` as it is, and why."""
        self.layers_skipped.append({"layer": name, "type": kind, "reason": reason})
