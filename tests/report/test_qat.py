"""Notebook 03's tables and examples."""

import math

import numpy as np
import pytest
import torch

from vitstudy.report import qat
from vitstudy.report.significance import difference
from vitstudy.study import Cell


def test_the_worked_example_is_that_of_the_papers_equations():
    found = qat.worked_example([-1.3, -0.3, 0.04, 0.26, 1.0], step=0.25, bits=3)
    assert found["integers"] == [-4, -1, 0, 1, 3]
    assert found["values again"] == [-1.0, -0.25, 0.0, 0.25, 0.75]
    assert found["gradient by r"] == [0, 1, 1, 1, 0]
    inside = (-1 + 1.2) + (0 - 0.16) + (1 - 1.04)
    assert found["gradient by s, summed"] == pytest.approx(-4 + inside + 3)
    assert found["scale of that gradient"] == round(1 / math.sqrt(5 * 3), 4)


def test_gradients_are_the_bounds_outside_and_the_rounding_error_inside():
    found = qat.gradients(bits=2)
    v, by_step = found["v"], found["by_step"]
    assert (by_step[v < -2] == -2).all() and (by_step[v > 1] == 1).all()
    inside = (v > -2) & (v < 1)
    np.testing.assert_allclose(by_step[inside], np.round(v[inside]) - v[inside], atol=1e-12)
    assert (found["by_value"] == inside).all()


def test_uniform_noise_errs_as_rounding_does_and_gaussian_noise_more():
    weight = torch.rand(200, 200, generator=torch.Generator().manual_seed(0))
    frame = qat.noise_against_rounding(weight, bits=(3, 6))
    assert frame["rounding"].tolist() == pytest.approx([1 / math.sqrt(12)] * 2, rel=0.03)
    assert frame["uniform noise"].tolist() == pytest.approx([1 / math.sqrt(12)] * 2, rel=0.03)
    assert frame["gaussian noise"].tolist() == pytest.approx([0.5] * 2, rel=0.03)


def test_rows_show_what_is_measured_in_the_order_asked_for(add):
    bits = {"weight_bits": 32.0, "activation_bits": 32.0, "steps": 600}
    add("digits", "digits", "vanilla", **bits)
    add("digits", "digits", "lsq-w4", **{**bits, "weight_bits": 4.0}, accuracy=0.88, flips=9)
    add("digits", "digits", "continued", status="failed", error="NaN")
    frame = qat.rows("digits", 1, qat.LSQ_ROWS)
    assert list(frame["Model"]) == ["Vanilla ViT", "DIFFQ with LSQ"]
    assert list(frame["Answers that differ from vanilla's"]) == ["", "9"]
    assert list(frame["Bits, weights / activations"]) == ["32 / 32", "4 / 32"]


def test_findings_compare_what_is_there_and_say_when_there_is_nothing(add, add_predictions):
    assert qat.findings("digits", 1) == ["- Nothing to compare is measured on this profile yet."]
    for key, wrong in (("lsq-w4", 2), ("rounded-w4", 10)):
        cell = Cell("digits", "digits", key, 0)
        add("digits", "digits", key)
        add_predictions(cell, [1] * 100, [0] * wrong + [1] * (100 - wrong))
    (line,) = qat.findings("digits", 1)
    paired = difference("digits", "digits", "lsq-w4", "rounded-w4")
    assert paired.significant and paired.points == pytest.approx(8)
    assert f"{paired} points, paired on the same images" in line
    assert "(95 %; 98.00 against 90.00 %), 0.1 against 0.1 MiB." in line


def test_analyses_that_are_not_there_are_none_or_empty(home):
    assert qat.learned_bits("digits", 1, "diffq") is None
    assert qat.steps("digits").empty and qat.sizes("digits").empty
