"""What a method's module, and the module that packs its models, must have and may have.

A method is an entry in `methods` that names two modules by their import paths: `module`, which
makes the model, and `packer`, which takes it apart for its file and puts it together again (most
methods leave that to `vitstudy.models`). Both are plain modules with plain functions; the classes
here say which, for a reader and for the tests, and nothing inherits from them.

CONTRIBUTING.md walks through one method from the paper to its row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from vitstudy.context import Context


@runtime_checkable
class Method(Protocol):
    """The module of every method."""

    def compress(self, context: Context[Any]) -> nn.Module:
        """A new model, on the CPU, made from what `context` gives: the models that the method
        starts from (`context.model()`), its settings (`context.config`), the data, `fit` and
        `evaluate`.

        It calls `context.touched` for each layer that it changed and `context.skipped`, with the
        reason, for each that it left although it is of the kind that the method is for.
        """


@runtime_checkable
class Analysed(Protocol):
    """A method whose notebook asks more of the weights than a record holds."""

    def analyse(self, context: Context[Any], model: nn.Module) -> dict[str, np.ndarray]:
        """Small arrays by name, from the model as it was loaded from its file."""


@runtime_checkable
class ChangesStructure(Protocol):
    """A method that gives the network another structure, through `models.changed`."""

    def rebuild(self, model: nn.Module, **settings: object) -> nn.Module:
        """The model with the structure that `settings`, plain JSON values, describe."""


@runtime_checkable
class LearnsBits(Protocol):
    """A method whose entry says `weight_bits=None`."""

    def mean_bits(self, model: nn.Module) -> float:
        """Bits of a quantized weight, the mean over all of them."""


@runtime_checkable
class Packer(Protocol):
    """The module that packs a method's models."""

    def pack(self, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors of the file, and what `unpack` needs to know besides, as plain JSON."""

    def unpack(self, tensors: dict[str, Tensor], description: dict[str, Any]) -> nn.Module:
        """The model that `pack` took apart, with the same logits to the bit."""


@runtime_checkable
class NotExported(Protocol):
    """The packer of models that `torch.export` does not take, or not all of them."""

    def why_not_exported(self, model: nn.Module) -> str:
        """The reason; empty where it does."""


@runtime_checkable
class Engine(Protocol):
    """The packer of models that another runtime computes, where torch counts nothing."""

    def facts(self, model: nn.Module, images: Tensor) -> dict[str, Any]:
        """A record's `parameters`, `macs` and `engine` of a model that takes such images."""
