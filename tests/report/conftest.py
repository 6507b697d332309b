"""A study made up of a few small records, in a folder of its own."""

import dataclasses

import numpy as np
import pytest

from vitstudy import files
from vitstudy.record import SCHEMA, Record
from vitstudy.study import Cell

MADE_UP = "a" * 64
"""The hash of a file that is not there."""


def fit_together(cell: Cell) -> None:
    """Let a cell's record say what the predictions beside it give, where there are any."""
    value = files.read_json(cell.record_path)
    if value is None or not cell.predictions_path.exists():
        return
    with np.load(cell.predictions_path) as kept:
        right = kept["classes"][:, 0] == kept["labels"]
    accuracy = float(right.mean())
    value |= {"accuracy": accuracy, "test_images": len(right)}
    value["accuracy_low"] = min(accuracy, value["accuracy_low"])
    value["accuracy_high"] = max(accuracy, value["accuracy_high"])
    value["predictions_sha256"] = files.sha256(cell.predictions_path)
    files.write_json(cell.record_path, value)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VITSTUDY_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def add(home):
    """Write a record as `study` would; what is not given is made up."""

    def write(profile, dataset, method, seed=0, status="done", **given) -> Record:
        cell = Cell(profile, dataset, method, seed)
        record = Record(
            schema=SCHEMA,
            profile=profile,
            dataset=dataset,
            method=method,
            seed=seed,
            status=status,
            command=f"python -m vitstudy run {cell}",
            fingerprint=MADE_UP,
            options={"recipe": {"batch_size": 16}, "limit": None},
            parents={},
            dataset_hash="d" * 64,
        )
        if status == "failed":
            record.error = "the loss is nan"
        else:
            record.calibration_error, record.weight_bits, record.activation_bits = 0.01, 32, 32
            record.artifact_sha256 = record.predictions_sha256 = MADE_UP
            record.layers_touched, record.layers_skipped = [], []
            record.steps, record.images_seen = 30, 480
            record.training_seconds, record.seconds = 1.0, 2.0
            if method != "vanilla":
                record.flips = record.flips_to_wrong = record.flips_to_right = 0
            record.accuracy, record.accuracy_low, record.accuracy_high = 0.9, 0.85, 0.94
            record.accuracy_interval, record.test_images = "wilson", 100
            record.per_class_accuracy = [0.9] * 10
            record.size_bytes, record.size_mib = 104_858, 0.1
            record.simulated, record.macs, record.parameters = False, 1_000_000, 25_000
        record = dataclasses.replace(record, **given)
        if status == "done":
            record.accuracy_low = min(record.accuracy_low, record.accuracy)
            record.accuracy_high = max(record.accuracy_high, record.accuracy)
            if "size_mib" in given:
                record.size_bytes = round(given["size_mib"] * 2**20)
            record.size_mib = round(record.size_bytes / 2**20, 4)
        files.write_json(cell.record_path, record.to_json())
        fit_together(cell)
        return record

    return write


@pytest.fixture
def add_predictions(home):
    """Write predictions of `labels` as `classes`, all with one confidence."""

    def write(cell, labels, classes, confidence=0.8) -> None:
        cell.predictions_path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            cell.predictions_path,
            labels=np.array(labels, np.uint8),
            classes=np.array(classes, np.uint8)[:, None],
            probabilities=np.full((len(labels), 1), confidence, np.float16),
        )
        fit_together(cell)

    return write


@pytest.fixture
def add_speed(home):
    """Write a timing of `models`, by `dataset/method/seedK`: iterations per second and ratio.

    It is of the artifacts of the records that `add` makes up.
    """

    def write(profile, models, device="cpu") -> None:
        path = files.results(profile) / "speed.json"
        runs = (files.read_json(path) or {"runs": []})["runs"]
        found = {
            name: {
                "artifact_sha256": MADE_UP,
                "iterations_per_second": speed,
                "ratio_to_vanilla": ratio,
            }
            for name, (speed, ratio) in models.items()
        }
        files.write_json(path, {"runs": [*runs, {"device": device, "models": found}]})

    return write
