"""Claims as data: the kinds, quantities and conditions that `claims.toml` may use, by hand."""

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from vitstudy.conditions import COMPARISONS, FAILS, HOLDS, OPEN, PARTLY, UNTOLD, read_file
from vitstudy.errors import UserError
from vitstudy.survey import claims, judging, quantities
from vitstudy.survey.claims import Quantities, judged
from vitstudy.survey.quantities import Tables

L_TOP1 = [2, "MViTv2-L", "top1_percent"]  # 85.3
L_EER = [2, "MViTv2-L", "eer_percent"]  # 245.5
T_TOP1 = [2, "Castling-MViTv2-T", "top1_percent"]  # 84.1
T_EER = [2, "Castling-MViTv2-T", "eer_percent"]  # 26.7


@pytest.fixture(scope="module")
def t():
    return Tables()


def claim(**given):
    return {"section": "4", "line": 1, "says": "a claim", **given}


def holds(*conditions, computed="", **given):
    return claim(holds=list(conditions), computed=computed, **given)


TRUE, FALSE = {"of": L_TOP1, "above": 85}, {"of": L_TOP1, "above": 86}


@pytest.mark.parametrize(
    ("conditions", "verdict"),
    [
        ([TRUE], HOLDS),
        ([FALSE], FAILS),
        ([TRUE, TRUE], HOLDS),
        ([TRUE, FALSE], PARTLY),
        ([FALSE, FALSE], FAILS),
        ([{"all": [TRUE, TRUE]}], HOLDS),
        ([{"all": [TRUE, FALSE]}], FAILS),
        ([{"any": [TRUE, FALSE]}], HOLDS),
        ([{"any": [FALSE, FALSE]}], FAILS),
        ([{"all": [TRUE, FALSE]}, TRUE], PARTLY),
        ([{"each": [L_TOP1, T_TOP1], "above": 85}], PARTLY),
        ([{"every": [L_TOP1, T_TOP1], "above": 85}], FAILS),
        ([{"every": [L_TOP1, T_TOP1], "above": 84}], HOLDS),
        ([], OPEN),
    ],
)
def test_a_verdict_follows_from_the_parts_that_are_met(t, conditions, verdict):
    assert judged(holds(*conditions), t).verdict == verdict


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ({"of": L_TOP1, "above": T_TOP1}, True),
        ({"of": L_TOP1, "below": T_TOP1}, False),
        ({"of": L_TOP1, "at_least": 85.3}, True),
        ({"of": L_TOP1, "at_most": 85.2}, False),
        ({"of": L_TOP1, "about": 90}, True),
        ({"of": L_TOP1, "between": [T_TOP1, 86]}, True),
        ({"of": L_TOP1, "within": [86, 0.5]}, False),
        ({"of": L_TOP1, "is": 85.3}, True),
        ({"of": L_TOP1, "is": T_TOP1}, False),
        ({"of": L_TOP1, "reads": "85"}, True),
        ({"of": L_TOP1, "reads": "85.4"}, False),
        ({"of": L_TOP1, "among": [84.1, 85.3]}, True),
        ({"of": L_TOP1, "not_among": [84.1, 85.3]}, False),
        ({"of": [2, "MViTv2-L", "model"], "starts": "MViT"}, True),
        ({"of": [2, "MViTv2-L", "on_front"], "is": False}, False),
    ],
    ids=str,
)
def test_each_comparison_is_met_where_it_says(t, condition, met):
    assert Quantities(t, {}).met(condition) == [met]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (3, 3),
        (L_TOP1, 85.3),
        ([7, "APQ-ViT-Swin-S", "top1_percent", "W4A4"], 77.1),
        ([10, "Ortho-S", "miou_percent", "Semantic FPN"], 48.2),
        ([L_TOP1, T_TOP1], [85.3, 84.1]),
        ("l", 85.3),
        ("eighth.count", 4),
        ("eighth.size_MB.max", 107.6),
        ("eighth.weight_bits.unique", [32, 6]),
        ("eighth.weight_bits.unique.sorted", [6, 32]),
        ({"difference": [L_TOP1, T_TOP1]}, 1.2),
        ({"quotient": ["l", 2]}, 42.65),
        ({"product": [2, 3]}, 6),
        ({"mean": [L_TOP1, T_TOP1]}, 84.7),
        ({"greatest": [L_TOP1, T_TOP1]}, 85.3),
        ({"rounded": [L_TOP1, 0]}, 85),
        ({"less_percent": [3, 4]}, 25),
        ({"more_percent": [3, 4]}, -25),
        ({"differences": [[L_TOP1, 3], [T_TOP1, 1]]}, [1.2, 2]),
        ({"union": [[3, 1], [2, 1]]}, [1, 2, 3]),
        ({"outlier_limit": [[0, 0, 1, 1, 1]]}, 2.5),
        ({"reference": "size"}, 330),
        ({"met": {"each": [L_TOP1, T_TOP1], "above": 85}}, [True, False]),
        ({"cells": [8, ["TinyViT-21M"], ["size_MB", "flops_G"]]}, [84.0, 4.3]),
    ],
    ids=str,
)
def test_each_quantity_by_hand(t, given, value):
    assert Quantities(t, {"l": L_TOP1, "eighth": {"rows": 8}}).value(given) == pytest.approx(value)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"rows": 8, "where": {"top1_percent": {"above": 83.0}, "weight_bits": 6}}, ["NoisyQuant"]),
        ({"rows": 8, "where": {"top1_percent": {"above": 99}, "weight_bits": 6}}, []),
        ({"rows": 8, "models": ["TinyViT-21M", "Castling-MViTv2-T"]}, ["TinyViT", "Castling"]),
        ({"rows": 8, "least": "size_MB", "first": 2}, ["NoisyQuant", "TinyViT"]),
    ],
    ids=str,
)
def test_rows_are_chosen_by_condition_by_name_or_as_the_least(t, given, names):
    found = Quantities(t, {"chosen": given}).value("chosen.model")
    assert [name.partition("-")[0] for name in found] == names


def test_texts_write_lists_truths_and_rows(t):
    named = {
        "tops": [L_TOP1, T_TOP1],
        "on": [2, "MViTv2-L", "on_front"],
        "two": {"rows": 8, "least": "size_MB", "first": 2},
        "told": {"told": "two", "row": "{size_MB:g} MB", "by": "; "},
        "nobody": {"rows": 8, "where": {"size_MB": {"below": 0}}},
        "none": {"told": "nobody", "row": "{size_MB:g}", "none": "none"},
    }
    text = Quantities(t, named).text("{tops:.2f} {on:yes|no} {told}, {none}, {two.count}")
    assert text == "85.30, 84.10 yes 66 MB; 84 MB, none, 2"


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({"number": {"difference": [L_TOP1, T_TOP1]}, "stated": "1.2"}, HOLDS),
        ({"number": {"difference": [L_TOP1, T_TOP1]}, "stated": "1.3"}, UNTOLD),
        ({"number": {"difference": [L_TOP1, T_TOP1]}, "stated": "-1.2"}, FAILS),
        ({"repeats": [["85.3", L_TOP1], ["26.7", T_EER]]}, HOLDS),
        ({"repeats": [["85.3", L_TOP1], ["26.8", T_EER]]}, PARTLY),
        ({"repeats": [["85.5", L_TOP1]]}, FAILS),
        ({"highest": L_EER}, HOLDS),
        ({"highest": L_EER, "stated": "245.0"}, PARTLY),
        ({"highest": T_EER}, FAILS),
        ({"lowest": [8, "TinyViT-21M", "size_MB"]}, FAILS),
        ({"best": ["CA"]}, PARTLY),
        ({}, OPEN),
    ],
    ids=str,
)
def test_each_kind_of_claim_by_hand(t, given, verdict):
    assert judged(claim(**given), t).verdict == verdict


def test_what_rounding_allows_is_noted_before_the_claims_own_note(t):
    given = {"number": {"difference": [L_TOP1, T_TOP1]}, "stated": "1.3", "note": "mind {it:g}"}
    found = judged(claim(**given, **{"with": {"it": L_TOP1}}), t)
    assert found.note == "1.3 only within the rounding of the inputs (1.1 to 1.3); mind 85.3"


def test_a_note_may_depend_on_a_condition(t):
    assert judged(holds(TRUE, note="so", note_if=TRUE), t).note == "so"
    assert judged(holds(TRUE, note="so", note_if=FALSE), t).note == ""


def test_a_missing_quantity_makes_a_claim_that_cannot_be_checked(copied):
    t = Tables(copied(2, "MViTv2-L", "top1_percent", ""))
    for given in (
        holds(TRUE, computed="{x}", note="a note", **{"with": {"x": T_TOP1}}),
        claim(number={"difference": [L_TOP1, T_TOP1]}, stated="1.2"),
        claim(repeats=[["85.3", L_TOP1]]),
        claim(highest=L_TOP1),
    ):
        found = judged(given, t)
        assert (found.verdict, found.computed) == (OPEN, "")
        assert found.note == "Table 2 has no top1_percent of MViTv2-L"
    uncounted = holds({"of": {"counted": ["vit_base_patch16_224", "macs_G"]}, "above": 1})
    assert judged(uncounted, t).note == "nothing was counted: python -m vitstudy survey --count"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (holds({"of": "tpo1", "above": 1}), "unknown quantity 'tpo1'"),
        (holds({"of": [2, "MViTv2-X", "top1_percent"], "above": 1}), "no row 'MViTv2-X'"),
        (holds({"of": [2, "MViTv2-L", "top1"], "above": 1}), "unknown column of table 2 'top1'"),
        (holds({"of": [7, "APQ-ViT-Swin-S", "size_MB", "W2A2"], "is": 1}), "no row 'APQ.* W2A2'"),
        (holds({"of": {"ratio": [1, 2]}, "above": 1}), "unknown quantity 'ratio'; valid: rows"),
        (holds({"of": L_TOP1, "abov": 1}), "unknown comparison 'abov'"),
        (holds({"of": L_TOP1}), "comparisons none; valid is one"),
        (holds({"of": L_TOP1, "above": 1, "below": 2}), "comparisons above, below"),
        (holds({"above": 1}), "valid is one of `of`, `each`, `every`"),
        (holds({"of": L_TOP1, "above": "much"}), "unknown quantity 'much'"),
        (
            holds({"of": "second.top", "above": 1}, **{"with": {"second": {"rows": 2}}}),
            r"quantity second\.top: unknown column or reduction 'top'",
        ),
        (
            holds({"of": "x", "above": 1}, **{"with": {"x": {"rows": 2, "were": {}}}}),
            "quantity x: unknown key 'were'",
        ),
        (
            holds({"of": "x.count", "is": 1}, **{"with": {"x": {"rows": 11}}}),
            r"quantity x\.count: unknown table '11'",
        ),
        (
            holds({"of": "x.count", "is": 1}, **{"with": {"x": {"rows": 2, "least": "flops"}}}),
            r"quantity x\.count: unknown column of table 2 'flops'",
        ),
        (
            holds({"of": "x.count", "is": 1}, **{"with": {"x": {"row": 2, "where": {}}}}),
            r"quantity x\.count: unknown quantity 'row and where'",
        ),
        (holds(TRUE, computed="{top:g}"), "unknown quantity 'top'"),
        (claim(best=["CB"]), "unknown scope 'CB'"),
        (claim(bests=["CA"]), "unknown key 'bests'"),
        (claim(best=["CA"], highest=L_TOP1), "highest and best are given"),
        (claim(number=L_TOP1), "no stated is given"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_slip_in_the_data_is_an_error_that_names_claim_and_quantity(t, given, error):
    with pytest.raises(UserError, match=rf"^claim 'a claim': .*{error}"):
        judged(given, t)


@drawn(
    st.lists(st.floats(-10, 10), min_size=1, max_size=6),
    st.sampled_from(sorted(set(COMPARISONS) - {"between", "within"})),
    st.floats(-10, 10),
)
def test_every_is_all_of_each(values, comparison, limit):
    known = Quantities(None, {})
    each = known.met({"each": values, comparison: limit})
    assert known.met({"every": values, comparison: limit}) == [all(each)]
    assert each == [known.met({"of": value, comparison: limit})[0] for value in values]


def test_all_that_the_vocabulary_has_is_used_by_a_claim():
    text = claims.FILE.read_text(encoding="utf-8")
    for name in (*judging.ARITHMETIC, *quantities.FUNCTIONS):
        assert f"{name} = " in text or f".{name} = " in text, name
    assert all(claim["says"] for claim in read_file(claims.FILE)["claim"])
