"""What every row's settings have in common, and the settings of the rows without a method.

A method's settings are one frozen dataclass, a `Config`, and its entry in `methods` holds an
instance: a misspelt or a missing field is an error as soon as the entry is made, and
`compress(context)` reads them as `context.config`. A family's are in the `configs.py` of its
folder. These files compute nothing and do without torch: the list of methods is read in no time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


def optional() -> Any:
    """A field that is None where a row has no such setting, and then is none of its options."""
    return field(default=None, metadata={"optional": True})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a method, one a field, each a plain JSON value."""

    module: ClassVar[str]
    """The import path of the module whose `compress(context)` takes them."""

    def options(self) -> dict[str, Any]:
        """The settings as plain JSON, as a record keeps them."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        absent = {each.name for each in fields(self) if each.metadata.get("optional")}
        return {name: v for name, v in values.items() if v is not None or name not in absent}


@dataclass(frozen=True, kw_only=True)
class FineTuned(Config):
    """How a trained parent is trained on: shares of the profile's `steps` and learning `rate`.

    With `steps` 0 nothing is trained, and what only training reads is none of the options.
    """

    of_training: ClassVar[tuple[str, ...]] = ("rate",)
    """The fields that training alone reads."""
    steps: float = 0.1
    rate: float = 0.03

    def options(self) -> dict[str, Any]:
        unread = () if self.steps else self.of_training
        return {name: v for name, v in super().options().items() if name not in unread}


@dataclass(frozen=True, kw_only=True)
class Vanilla(Config):
    """The baseline, which has no settings beside its profile's."""

    module = "vitstudy.baseline"


@dataclass(frozen=True, kw_only=True)
class Continued(FineTuned):
    """The baseline trained on."""

    module = "vitstudy.finetuning"


@dataclass(frozen=True, kw_only=True)
class Narrower(Config):
    """A dense network of a share `width` of the profile's width."""

    module = "vitstudy.small"
    width: float


@dataclass(frozen=True, kw_only=True)
class SameBytes(Config):
    """A dense network of as many bytes as the file of the parent `bytes_of` holds."""

    module = "vitstudy.small"
    bytes_of: str
