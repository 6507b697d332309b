"""The papers' claims as data: what a table of conditions stands for, and what a slip in it says."""

import numpy as np
import pytest

from vitstudy.conditions import Region, about, above, at_least, below
from vitstudy.errors import UserError
from vitstudy.methods import METHODS
from vitstudy.report import claims, conditions
from vitstudy.report.claims import BOUNDS, NUMBERS, read

CONTENT = {
    "bounds": {"little": 1.0},
    "rows": {"two": ["lsq-w4", "diffq"]},
}


def read_one(*tables, **further):
    given = {"id": "x", "papers": "A", "section": "1", "says": "So.", **further}
    (claim,) = read({**CONTENT, "claim": [{**given, "conditions": list(tables)}]})
    return claim


def told(claim):
    return [(each.label, each.region) for each in claim.conditions]


def test_every_row_is_held_against_every_base_in_every_quantity_in_order():
    claim = read_one(
        {
            "of": ["two"],
            "base": ["dynamic", "vanilla"],
            "size": {"below": 1},
            "accuracy": {"above": 0},
        }
    )
    assert told(claim) == [
        (f"{quantity}, {row} {sign} {base}", region)
        for base in ("dynamic", "vanilla")
        for row in ("lsq-w4", "diffq")
        for quantity, sign, region in (("size", "/", below(1)), ("accuracy", "-", above(0)))
    ]


def test_a_base_is_vanilla_where_none_is_given():
    (condition,) = read_one({"of": "dynamic", "cpu_speed": {"between": [1.1, 1.2]}}).conditions
    same = conditions.cpu("dynamic", Region(1.1, 1.2))
    assert (condition.label, condition.region) == (same.label, same.region)
    assert condition.printed(1) == same.printed(1)


def test_conditions_of_a_row_count_as_one_where_they_are_joint():
    table = {"of": ["two"], "jointly": True, "size": {"below": 1}, "accuracy": {"above": 0}}
    names = [each.joint for each in read_one(table).conditions]
    assert names == ["lsq-w4", "lsq-w4", "diffq", "diffq"]
    assert {each.joint for each in read_one({**table, "jointly": False}).conditions} == {""}


def test_speed_is_asked_of_either_device():
    labels = [label for label, _ in told(read_one({"of": "dynamic", "speed": {"above": 1}}))]
    assert labels == ["GPU speed, dynamic / vanilla", "CPU speed, dynamic / vanilla"]


def test_a_limit_may_be_a_bounds_name_and_negative():
    claim = read_one({"of": "dynamic", "accuracy": {"at_least": "-little"}})
    assert told(claim) == [("accuracy, dynamic - vanilla", at_least(-1))]
    claim = read_one({"of": "diffq", "top1": {"within": [60.29, "little"]}})
    assert claim.conditions[0].region == Region(60.29 - 1, 60.29 + 1)


def test_growth_is_of_an_attention_that_is_no_row():
    claim = read_one({"of": "explicit", "growth": {"about": 2}})
    assert [region for _, region in told(claim)] == [about(2), about(2)]


def test_a_claim_without_more_is_about_both_tables_and_needs_all():
    claim = read_one()
    assert (claim.conditions, claim.tables, claim.need, claim.note) == ((), (1, 2), "all", "")
    assert claim.construction == ""


@pytest.mark.parametrize(
    ("table", "error"),
    [
        (
            {"of": "dynamic", "sise": {"below": 1}},
            "unknown key 'sise'; valid: of, base, jointly, accuracy",
        ),
        ({"of": "dynamik", "size": {"below": 1}}, "unknown row 'dynamik'"),
        ({"of": "dynamic", "base": "vanila", "size": {"below": 1}}, "unknown row 'vanila'"),
        ({"size": {"below": 1}}, "no of is given"),
        ({"of": "dynamic", "size": {"less": 1}}, "quantity size: unknown comparison 'less'"),
        ({"of": "dynamic", "size": {}}, "quantity size: comparisons none"),
        ({"of": "dynamic", "size": {"below": "shrnk"}}, "quantity size: unknown bound 'shrnk'"),
        ({"of": "two", "base": "dynamic", "top1": {"above": 1}}, "quantity top1: it takes no base"),
        ({"of": "dynamic", "parameters": {"above": 1}}, "quantity parameters: it is of vanilla"),
    ],
    ids=str,
)
def test_a_slip_in_a_condition_is_an_error_that_names_claim_and_quantity(table, error):
    with pytest.raises(UserError, match=f"^claim x: {error}"):
        read_one(table)


def test_a_slip_in_a_claim_is_an_error_that_names_it():
    with pytest.raises(UserError, match=r"^claim x: unknown need 'some'; valid: all, most, any"):
        read_one(need="some")
    with pytest.raises(UserError, match=r"^claim x: unknown key 'notes'"):
        read_one(notes="")


def test_the_files_rows_are_those_of_the_papers_and_its_vocabulary_is_used():
    groups = claims.read_file(claims.FILE)["rows"]
    papers = [method.key for method in METHODS]
    assert sorted(["vanilla", *groups["compressed"], *groups["distilled"]]) == sorted(papers)
    text = claims.FILE.read_text(encoding="utf-8")
    assert [name for name in NUMBERS if f" {name} = {{" not in text] == []
    assert [name for name in BOUNDS if f'{name}"' not in text] == []


def test_the_error_of_a_quarter_of_the_rank_is_the_mean_over_the_layers():
    error = np.array([[0.5, 0.2, 0.1, 0.05, 0.0], [0.3, 0.4, 0.1, 0.05, 0.0]])  # ranks 0 to 4
    assert claims._quarter_rank_error(error) == pytest.approx(0.3)
