"""The package's own reading of a schema says what the usual validator says."""

import copy
import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitstudy import files, schema, study
from vitstudy.record import published_schema

SCHEMA = published_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
RECORDS = sorted((files.REPOSITORY / "results/cifar-cpu/records").rglob("*.json"))[::12]
VALUES = st.one_of(
    *(st.none(), st.booleans(), st.integers(-2, 200), st.floats(allow_nan=False)),
    *(st.text(max_size=3), st.lists(st.integers(), max_size=2)),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@given(st.sampled_from(RECORDS), st.data())
def test_a_changed_record_is_valid_where_jsonschema_says_so(path, data):
    value = json.loads(path.read_text())
    assert schema.problem(value, SCHEMA) == ""
    for name in data.draw(st.lists(st.sampled_from(sorted(value)), min_size=1, max_size=2)):
        value[name] = data.draw(VALUES)
    if data.draw(st.booleans()):
        value.pop(data.draw(st.sampled_from(sorted(value))))
    assert (schema.problem(value, SCHEMA) == "") == VALIDATOR.is_valid(value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"accuracy": "high"}, "accuracy is 'high', no number or null"),
        ({"accuracy": 1.5}, "accuracy is 1.5, above 1"),
        ({"macs": None}, "macs is None"),
        ({"colour": "red"}, "it has an unknown colour"),
        ({"layers_skipped": [{"layer": "norm"}]}, "layers_skipped[0] has no type, reason"),
        ({"dataset_hash": "abc"}, "dataset_hash is 'abc', not like"),
    ],
    ids=str,
)
def test_the_message_names_the_field_and_what_is_wrong(change, told):
    value = {**json.loads(RECORDS[0].read_text()), **change}
    assert told in schema.problem(value, SCHEMA)


def test_a_keyword_that_is_not_known_is_refused_rather_than_passed_over():
    changed = copy.deepcopy(SCHEMA)
    changed["properties"]["seed"]["multipleOf"] = 2
    with pytest.raises(ValueError, match="'multipleOf' is not known"):
        schema.problem(json.loads(RECORDS[0].read_text()), changed)


def test_every_committed_record_reads_as_sound(monkeypatch):
    monkeypatch.delenv("VITSTUDY_HOME")
    found = (files.REPOSITORY / "results").glob("*/records/*/*/*.json")
    cells = [
        study.Cell(place.parts[-5], *place.parts[-3:-1], int(place.stem.removeprefix("seed")))
        for place in found
    ]
    assert len(cells) > 100
    assert {str(cell): study.damage(cell) for cell in cells if study.read(cell) is None} == {}
