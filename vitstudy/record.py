"""The record of a cell: what was measured from its artifact, and what made it.

`record.schema.json` beside this file publishes the same fields as a JSON Schema.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from vitstudy import files, schema

SCHEMA = 1
"""Raised when a field changes its meaning: older records are then measured again."""


@dataclass
class Record:
    """What a cell's JSON file says.

    Fields that are None were not measured; those that docstrings call optional are absent from
    the first records.
    """

    schema: int
    profile: str
    dataset: str
    method: str
    seed: int
    status: str
    """`done` or `failed`; a failed one has `error` and no measurements, and is never a hit."""
    command: str
    """The command that computes the cell again."""
    fingerprint: str
    options: dict[str, Any]
    """Every option of the method, the profile's architecture and recipe, resolved."""
    parents: dict[str, str]
    """SHA-256 of the artifacts that the cell started from, by method."""
    dataset_hash: str
    error: str | None = None

    accuracy: float | None = None
    """Top-1 on the whole test split, 0..1."""
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    accuracy_interval: str | None = None
    per_class_accuracy: list[float] | None = None
    calibration_error: float | None = None
    flips: int | None = None
    """Test images whose class differs from the vanilla model's of the same seed."""
    flips_to_wrong: int | None = None
    flips_to_right: int | None = None
    test_images: int | None = None

    size_bytes: int | None = None
    """Bytes of the artifact's file."""
    size_mib: float | None = None
    parameters: int | None = None
    macs: int | None = None
    """Multiply-accumulates of one image."""
    weight_bits: float | None = None
    activation_bits: float | None = None
    simulated: bool | None = None
    """True where integer arithmetic is imitated in float; such a model has no speed."""
    engine: dict[str, Any] | None = None
    """The runtime, where that is not torch's own arithmetic: `name`, `version`, `opset` of an ONNX
    file, `provider` (what it computes with), the processor's `instruction_sets` and, of an ONNX
    file, the types of its integer `weights`. Optional: the first records were written without."""
    evaluation_batch: int | None = None
    """Number of images in a batch of the evaluation. Optional: the first records used 250."""
    accuracy_alone: float | None = None
    """Top-1 of images evaluated one by one, where an image's logits depend on those beside it."""
    flips_alone: int | None = None
    """Test images whose class differs between the batch and one by one."""
    layers_touched: list[str] | None = None
    layers_skipped: list[dict[str, str]] | None = None

    steps: int | None = None
    images_seen: int | None = None
    training_seconds: float | None = None
    seconds: float | None = None
    """Seconds that the whole cell took."""
    energy_joules: dict[str, float] | None = None
    """Energy that the whole cell took, by counter of the machine; None where it has none.
    Optional: the first records were written without."""
    created: str | None = None

    artifact_sha256: str | None = None
    predictions_sha256: str | None = None
    analysis_sha256: str | None = None
    sources: dict[str, str] | None = None
    """The package's files that made the artifact, each with the digest of what it computes."""
    adopted: dict[str, str | None] | None = None
    """The proof that a later change of the code computes the same: `since` which commit, and the
    `commit` at which that was proven. Optional: most records are as they were made."""
    commit: str | None = None
    lock_sha256: str | None = None
    versions: dict[str, str] | None = None
    threads: int | None = None
    cpu: str | None = None
    gpu: str | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record | None:
        """Make the record; None where the schema refuses `value`, for the reason in `problem`."""
        return None if problem(value) else cls(**value)

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return dataclasses.asdict(self)


@cache
def published_schema() -> dict[str, Any]:
    """Read the schema of a record that is published beside this file."""
    text = (files.SOURCE / "record.schema.json").read_text(encoding="utf-8")
    published: dict[str, Any] = json.loads(text)
    return published


def problem(value: dict[str, Any]) -> str:
    """Say what is wrong with a record's JSON; empty for a sound one.

    It is held against its schema, and its accuracy and size against its other fields.
    """
    if reason := schema.problem(value, published_schema()):
        return reason
    if value["status"] != "done":
        return ""
    if not value["accuracy_low"] <= value["accuracy"] <= value["accuracy_high"]:
        return f"accuracy is {value['accuracy']}, outside its interval"
    if value["size_mib"] != round(value["size_bytes"] / 2**20, 4):
        return f"size_mib is {value['size_mib']}, of {value['size_bytes']} bytes"
    return ""


TIMES = ("training_seconds", "seconds", "energy_joules", "created")
"""The fields in which two runs of the same cell may differ."""
