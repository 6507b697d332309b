"""A study made up of a few small records, in a folder of its own."""

import dataclasses

import numpy as np
import pytest

from vitstudy import files
from vitstudy.record import SCHEMA, Record
from vitstudy.study import Cell


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
            fingerprint="f",
            options={"recipe": {"batch_size": 16}, "limit": None},
            parents={},
            dataset_hash="d" * 64,
        )
        if status == "done":
            record.accuracy, record.accuracy_low, record.accuracy_high = 0.9, 0.85, 0.94
            record.accuracy_interval, record.test_images = "wilson", 100
            record.per_class_accuracy = [0.9] * 10
            record.size_bytes, record.size_mib = 104_858, 0.1
            record.simulated, record.macs, record.parameters = False, 1_000_000, 25_000
        record = dataclasses.replace(record, **given)
        files.write_json(cell.record_path, record.to_json())
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

    return write


@pytest.fixture
def add_speed(home):
    """Write a timing of `models`, by `dataset/method/seedK`: iterations per second and ratio.

    It is of the artifacts of the records that `add` makes up, which have no hash.
    """

    def write(profile, models, device="cpu") -> None:
        path = files.results(profile) / "speed.json"
        runs = (files.read_json(path) or {"runs": []})["runs"]
        found = {
            name: {
                "artifact_sha256": None,
                "iterations_per_second": speed,
                "ratio_to_vanilla": ratio,
            }
            for name, (speed, ratio) in models.items()
        }
        files.write_json(path, {"runs": [*runs, {"device": device, "models": found}]})

    return write
