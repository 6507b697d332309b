import numpy as np
import pytest
import torch

from vitstudy.errors import UserError
from vitstudy.report import ptq, qat, quantizer, survey_schematics
from vitstudy.study import Cell


@pytest.fixture
def found(home):
    """An analysis file as `baseline.analyse` leaves it, with weights of uneven rows."""
    random = np.random.RandomState(0)
    arrays = {name: random.randn(400).astype(np.float32) for name in quantizer.ACTIVATIONS}
    arrays["fc2_input"] = np.maximum(arrays["fc2_input"], -0.1)
    scales = np.linspace(0.1, 2, 16)[:, None]
    for name in quantizer.WEIGHTS:
        arrays[name] = (random.randn(16, 12) * scales).astype(np.float32)
    path = Cell("digits", "digit-pairs", "vanilla", 0).analysis_path
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)
    cell, tensors = quantizer.tensors("digits")
    assert cell.dataset == "digit-pairs"
    return tensors


def test_tensors_that_are_not_there_are_said_with_what_makes_them(home):
    with pytest.raises(UserError, match="python -m vitstudy run"):
        quantizer.tensors("digits")


def test_the_papers_integers_are_the_librarys_but_for_the_clamp():
    values = [-1.0, -0.3, 0.0, 0.4, 2.0]
    affine = quantizer.worked_example(values, bits=4, symmetric=False)
    assert affine["zero point (papers)"] == -affine["zero point (library)"] == -5
    assert affine["integers (library, clamped)"] == affine["integers (papers' Eq. 1)"]
    symmetric = quantizer.worked_example(values, bits=4, symmetric=True)
    assert symmetric["integers (library, clamped)"][-1] == 7
    assert symmetric["integers (papers' Eq. 1)"][-1] == 8


def test_there_are_as_many_levels_as_the_bits_can_say(found):
    for bits in (2, 4, 8):
        for levels in quantizer.levels(found["fc2_input"], bits).values():
            assert len(np.unique(levels)) == 2**bits


def test_bits_zero_point_and_channels_help_where_they_should(found):
    errors = quantizer.error_against_bits(found)
    per_tensor = errors[errors["granularity"] == "per tensor"].groupby("bits")["sqnr"].mean()
    assert per_tensor.is_monotonic_increasing
    gains = quantizer.gains(errors, bits=4)
    assert gains.loc[list(quantizer.WEIGHTS.values()), "a scale a channel"].min() > 3
    assert gains["a zero point"].idxmax() == quantizer.TITLES["fc2_input"]
    assert np.isnan(gains.loc["attention input", "a scale a channel"])


def test_the_range_of_least_error_is_never_worse_than_the_whole(found):
    calibrated = quantizer.calibration_error(found)
    wide = calibrated.pivot(index=["tensor", "bits"], columns="calibration", values="sqnr")
    assert (wide["MSE"] >= wide["min/max"] - 1e-6).all()


def test_the_error_inside_the_range_is_at_most_half_a_step():
    inputs, outputs = quantizer.staircase(-0.25, 1.0, bits=3)
    inside = (inputs >= -0.25) & (inputs <= 1.0)
    for name, step in (("symmetric", 2 / 7), ("asymmetric", 1.25 / 7)):
        assert np.abs(outputs[name] - inputs)[inside].max() <= step / 2 + 1e-6


def test_the_description_has_every_tensor(found):
    described = quantizer.describe(found)
    assert list(described["tensor"]) == list(quantizer.TITLES.values())
    assert described["shape"][0] == "16 × 12"


@pytest.mark.parametrize("bits", [40, 17, 0, -1, "4", 4.0, True, None])
def test_a_knob_that_is_turned_too_far_is_one_line(bits):
    values = torch.linspace(-1, 1, 20)
    told = "valid are whole numbers from"
    for turn in (
        lambda: quantizer.worked_example([1.0], bits, symmetric=True),
        lambda: quantizer.staircase(-1, 1, bits),
        lambda: quantizer.levels(values, bits),
        lambda: quantizer.calibrations(values, bits),
        lambda: quantizer.sqnr(values, (-1, 1), bits, symmetric=True),
        lambda: ptq.levels(0.5, bits),
        lambda: ptq.quantized(values.numpy(), 0.5, bits),
        lambda: ptq.levels_of_channels(values.numpy(), values.numpy() + 1, bits),
        lambda: qat.gradients(bits),
        lambda: qat.worked_example([1.0], 0.5, bits),
        lambda: qat.noise_against_rounding(values, (bits,)),
        lambda: survey_schematics.quantization(values[None].numpy(), 0.1, bits, "a"),
    ):
        with pytest.raises(UserError, match=told):
            turn()
