"""The record's fields, and the schema published beside them."""

import copy
import dataclasses
import json

import jsonschema
import pytest

from vitstudy import files, record
from vitstudy.record import Record

SCHEMA = json.loads((files.SOURCE / "record.schema.json").read_text())
OPTIONAL = {
    "engine",
    "energy_joules",
    "evaluation_batch",
    "accuracy_alone",
    "flips_alone",
    "adopted",
}
"""Fields that the first committed records were written without."""
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture(scope="session")
def values(smoke_home) -> list[dict]:
    paths = sorted((smoke_home / "results" / "smoke" / "records").rglob("*.json"))
    assert len(paths) >= 4
    return [json.loads(path.read_text()) for path in paths]


@pytest.fixture
def value(values) -> dict:
    return copy.deepcopy(next(each for each in values if each["method"] == "dynamic"))


def failed() -> dict:
    return Record(
        schema=record.SCHEMA,
        profile="smoke",
        dataset="digits",
        method="dynamic",
        seed=0,
        status="failed",
        command="python -m vitstudy run smoke/digits/dynamic/seed0",
        fingerprint="0" * 64,
        options={},
        parents={},
        dataset_hash="0" * 64,
        error="the loss is nan at step 10",
    ).to_json()


def test_schema_and_dataclass_name_the_same_fields_in_the_same_order():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    names = [field.name for field in dataclasses.fields(Record)]
    assert list(SCHEMA["properties"]) == names
    assert SCHEMA["required"] == [name for name in names if name not in OPTIONAL]
    assert SCHEMA["additionalProperties"] is False
    assert SCHEMA["properties"]["schema"]["const"] == record.SCHEMA
    assert all(each["description"] for each in SCHEMA["properties"].values())


def test_records_as_computed_are_valid(values):
    for each in values:
        VALIDATOR.validate(each)


def test_a_failed_record_is_valid_without_measurements_but_not_without_its_error():
    VALIDATOR.validate(failed())
    assert not VALIDATOR.is_valid({**failed(), "error": None})
    assert not VALIDATOR.is_valid({**failed(), "accuracy": 0.5})


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy": None},
        {"accuracy": 98.5},
        {"error": "something"},
        {"extra": 1},
        {"status": "finished"},
        {"schema": record.SCHEMA + 1},
        {"size_bytes": 0},
        {"artifact_sha256": "abc"},
        {"layers_skipped": ["norm"]},
        {"flips": None},
        {"simulated": "no"},
    ],
    ids=str,
)
def test_a_record_that_says_something_else_is_not_valid(value, change):
    VALIDATOR.validate(value)
    assert not VALIDATOR.is_valid({**value, **change})


def test_a_record_without_a_field_is_not_valid(value):
    for name in set(value) - OPTIONAL:
        assert not VALIDATOR.is_valid({k: v for k, v in value.items() if k != name}), name


def test_json_gives_back_the_record(value):
    assert Record.from_json(value).to_json() == value


@pytest.mark.parametrize(
    "change", [{"schema": record.SCHEMA + 1}, {"schema": None}, {"colour": "red"}], ids=str
)
def test_another_schemas_record_reads_as_none(value, change):
    assert Record.from_json({**value, **change}) is None


def test_a_record_that_lacks_what_made_it_reads_as_none(value):
    del value["fingerprint"]
    assert Record.from_json(value) is None
    assert Record.from_json({}) is None


def test_times_are_fields():
    assert set(record.TIMES) <= {field.name for field in dataclasses.fields(Record)}
