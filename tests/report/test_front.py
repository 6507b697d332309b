"""The first page: its verbs follow from what was measured, its numbers are the records'."""

import math

import pytest

from vitstudy.report import comparison_figures, front, significance, style
from vitstudy.report.front import Measured
from vitstudy.study import Cell

LABELS = [0, 1] * 50
SAME = (significance.NO_LOSS,) * 2


def test_a_row_that_another_has_for_less_is_left_out():
    rows = {
        "good": Measured((-0.1, 0.0), SAME, 0.5, 1.2),
        "worse": Measured((0.1, 0.2), SAME, 1.0, 0.8),
        "unlike": Measured((0.1, 2.0), SAME, 1.0, 0.8),
    }
    assert front.verb("worse", rows) == front.LEAVE
    assert front.verb("unlike", rows) == front.TAKE  # nothing else has its accuracy
    assert front.verb("good", rows) == front.TAKE


@pytest.mark.parametrize("outcome", [significance.LOSES, significance.UNTOLD])
def test_a_row_that_loses_or_may_lose_or_has_an_unproven_gain_is_weighed(outcome):
    rows = {
        "loses": Measured((-9.0, -0.1), (outcome, significance.NO_LOSS), 0.1, 6.0),
        "gains": Measured((0.1, 1.8), (significance.NO_LOSS, significance.GAINS), 1.0, math.nan),
    }
    assert front.verb("loses", rows) == front.WEIGH
    assert front.verb("gains", rows) == front.TAKE
    assert front.verb("gains", rows, proven=False) == front.WEIGH


def test_a_row_without_a_speed_is_dominated_by_none_and_dominates_none():
    rows = {
        "simulated": Measured((0.0, 0.0), SAME, 0.1, math.nan),
        "real": Measured((0.0, 0.0), SAME, 0.5, 1.2),
    }
    assert front.verb("simulated", rows) == front.verb("real", rows) == front.TAKE


def test_a_change_is_told_by_its_outcome():
    said = {
        outcome: front._change(Measured((0.0, -1.0), (outcome, outcome), 1.0, 1.0))
        for outcome in significance.OUTCOMES
    }
    assert said[significance.NO_LOSS] == "falls by less than half a point"
    assert significance.MARGIN == 0.5
    assert said[significance.UNTOLD] == "changes by -1.00 points (cannot be told)"
    assert said[significance.LOSES] == said[significance.GAINS] == "changes by -1.00 points"


@pytest.fixture
def measured(add, add_predictions, add_speed):
    """Vanilla with 90 of 100 right, and rows with others, on both data sets of cifar-cpu."""

    def write(**wrong):
        speeds = {}
        for dataset in ("cifar10", "cifar100"):
            for key, count in {"vanilla": 10, **wrong}.items():
                classes = [1 - label if i < count else label for i, label in enumerate(LABELS)]
                size = 1.0 if key == "vanilla" else 0.5
                add("cifar-cpu", dataset, key, accuracy=1 - count / 100, size_mib=size)
                add_predictions(Cell("cifar-cpu", dataset, key, 0), LABELS, classes)
                speeds[f"{dataset}/{key}/seed0"] = (2.0, 1.0) if key == "vanilla" else (3.0, 1.5)
        add_speed("cifar-cpu", speeds)

    return write


def test_advice_has_the_measured_numbers_and_says_where_a_difference_is_not_resolved(measured):
    measured(dynamic=10, **{"lsq-w4": 11, "deit-tiny": 50})
    said = front.advice("cifar-cpu")
    assert said == [
        "**Take dynamic int8** where nothing may be trained: its file is 50 % of vanilla's, and it "
        "classifies 1.50 times the images per second on the CPU.",
        "**Weigh LSQ at 4 bits** where the file has to be small: its file is 50 % of vanilla's, "
        "and accuracy on CIFAR-100 changes by -1.00 points (cannot be told).",
        "**Weigh DeiT tiny** where speed decides: it classifies 1.50 times the images per second "
        "on the CPU, and accuracy on CIFAR-100 changes by -40.00 points.",
    ]


def test_a_gain_over_its_control_is_told_and_weighed_where_it_is_not_resolved(measured):
    measured(**{"deit-base": 0, "token-labels": 0})
    (said,) = front.advice("cifar-cpu")
    assert said.startswith("**Weigh DeiT base**")
    assert "changes by +10.00 points" in said
    assert said.endswith("of which its teacher gives +0.00 (cannot be told).")
    measured(**{"deit-base": 0, "token-labels": 60})
    (said,) = front.advice("cifar-cpu")
    assert said.startswith("**Take DeiT base**")
    assert said.endswith("of which its teacher gives +60.00.")


def test_the_table_links_to_records_and_says_what_is_not_measured(measured):
    measured(dynamic=12)
    head, _, first, *others = front.table("cifar-cpu")
    assert head.startswith("| Row of the papers | CIFAR-10, points |")
    link = "results/cifar-cpu/records/cifar10/dynamic/seed0.json"
    assert f"[-2.00]({link}) (-0.21)" in first and "| 0.50 (0.26) | 1.50 (1.31) |" in first
    assert len(others) == 5 and "not measured (-16.79)" in others[0]


def test_without_vanilla_the_page_says_nothing_of_it(home):
    assert front.advice("cifar-cpu") == []
    assert front.setting("cifar-cpu") == front.other_network("cifar-cpu") == ""
    assert front.between_scales() == ""


def test_the_cnn_is_told_where_it_is_measured(measured):
    measured(teacher=5)
    assert front.other_network("cifar-cpu") == (
        "Where it need not be a Transformer, compare with the CNN that teaches here: 95.00 % on "
        "CIFAR-100, 50 % of vanilla's file and 1.50 times its images per second."
    )


def test_the_figure_draws_measured_points_filled_and_published_ones_hollow(measured, monkeypatch):
    measured(dynamic=12, teacher=5)
    rows = front.points("cifar-cpu").set_index("key")
    assert rows.at["dynamic", "points"] == pytest.approx(-2)
    assert rows.at["dynamic", "time"] == pytest.approx(1 / 1.5)
    assert rows.at["dynamic", "points_published"] == pytest.approx(-2.0)
    assert rows.at["teacher", "size"] == pytest.approx(0.5)
    figure = comparison_figures.overview(rows.reset_index(), {"size": 2.0, "time": 1.2})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(texts) == ["CNN", "int8"]
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == len(rows)
    again = comparison_figures.overview(rows.reset_index(), {"size": 2.0, "time": 1.2})
    assert style.render(figure, "svg") == style.render(again, "svg")
