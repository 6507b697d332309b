"""vitstudy: a reproducible study of Vision-Transformer compression, every number from a file.

For a model of one's own: `compress(model, "lsq-w4", ...)`, `load(path)` and `list_methods()`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitstudy.errors import UserError
    from vitstudy.library.choices import list_methods
    from vitstudy.library.compressing import CompressedModel, compress, load

__version__ = "0.1.0"
__all__ = ["CompressedModel", "UserError", "compress", "list_methods", "load"]

_PLACES = {
    "CompressedModel": "vitstudy.library.compressing",
    "UserError": "vitstudy.errors",
    "compress": "vitstudy.library.compressing",
    "list_methods": "vitstudy.library.choices",
    "load": "vitstudy.library.compressing",
}


def __getattr__(name: str) -> object:
    """The public name `name`; its module, and torch with it, is imported on its first use."""
    if name not in _PLACES:
        raise AttributeError(f"module 'vitstudy' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """The names of the module, those that are not imported yet included."""
    return sorted({*globals(), *__all__})
