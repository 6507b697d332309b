"""Every committed record: its schema, its predictions, and its numbers counted again from them."""

import csv
import json
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from vitstudy import data, files, methods, profiles

SCHEMA = json.loads((files.SOURCE / "record.schema.json").read_text())


def problems(path: Path) -> list[str]:
    """What is wrong with the record in `path`; an empty list for a sound one."""
    record = json.loads(path.read_text(encoding="utf-8"))
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(record)
    if found := [f"schema: {error.json_path}: {error.message}" for error in errors]:
        return found
    *_, profile, folder, dataset, method, name = path.parts
    place = [record["profile"], "records", record["dataset"], record["method"]]
    if [profile, folder, dataset, method, name] != [*place, f"seed{record['seed']}.json"]:
        found.append("it lies in another cell's place")
    if record["status"] != "done":
        return [*found, f"it failed: {record['error']}"]
    predictions = path.with_suffix(".npz")
    if not predictions.exists():
        return [*found, "its predictions are absent"]
    if files.sha256(predictions) != record["predictions_sha256"]:
        return [*found, "its predictions have another hash"]
    with np.load(predictions, allow_pickle=False) as content:
        labels, classes = content["labels"], content["classes"]
        probabilities = content["probabilities"].astype(float)
    right = classes[:, 0] == labels
    number = data.spec(record["dataset"]).num_classes
    per_class = [right[labels == label] for label in range(number)]
    counted = {
        "test_images": len(labels),
        "accuracy": right.mean(),
        "per_class_accuracy": [round(each.mean(), 6) if len(each) else None for each in per_class],
        "size_mib": round(record["size_bytes"] / 2**20, 4),
    }
    if method != "vanilla":
        with np.load(path.parents[1] / "vanilla" / predictions.name) as content:
            before = content["classes"][:, 0]
        counted["flips"] = (before != classes[:, 0]).sum()
        counted["flips_to_wrong"] = ((before == labels) & ~right).sum()
        counted["flips_to_right"] = ((before != labels) & right).sum()
    found += [
        f"{name} is {record[name]}, counted again {value}"
        for name, value in counted.items()
        if record[name] != value
    ]
    if not record["accuracy_low"] <= record["accuracy"] <= record["accuracy_high"]:
        found.append("its accuracy lies outside its interval")
    if (np.diff(probabilities) > 0).any() or not (probabilities >= 0).all():
        found.append("its probabilities are not in order")
    if any(len(set(row)) != len(row) for row in classes.tolist()):
        found.append("a class is predicted twice for an image")
    row = methods.get(method)
    said = (record["weight_bits"], record["activation_bits"], record["simulated"])
    learned = row.weight_bits is None and 1 <= record["weight_bits"] <= 16
    bits = record["weight_bits"] if learned else row.weight_bits
    if said != (bits, row.activation_bits, row.simulated):
        found.append("its bits are not those of the method")
    if record["analysis_sha256"]:
        analysis = path.parents[3] / "analysis" / dataset / method / predictions.name
        if not analysis.exists() or files.sha256(analysis) != record["analysis_sha256"]:
            found.append("its analysis is absent or another")
    return found


def records(root: Path, committed: bool) -> list[Path]:
    names = [
        profile.name for profile in profiles.PROFILES.values() if profile.committed == committed
    ]
    return [
        path
        for name in names
        for path in sorted((root / "results" / name / "records").rglob("*.json"))
    ]


def test_committed_records_are_sound():
    wrong = {str(path): problems(path) for path in records(files.REPOSITORY, committed=True)}
    assert {path: found for path, found in wrong.items() if found} == {}


def test_every_committed_predictions_file_has_its_record():
    folders = {path.parent for path in records(files.REPOSITORY, committed=True)}
    for folder in folders:
        counts = Counter(path.stem for path in folder.iterdir() if path.suffix in (".json", ".npz"))
        assert set(counts.values()) == {2}, folder


def test_the_full_test_split_is_what_committed_records_are_of():
    for path in records(files.REPOSITORY, committed=True):
        record = json.loads(path.read_text())
        assert record["test_images"] == data.spec(record["dataset"]).sizes[3]


# The checker itself, on records that are there whatever is committed.


def test_smoke_records_are_sound(smoke_home):
    found = records(smoke_home, committed=False)
    assert len(found) >= 4
    assert [problems(path) for path in found] == [[]] * len(found)


@pytest.fixture
def first(with_cells):
    """Two cells of it, to be falsified."""
    return with_cells("vanilla", "dynamic")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"accuracy": 0.99}, "accuracy is 0.99, counted again"),
        ({"test_images": 127}, "test_images is 127, counted again 128"),
        ({"size_mib": 84.0}, "size_mib is 84.0, counted again"),
        ({"flips": 100}, "flips is 100, counted again"),
        ({"per_class_accuracy": [1.0] * 10}, "per_class_accuracy is"),
        ({"predictions_sha256": "0" * 64}, "its predictions have another hash"),
        ({"seed": 1}, "it lies in another cell's place"),
        ({"method": "vanilla"}, "it lies in another cell's place"),
        ({"weight_bits": 4}, "its bits are not those of the method"),
        ({"accuracy": "high"}, "schema: $.accuracy"),
        ({"status": "failed", "error": "nan"}, "schema: "),
    ],
    ids=str,
)
def test_a_falsified_record_is_found(first, change, told):
    path = first / "results/smoke/records/digits/dynamic/seed0.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert any(told in each for each in problems(path)), problems(path)


def test_falsified_or_absent_predictions_are_found(first):
    path = first / "results/smoke/records/digits/vanilla/seed0.json"
    with np.load(path.with_suffix(".npz")) as content:
        arrays = dict(content)
    arrays["classes"][:, 0] = arrays["labels"]
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    assert problems(path) == ["its predictions have another hash"]
    sha = files.sha256(path.with_suffix(".npz"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "predictions_sha256": sha}))
    assert any("accuracy is" in each for each in problems(path))
    path.with_suffix(".npz").unlink()
    assert problems(path) == ["its predictions are absent"]


def test_an_absent_analysis_is_found(first):
    (first / "results/smoke/analysis/digits/vanilla/seed0.npz").unlink()
    path = first / "results/smoke/records/digits/vanilla/seed0.json"
    assert problems(path) == ["its analysis is absent or another"]


def test_every_change_of_a_committed_cell_ends_at_the_number_that_is_committed():
    path = files.REPOSITORY / "results" / "CHANGES.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["why"] and row["accuracy_before"] and row["size_before"] for row in rows)
    last = {row["cell"]: row for row in rows}
    for name, row in last.items():
        profile, dataset, method, seed = name.split("/")
        record = files.read_json(
            files.REPOSITORY / "results" / profile / "records" / dataset / method / f"{seed}.json"
        )
        if row["accuracy"]:
            assert (float(row["accuracy"]), int(row["size"])) == (
                record["accuracy"],
                record["size_bytes"],
            ), name
        else:
            assert row["why"].startswith("dropped"), name
    of_recipe = [row for row in rows if "the recipe changed" in row["why"]]
    assert len(of_recipe) == 36 and [row["accuracy"] for row in of_recipe].count("") == 11
