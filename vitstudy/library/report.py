"""What was done to a user's own model, to read and to compute with."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields

MIB = 2**20
SHOWN = 3
"""Names that are written out of a group of layers."""


@dataclass(frozen=True)
class Report:
    """What a method did to a model, and what the model costs before and after.

    `str(report)` is a text to read, `report.to_dict()` plain values.
    """

    method: str
    title: str
    model: str
    """The class of the model that was given."""
    stages: list[str]
    """The methods that were applied, one after the other."""
    layers_touched: list[str]
    layers_skipped: list[dict[str, str]]
    """`layer`, `type` and `reason` of each layer that was left as it is."""
    bytes_before: int
    """Of the model's file in float32."""
    bytes_after: int
    parameters_before: int
    parameters_after: int
    macs_before: int
    """Multiply-accumulates of one input."""
    macs_after: int
    weight_bits: float
    activation_bits: float
    simulated: bool
    """Whether the model imitates in float the arithmetic that it is named for."""
    steps: int
    images_seen: int

    def to_dict(self) -> dict:
        """The fields by name, as plain values."""
        return asdict(self)

    def header(self) -> dict:
        """What the model's file says: all but the size of that file itself."""
        return {name: value for name, value in asdict(self).items() if name != "bytes_after"}

    @classmethod
    def of_file(cls, header: dict, size: int) -> Report:
        """The report in a file's header; `size` is the file's, in bytes."""
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in header.items() if name in known}
        return cls(**values, bytes_after=size)

    def line(self) -> str:
        """All of it in one line."""
        return (
            f"{self.method} ({self.title}) of {self.model}: {len(self.layers_touched)} layers "
            f"changed, {len(self.layers_skipped)} left as they are, "
            f"{_mib(self.bytes_before, self.bytes_after)}"
        )

    def __str__(self) -> str:
        lines = [f"{self.method} ({self.title}) of {self.model}"]
        if len(self.stages) > 1:
            lines.append(f"  stages      {', then '.join(self.stages)}")
        lines += [
            f"  file        {_mib(self.bytes_before, self.bytes_after)}",
            f"  parameters  {self.parameters_before:,} → {self.parameters_after:,}",
            f"  MACs        {self.macs_before:,} → {self.macs_after:,} an input",
            f"  bits        weights {self.weight_bits:g}, activations {self.activation_bits:g}"
            + (", imitated in float: smaller, not faster" if self.simulated else ""),
        ]
        if self.steps:
            lines.append(f"  trained     {self.steps:,} steps, {self.images_seen:,} images")
        lines.append(f"  changed     {_names(self.layers_touched)}")
        groups = Counter((each["type"], each["reason"]) for each in self.layers_skipped)
        for kind, reason in groups:
            names = [
                each["layer"]
                for each in self.layers_skipped
                if (each["type"], each["reason"]) == (kind, reason)
            ]
            lines.append(f"  left        {_names(names)} ({kind}): {reason}")
        return "\n".join(lines)


def _mib(before: int, after: int) -> str:
    return f"{before / MIB:.3f} → {after / MIB:.3f} MiB"


def _names(names: list[str]) -> str:
    """The first of `names`, and how many more there are."""
    more = len(names) - SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return (", ".join(names[:SHOWN]) or "no layer") + rest
