"""Conditions as data: each comparison by hand, and what a slip in the data says."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitstudy import conditions
from vitstudy.conditions import (
    COMPARISONS,
    FAILS,
    HOLDS,
    PARTLY,
    Value,
    about,
    above,
    at_least,
    at_most,
    below,
    between,
    elsewhere,
    jointly,
    judge,
    region,
    within,
)
from vitstudy.errors import UserError


@pytest.mark.parametrize(
    ("said", "met", "not_met"),
    [
        ({"above": 1}, [1.001, 9], [1, 0.5]),
        ({"below": 1}, [0.999, -9], [1, 1.5]),
        ({"at_least": -5}, [-5, 0], [-5.01]),
        ({"at_most": 0.75}, [0.75, 0], [0.76]),
        ({"about": 2}, [1.8, 2.2], [1.79, 2.21]),
        ({"about": -10}, [-9, -11], [-8.9, -11.1]),
        ({"between": [1.1, 1.2]}, [1.1, 1.15, 1.2], [1.09, 1.21]),
        ({"within": [93, 1]}, [92, 93.5, 94], [91.9, 94.1]),
    ],
    ids=str,
)
def test_each_comparison_of_the_data_is_met_where_it_says(said, met, not_met):
    found = region(said)
    assert [found.holds(Value.exact(value)) for value in met] == [True] * len(met)
    assert [found.holds(Value.exact(value)) for value in not_met] == [False] * len(not_met)


def test_a_limit_may_be_named():
    named = {"little": 1.0}
    found = region({"within": [50, "little"]}, lambda each: named.get(each, each))
    assert (found.low, found.high) == (49, 51)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"abov": 1}, "unknown comparison 'abov'; valid: above, below, at_least"),
        ({}, "comparisons none; valid is one of above"),
        ({"above": 1, "below": 2}, "comparisons above, below; valid is one of"),
        ({"between": 1}, "between = .* gives no limits"),
        ({"above": "much"}, "above = .* gives no limits"),
    ],
    ids=str,
)
def test_a_slip_in_a_comparison_is_an_error_that_tells_it(said, error):
    with pytest.raises(UserError, match=error):
        region(said)


@given(
    st.sampled_from(sorted(COMPARISONS)),
    st.floats(-100, 100),
    st.floats(0, 50),
    st.floats(-200, 200),
)
def test_a_comparison_decides_every_exact_number(name, limit, width, number):
    limits = {"between": [limit, limit + width], "within": [limit, width]}.get(name, limit)
    found = region({name: limits})
    assert found.holds(Value.exact(number)) in (True, False)
    whole = Value(number, -math.inf, math.inf)
    assert found.holds(whole) is None


@given(st.lists(st.sampled_from([True, False]), min_size=1))
def test_more_needed_never_makes_a_better_verdict(met):
    order = [FAILS, PARTLY, HOLDS]
    ranks = [order.index(judge(met, need)) for need in ("all", "most", "any")]
    if judge(met, "all") == HOLDS:
        assert ranks == [2, 2, 2]
    assert ranks[1] <= ranks[2]
    assert (judge(met, "all") == PARTLY) == (any(met) and not all(met))


regions = st.sampled_from([above(0), below(0), at_least(0), at_most(0), above(2), at_least(-1)])
readings = st.sampled_from([True, False, None])


@given(st.one_of(regions, st.builds(within, st.floats(-9, 9), st.floats(0, 9))), readings)
def test_another_scale_refutes_an_ordering_alone_and_confirms_no_number(place, holds):
    there = elsewhere(place, holds)
    assert there in (holds, None)
    assert not (there is False and not place.is_ordering)
    assert not (there is not None and place.is_number)
    assert there is holds or holds is not True or place.is_number


def test_an_ordering_has_one_end_at_nought():
    assert above(0).is_ordering and at_most(0).is_ordering
    assert not above(1).is_ordering and not at_least(-5).is_ordering
    assert not between(0, 1).is_ordering and between(0, 1).is_number and about(-10).is_number
    assert not at_least(-5).is_number


@given(st.lists(readings, min_size=1))
def test_conditions_that_count_as_one_are_met_only_together(parts):
    assert (jointly(parts) is True) == all(part is True for part in parts)
    assert (jointly(parts) is False) == (False in parts)


def test_a_file_of_claims_that_is_absent_or_no_toml_says_so(tmp_path):
    path = tmp_path / "claims.toml"
    with pytest.raises(UserError, match="is absent; it comes with the package"):
        conditions.read_file(path)
    path.write_text("[[claim]\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"claims\.toml is no TOML: "):
        conditions.read_file(path)


def test_an_error_of_another_kind_keeps_its_kind_and_gets_the_claims_name():
    with pytest.raises(ZeroDivisionError) as raised, conditions.naming("claim x"):
        _ = 1 / 0
    assert raised.value.__notes__ == ["in claim x"]
