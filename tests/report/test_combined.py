"""Pairs of methods against the sum of their parts, and the Pareto front."""

import numpy as np
import pandas as pd
import pytest

from vitstudy import methods
from vitstudy.report import combined, combined_figures, style
from vitstudy.study import Cell


def test_every_pair_in_both_orders_is_measured_or_has_a_reason():
    orders = [(pair.first, pair.second) for pair in combined.PAIRS]
    names = list(combined.SINGLES)
    assert sorted(orders) == sorted((a, b) for a in names for b in names if a != b)
    for pair in combined.PAIRS:
        assert bool(pair.key) != bool(pair.why_not)
        for key in (pair.key, *pair.parts) if pair.key else ():
            assert methods.get(key).key == key


def test_a_pair_is_a_cell_on_the_first_methods_model():
    for pair in combined.PAIRS:
        if pair.key and pair.second != "distillation" and "+vtp" not in pair.key:
            assert methods.get(pair.key).parents[0] == combined.SINGLES[pair.first]
        elif pair.key and pair.second == "distillation":
            alone, taught = methods.get(combined.SINGLES[pair.first]), methods.get(pair.key)
            assert taught.parents == (*alone.parents, "teacher")
            assert {**alone.options, **taught.options} == taught.options
    gates, cut, tuned = (
        methods.get(f"deit-base+{step}") for step in ("vtp-gates", "vtp-r0.2-cut", "vtp-r0.2")
    )
    assert (gates.parents, cut.parents, tuned.parents) == (
        ("deit-base",),
        (gates.key,),
        (cut.key,),
    )


@pytest.fixture
def measured(add, add_predictions):
    """Ten images: vanilla 10 right, DeiT 9, int8 8, both 7."""
    for key, right, size in (
        ("vanilla", 10, 1.0),
        ("deit-base", 9, 1.1),
        ("dynamic", 8, 0.5),
        ("deit-base+dynamic", 7, 0.4),
    ):
        cell = Cell("digits", "digits", key, 0)
        add("digits", "digits", key, accuracy=right / 10, size_mib=size)
        add_predictions(cell, [1] * 10, [1] * right + [0] * (10 - right))


def test_a_pair_is_held_against_the_sum_of_its_parts(measured):
    (row,) = combined.pairs("digits", 1).to_dict("records")
    assert row["key"] == "deit-base+dynamic"
    assert row["change"] == pytest.approx(-30)
    assert row["sum_of_parts"] == pytest.approx(-30)
    assert row["together"] == pytest.approx(0)
    assert row["low"] <= 0 <= row["high"]
    assert row["size_share"] == pytest.approx(40) and row["size_product"] == pytest.approx(55)
    assert np.isnan(row["cpu_ratio"])
    assert combined.pairs("digits", 2).empty


def test_the_front_holds_what_nothing_beats():
    accuracy = pd.Series([90.0, 95.0, 95.0, 80.0, 95.0])
    size = pd.Series([1.0, 2.0, 3.0, 1.5, 2.0])
    assert combined.on_front(accuracy, size) == [True, True, False, False, True]


def test_the_field_leaves_the_teacher_out_and_marks_the_pairs(measured, add):
    add("digits", "digits", "teacher", accuracy=1.0, size_mib=0.1)
    frame = combined.field("digits", 1).set_index("key")
    assert list(frame.index) == ["vanilla", "dynamic", "deit-base", "deit-base+dynamic"]
    assert frame["pair"].tolist() == [False, False, False, True]
    assert frame["front"].tolist() == [True, True, False, True]


def test_findings_name_the_best_and_say_when_there_is_none(measured):
    lines = combined.findings(combined.pairs("digits", 1), combined.field("digits", 1))
    assert "0 lose more" in lines[0] and "70.00 %" in lines[1]
    assert "1 of the 3 models on the front over all 4" in lines[-1]
    nothing = combined.findings(combined.pairs("digits", 2), combined.field("digits", 2))
    assert nothing == ["- No pair is measured on this profile yet."]


def test_figures_are_drawn_with_and_without_pairs(measured):
    frames = [combined.pairs("digits", which) for which in (1, 2)]
    fields = [combined.field("digits", which) for which in (1, 2)]
    for figure in (
        combined_figures.together(frames, ["one", "two"]),
        combined_figures.front(fields, ["one", "two"]),
    ):
        assert style.render(figure, "png").startswith(b"\x89PNG")


def test_orders_are_compared_where_both_were_measured():
    rows = [
        ("pruning 0.2", "distillation", 90.0),
        ("distillation", "pruning 0.2", 92.0),
        ("distillation", "dynamic int8", 95.0),
    ]
    frame = pd.DataFrame(rows, columns=["first", "second", "accuracy"])
    (row,) = combined.orders(frame).to_dict("records")
    assert row["Pair"] == "distillation and pruning 0.2"
    assert row["Difference, points"] == 2.0
