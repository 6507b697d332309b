"""How a method makes a model and how that becomes a file: for a cell and for a user's own model."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from vitstudy import models
from vitstudy.methods import Method

if TYPE_CHECKING:
    from vitstudy.context import Context


def made(method: Method, context: Context) -> nn.Module:
    """What `method` makes of what `context` gives, in memory."""
    return import_module(method.module).compress(context)


def kept(
    model: nn.Module, method: Method, context: Context, path: Path, report: dict | None = None
) -> nn.Module:
    """Write what `method` made to `path`, and give the model that the file holds.

    What is measured and used is always what was read from the file.
    """
    models.save(model, path, method.packer, context.preprocessing, report)
    return models.load(path, context.likes)
