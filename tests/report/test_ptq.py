"""What notebook 02 says of FQ-ViT, from a few made-up records, predictions and analyses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitstudy import methods
from vitstudy.errors import UserError
from vitstudy.quantization import figure1
from vitstudy.report import ptq, ptq_figures
from vitstudy.study import Cell

LABELS = np.arange(360) % 10


@pytest.fixture
def make(add, add_predictions):
    """A cell of `key` whose first `wrong` images are wrong, with an analysis file."""

    def write(key: str, wrong: int, dataset="digits", **arrays) -> Cell:
        cell = Cell("digits", dataset, key, 0)
        add("digits", dataset, key, accuracy=1 - wrong / len(LABELS), flips=wrong)
        guesses = np.where(np.arange(len(LABELS)) < wrong, (LABELS + 1) % 10, LABELS)
        add_predictions(cell, LABELS, guesses)
        if arrays:
            cell.analysis_path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(cell.analysis_path, **arrays)
        return cell

    return write


def measured(sqnr: float, scale) -> dict:
    return {
        "agreement": np.array(0.9),
        "logit_sqnr": np.array(sqnr),
        "norm_scale__norm": np.array(scale, np.float32),
        "norm_scale__blocks.0.norm1": np.array(scale, np.float32),
    }


@pytest.fixture
def four(make):
    """Digits at FQ-ViT's own bits: 36 wrong by min/max, 18 by either remedy, none by both."""
    make("vanilla", 0)
    make("fq-vit-minmax", 36, **measured(10, 0.8))
    make("fq-vit-ptf", 18, **measured(12, [0.8, 0.4, 0.8, 0.1]))
    make("fq-vit-lis", 18, **measured(15, 0.8))
    draws = {
        "calibration_sizes": np.array([32, 64]),
        "calibration_validation_accuracy": np.array([[0.9, 0.8], [0.95, 0.95]]),
        "calibration_agreement": np.array([[0.9, 0.8], [0.95, 0.95]]),
        "calibration_logit_sqnr": np.array([[10.0, 12.0], [13.0, 13.0]]),
        "validation_accuracy_float": np.array(0.95),
        "validation_images": np.array(160),
        "attention__vanilla": np.array([0.5, 0.01], np.float32),
    }
    make("fq-vit", 0, **measured(17, [0.8] * 4), **draws)
    return ptq.remedies("digits")


def test_no_record_at_all_is_said_with_what_makes_it(home):
    with pytest.raises(UserError, match=r'python -m vitstudy run "digits/\*/fq-vit"'):
        ptq.remedies("digits")
    with pytest.raises(UserError, match="no analysis of fq-vit"):
        ptq.observed("digits")


def test_the_table_of_four_has_each_remedy_and_its_gain_over_min_max(four):
    assert list(four["setting"]) == list(ptq.SETTINGS)
    assert set(four["bits"]) == {"W8A8, maps of 4 bits"}
    assert list(four["accuracy"].round(6)) == [90, 95, 95, 100]
    assert (four["baseline"] == 100).all() and list(four["flips"]) == [36, 18, 18, 0]
    assert np.isnan(four["gain"][0])
    assert list(four["gain"][1:].round(6)) == [5, 5, 10]
    assert (four["gain_low"][1:] > 0).all() and (four["gain_high"] > four["gain"])[1:].all()
    assert list(four["sqnr"]) == [10, 12, 15, 17]
    shown = ptq.readable(four)
    assert shown["gain over min/max, points (95 %)"][0] == ""
    assert shown["gain over min/max, points (95 %)"][3].startswith("+10.00 (+")
    assert list(shown["change from float, points"]) == ["-10.00", "-5.00", "-5.00", "+0.00"]


def test_what_is_not_measured_is_named_and_left_out(four, home):
    absent = ptq.missing("digits")
    assert (
        "digits/digits/fq-vit-w6m3/seed0" in absent and "digits/digits/fq-vit/seed0" not in absent
    )
    assert len(absent) == 4 + 8
    Cell("digits", "digits", "fq-vit-minmax", 0).record_path.unlink()
    without = ptq.remedies("digits")
    assert list(without["setting"]) == list(ptq.SETTINGS[1:])
    assert without["gain"].isna().all()


def test_the_gain_is_paired_image_by_image(make):
    make("fq-vit", 10), make("fq-vit-minmax", 10)
    plain, both = ptq.remedies("digits").itertuples()
    # As many wrong, and the same: no doubt is left.
    assert (both.gain, both.gain_low, both.gain_high) == (0, 0, 0)
    assert np.isnan(plain.gain)


def test_factors_are_counted_against_the_scale_of_min_max(four):
    shares = ptq.factors("digits")
    assert len(shares) == 1  # the cells of the other widths are not there
    row = shares.iloc[0]
    halves = {"1 of": 50.0, "0.5 of": 25.0, "0.25 of": 0.0, "0.125 of": 25.0}
    assert {name: row[f"{name} the scale, %"] for name in halves} == halves


def test_calibration_is_told_draw_by_draw_and_by_size(four):
    draws = ptq.calibration("digits")
    assert len(draws) == 4 and set(draws["images"]) == {32, 64}
    assert (draws["float"] == 95).all() and (draws["image"] == 100 / 160).all()
    sizes = ptq.by_size(draws)
    assert list(sizes["calibration images"]) == [32, 64]
    assert list(sizes["accuracy on validation, %"]) == [85, 95]
    assert list(sizes["worst draw, %"]) == [80, 95] and list(sizes["best draw, %"]) == [90, 95]
    assert list(sizes["its std over draws, dB"]) == [1.41, 0]


def test_what_the_numbers_say_is_what_they_are(four):
    errors = ptq.attention_error(np.array([0.68] + [0.02] * 16), 0.68, (2, 4))
    said = "\n".join(ptq.findings(four, ptq.factors("digits"), ptq.calibration("digits"), errors))
    assert "min/max changes the accuracy by -10.00 points, both remedies by +0.00" in said
    assert "points is significant after Holm's correction" in said
    assert "power-of-two factors +2.0 dB, Log-Int-Softmax +5.0 dB" in said
    assert "50.0 % of the channels take a finer scale" in said
    assert "changes by +10.00 points" in said and "at most 16 validation images" in said
    assert "turns 94 % of the first block's attention values into 0 and keeps 68 %" in said


def test_attention_on_both_grids_by_hand():
    values = np.array([0.6, 0.3, 0.05, 0.01])
    after = ptq.quantized(values, greatest=0.6, bits=2)
    np.testing.assert_allclose(after["uniform"], [0.6, 0.4, 0, 0])  # 0.3 is a tie, to even
    np.testing.assert_allclose(after["log2"], [0.5, 0.25, 0.125, 0.125])
    errors = ptq.attention_error(values, 0.6, (2,)).set_index("quantizer")
    assert errors.at["uniform", "zero"] == 50 and errors.at["log2", "zero"] == 0
    assert errors.at["uniform", "kept"] == pytest.approx(1.0 / 0.96)
    assert errors.at["log2", "kept"] == pytest.approx(1.0 / 0.96)
    assert errors.at["uniform", "levels"] == errors.at["log2", "levels"] == 3
    noise = 0.1**2 + 0.05**2 + 0.01**2
    signal = (values**2).sum()
    assert errors.at["uniform", "sqnr"] == pytest.approx(10 * np.log10(signal / noise))


@given(st.integers(1, 8), st.floats(1e-3, 1.0))
def test_quantized_attention_takes_only_its_levels(bits, greatest):
    values = np.linspace(0, 1, 50) * greatest
    levels = ptq.levels(greatest, bits)
    for name, after in ptq.quantized(values, greatest, bits).items():
        distance = np.abs(after[:, None] - levels[name]).min(1)
        assert distance.max() < 1e-9 and len(levels[name]) == 2**bits


def test_channels_share_the_levels_of_one_grid():
    low, high = np.array([-1.0, 0.0]), np.array([1.0, 0.5])
    assert ptq.levels_of_channels(low, high, 8) == (64, 256)


def test_timms_models_are_absent_with_a_reason():
    assert set(ptq.timms({})) == {figure1.SWIN_B, figure1.VIT_L}
    why = {f"absent__{figure1.SWIN_B}": np.array("no weights")}
    assert ptq.timms(why)[figure1.SWIN_B] == "no weights"
    there = {f"norm_min__{figure1.SWIN_B}": 0, f"attention__{figure1.VIT_L}": 0}
    assert ptq.timms(there) == {}


def test_the_published_drop_is_the_papers():
    shown = ptq.published()
    assert list(shown["change, points"]) == [-1.63, -8.0]
    assert ptq.widths("fq-vit-w6m3") == "W6A6, maps of 3 bits"
    for keys in ptq.TABLES_OF_FOUR:
        assert len({ptq.widths(key) for key in keys}) == 1 and all(map(methods.get, keys))


def test_the_figures_name_what_they_draw(four):
    values = np.array([0.5, 0.02, 0.01, 0.0])
    ranges = np.array([-1.0, -2.0]), np.array([1.0, 3.0])
    levels = ptq.levels(0.5, 4)
    drawn = {
        "remedies": (ptq_figures.remedies(four), 2),
        "calibration": (ptq_figures.calibration(ptq.calibration("digits")), 2),
        "figure1": (ptq_figures.figure1(ranges, values, levels, ("left", "right")), 3),
        "attention": (ptq_figures.attention(values, levels, "t"), 2),
    }
    for name, (figure, panels) in drawn.items():
        assert len(figure.axes) == panels, name
        for side in "xy" if name != "remedies" else "x":  # its rows are named, not the axis
            assert any(getattr(axes, f"get_{side}label")() for axes in figure.axes), (name, side)
    rows = [label.get_text() for label in drawn["remedies"][0].axes[0].get_yticklabels()]
    assert rows == list(ptq.SETTINGS)
    ticks = [label.get_text() for label in drawn["attention"][0].axes[1].get_xticklabels()]
    assert ticks[0] == "0" and ticks[-1] == "$2^{0}$"
