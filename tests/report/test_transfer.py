"""Which losses are resolved at a scale, and what a larger scale repeats of them."""

import pandas as pd
import pytest

from vitstudy import files
from vitstudy.report import scales, transfer
from vitstudy.report.transfer import Loss
from vitstudy.study import Cell

LABELS = [0, 1] * 200


@pytest.mark.parametrize(
    ("small", "large", "said"),
    [
        (Loss(1.76, 0.97, 2.53, True), Loss(1.29, 0.58, 1.98, True), transfer.SIGN_AND_SIZE),
        (Loss(-22.4, -23.4, -21.4, True), Loss(-9.4, -10.3, -8.6, True), transfer.SIGN),
        (Loss(-4.85, -5.58, -4.13, True), Loss(-0.1, -0.57, 0.36, False), transfer.NOT),
        (Loss(-4.0, -5.0, -3.0, True), Loss(2.0, 1.0, 3.0, True), transfer.NOT),
        (Loss(-1.0, -1.9, -0.1, True), Loss(-0.5, -1.5, 0.5, False), transfer.OPEN),
    ],
)
def test_a_loss_transfers_in_sign_and_size_in_sign_alone_not_or_nobody_can_tell(small, large, said):
    assert transfer.transfer(small, large) == said


def test_the_interval_of_a_difference_adds_half_widths_in_squares():
    # 3-4-5: half widths of 3 and 4 points reach 5.
    small, near = Loss(-10, -13, -7, True), Loss(-5.1, -9.1, -1.1, True)
    assert transfer.transfer(small, near) == transfer.SIGN_AND_SIZE
    far = Loss(-4.9, -8.9, -0.9, True)
    assert transfer.transfer(small, far) == transfer.SIGN


@pytest.fixture
def measured(add, add_predictions):
    """Write rows of both CIFAR profiles with so many of 400 images wrong."""

    def write(profile, **wrong):
        for dataset in ("cifar10", "cifar100"):
            for key, count in {"vanilla": 40, **wrong}.items():
                classes = [1 - label if i < count else label for i, label in enumerate(LABELS)]
                add(profile, dataset, key, accuracy=1 - count / 400)
                add_predictions(Cell(profile, dataset, key, 0), LABELS, classes)

    return write


@pytest.fixture(autouse=True)
def no_summary(monkeypatch, tmp_path):
    monkeypatch.setattr(transfer, "SUMMARY", tmp_path / "summary.json")


def test_resolved_losses_and_what_becomes_of_them_are_told(measured):
    measured("cifar-cpu", dynamic=41, **{"deit-tiny": 120, "vtp-r0.2": 80})
    measured("cifar", dynamic=40, **{"deit-tiny": 120, "vtp-r0.2": 41})
    frame = transfer.losses()
    assert list(frame) == transfer.COLUMNS and len(frame) == 2 * 2 * 3
    moved = transfer.transfers(frame)
    assert moved["transfer"].tolist() == 2 * [transfer.SIGN_AND_SIZE, transfer.NOT]
    lines = transfer.lines(frame)
    assert "at cifar-cpu 2 of 3 (DeiT tiny -20.00, ViT-Pruning(r=0.2) -10.00)" in lines[0]
    assert "at cifar 1 of 3 (DeiT tiny -20.00)" in lines[0]
    assert lines[2] == (
        "**What transfers with 10 classes**, from cifar-cpu to cifar: DeiT tiny (sign and size), "
        "ViT-Pruning(r=0.2) (not)."
    )
    shown = transfer.readable(frame)
    assert shown["Model"].tolist() == 2 * ["DeiT tiny", "ViT-Pruning(r=0.2)"]
    assert shown["cifar-cpu"][0].startswith("-20.00* (-2")


def test_a_row_that_no_larger_scale_has_transfers_nowhere(measured):
    measured("cifar-cpu", **{"diffq": 120})
    measured("cifar", dynamic=40)
    frame = transfer.losses()
    assert transfer.transfers(frame).empty
    assert len(transfer.lines(frame)) == 2
    assert transfer.readable(frame)["Transfers"].tolist() == ["", ""]


def test_nothing_measured_says_nothing(home):
    frame = transfer.losses()
    assert frame.empty and transfer.lines(frame) == []
    assert transfer.readable(frame).empty


def test_digits_are_those_of_the_summary(home):
    loss = {"difference": -3.0, "difference_low": -4.0, "difference_high": -2.0}
    row = {"dataset": "digits", "method": "diffq", "significant": True, **loss}
    files.write_json(transfer.SUMMARY, {"rows": [row, {"dataset": "digits", "method": "vanilla"}]})
    frame = transfer.losses()
    assert frame.to_dict("records") == [
        {
            **{"table": 1, "scale": scales.SUMMARISED, "key": "diffq"},
            **{"model": "DIFFQ with diffq", "points": -3.0, "low": -4.0, "high": -2.0},
            "resolved": True,
        }
    ]
    assert isinstance(frame, pd.DataFrame)
