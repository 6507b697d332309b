"""The bit-width sweep's table, from records alone."""

import pytest

from vitstudy.report import qat_figures, style, sweep


@pytest.fixture
def measured(add):
    add("digits", "digits", "vanilla", accuracy=0.99, size_mib=1.0)
    for key, bits, accuracy, size in (
        ("rounded-w8", 8, 0.99, 0.25),
        ("rounded-w4", 4, 0.98, 0.125),
        ("rounded-w2", 2, 0.10, 0.07),
        ("fq-vit", 8, 0.985, 0.25),
        ("diffq-finetuned", 2.6, 0.97, 0.11),
        ("diffq-p3", 2.4, 0.96, 0.10),
    ):
        add("digits", "digits", key, accuracy=accuracy, size_mib=size, weight_bits=bits)


def test_points_stand_in_the_families_order_against_vanilla(measured):
    frame = sweep.points("digits", 1)
    assert list(frame["key"]) == [
        *("rounded-w8", "rounded-w4", "rounded-w2", "fq-vit", "diffq-finetuned", "diffq-p3")
    ]
    row = frame.set_index("key").loc["rounded-w4"]
    assert row["accuracy_change"] == pytest.approx(-1.0)
    assert row["size_share"] == pytest.approx(12.5)
    assert row["bits"] == 4


def test_without_vanilla_or_records_there_are_no_points(add):
    add("digits", "digits", "rounded-w4", weight_bits=4)
    assert sweep.points("digits", 1).empty and sweep.points("digits", 2).empty


def test_published_points_are_those_with_a_size():
    frame = sweep.published(1).set_index("model")
    assert list(frame.index) == ["Dynamic Quantization", "DIFFQ with LSQ", "DIFFQ with diffq"]
    row = frame.loc["DIFFQ with LSQ"]
    assert row["accuracy_change"] == pytest.approx(93.37 - 98.94)
    assert row["size_share"] == pytest.approx(100 * 41 / 327)


def test_the_readable_sweep_has_a_column_a_width_and_one_value_a_field(measured):
    frame = sweep.readable("digits", 1).set_index("Quantizer")
    assert list(frame.columns) == ["8 bits", "4 bits", "3 bits", "2 bits"]
    assert frame.at["Plain rounding (weights)", "4 bits"] == "98.00 (-1.00)"
    assert frame.at["DiffQ (weights, bits learned)", "3 bits"] == "97.00 (-2.00)"
    assert frame.at["DiffQ (weights, bits learned)", "2 bits"] == "96.00 (-3.00)"
    assert frame.at["FQ-ViT (weights, activations)", "2 bits"] == ""


def test_the_smallest_file_within_a_loss(measured):
    found = sweep.least_bits(sweep.points("digits", 1), loss=1.0).set_index("family")["key"]
    assert dict(found) == {
        "Plain rounding (weights)": "rounded-w4",
        "FQ-ViT (weights, activations)": "fq-vit",
    }


def test_the_figure_is_drawn_with_and_without_points(measured):
    frames = [sweep.points("digits", which) for which in (1, 2)]
    printed = [sweep.published(which) for which in (1, 2)]
    figure = qat_figures.sweep(frames, printed, ["Digits", "Digit pairs"])
    assert style.render(figure, "png").startswith(b"\x89PNG")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-1] == "DIFFQ with diffq, published" and len(labels) == 3 + 3
