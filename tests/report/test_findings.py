"""Findings: lines whose numbers are the records'."""

import pytest

from vitstudy.report import findings
from vitstudy.study import Cell

LABELS = [0, 1] * 50
DATASETS = ("cifar10", "cifar100")


@pytest.fixture
def measured(add, add_predictions, add_speed):
    """Vanilla with 90 of 100 right, and rows with fewer, on both data sets."""

    def write(**wrong):
        for dataset in DATASETS:
            for key, count in {"vanilla": 10, **wrong}.items():
                classes = [1 - label if i < count else label for i, label in enumerate(LABELS)]
                size = 1.0 if key == "vanilla" else 0.5
                given = {"accuracy": 1 - count / 100, "size_mib": size}
                add("cifar-cpu", dataset, key, **given)
                add_predictions(Cell("cifar-cpu", dataset, key, 0), LABELS, classes)
        add_speed(
            "cifar-cpu",
            {"cifar10/vanilla/seed0": (2.0, 1.0), "cifar10/dynamic/seed0": (3.0, 1.5)},
        )

    return write


def line(lines, name):
    (found,) = [each for each in lines if each.startswith(f"**{name}")]
    return found


def test_a_line_has_the_difference_the_print_the_file_and_the_speed(measured):
    measured(dynamic=12)
    found = line(findings.lines("cifar-cpu"), "Dynamic int8")
    assert found == (
        "**Dynamic int8**: -2.00 / -2.00 (-0.21 / -2.00), 0.50 (0.26) of the file, "
        "1.50 (1.24) times the images/s on the CPU."
    )


def test_rows_of_one_line_have_each_its_own_costs(measured, add_speed):
    measured(**{"vtp-r0.1": 11, "vtp-r0.2": 14})
    speeds = {"vanilla": (2.0, 1.0), "vtp-r0.1": (2.2, 1.1), "vtp-r0.2": (2.6, 1.3)}
    add_speed("cifar-cpu", {f"cifar10/{key}/seed0": pair for key, pair in speeds.items()})
    assert line(findings.lines("cifar-cpu"), "Pruning") == (
        "**Pruning a tenth and a fifth**: "
        "-1.00 / -1.00 (-10.58 / -18.41), 0.50 (0.92) of the file, 1.10 times the images/s on the "
        "CPU; -4.00 / -4.00 (-18.38 / -28.60), 0.50 (0.78) of the file, 1.30 times the images/s "
        "on the CPU. Its control, the baseline trained as long, is not measured."
    )


def test_of_several_seeds_those_that_were_run_are_counted(add, add_predictions):
    for dataset in DATASETS:
        for key in ("vanilla", "dynamic"):
            add("cifar", dataset, key, seed=1)
            add_predictions(Cell("cifar", dataset, key, 1), LABELS, LABELS)
    assert "with 100 test images and one seed" in findings.lines("cifar")[-2]


def test_a_gain_is_over_its_control_with_its_interval(measured):
    measured(**{"lsq-w4": 11, "rounded-w4": 31})
    found = line(findings.lines("cifar-cpu"), "LSQ at 4 bits")
    assert "Over plain rounding: +20.00 (+" in found and ")*" in found


def test_rows_that_are_not_measured_have_no_line(measured):
    measured(dynamic=12)
    said = "\n".join(findings.lines("cifar-cpu"))
    assert "DeiT" not in said.split("**No loss")[0]


def test_a_small_difference_is_not_called_and_a_large_one_is(measured):
    measured(dynamic=12, **{"deit-tiny": 50})
    lines = findings.lines("cifar-cpu")
    said = line(lines, "No loss beyond 0.5 points")
    assert (
        "**Too small to call** with 100 test images and one seed: Dynamic Quantization (CIFAR"
        in said
    )
    assert "by tests of equivalence: none (CIFAR-10)" in said
    assert "DeiT tiny" not in said
    assert "-40.00* / -40.00*" in line(lines, "DeiT tiny")


def test_what_the_luck_of_a_training_does_to_vanilla_stands_beside_what_is_too_small(add, measured):
    measured(dynamic=12)
    add("cifar-cpu", "cifar10", "vanilla", seed=1, accuracy=0.92)
    assert "trained from" not in line(findings.lines("cifar-cpu"), "No loss beyond")
    add("cifar-cpu", "cifar100", "vanilla", seed=1, accuracy=0.90)
    assert line(findings.lines("cifar-cpu"), "No loss beyond").endswith(
        " Vanilla itself, trained from 2 seeds, has 91.00 ± 1.41 / 90.00 ± 0.00 %."
    )


def test_without_vanilla_nothing_is_found(home):
    assert findings.lines("cifar-cpu") == findings.on_a_gpu("cifar") == []


def test_the_line_on_a_gpu_has_what_differs_there_and_the_speeds_beside_the_printed(
    add, add_predictions, add_speed
):
    for dataset, wrong in (("cifar10", 50), ("cifar100", 12)):
        for key, count in {"vanilla": 10, "deit-tiny": wrong, "deit-base": 10}.items():
            classes = [1 - label if i < count else label for i, label in enumerate(LABELS)]
            add("cifar", dataset, key, accuracy=1 - count / 100, gpu="a card")
            add_predictions(Cell("cifar", dataset, key, 0), LABELS, classes)
    add_speed(
        "cifar",
        {"cifar10/vanilla/seed0": (20.0, 1.0), "cifar10/deit-tiny/seed0": (30.0, 1.5)},
        device="cuda",
    )
    assert findings.on_a_gpu("cifar") == [
        "**On a GPU**, `cifar` (a ViT of 9 M parameters from scratch, a card): vanilla has 90.00 / "
        "90.00 %. Of 2 / 2 rows beside it significantly apart, in points: DeiT tiny -40.00 "
        "(CIFAR-10); none (CIFAR-100). Times its images/s there (as printed): DeiT tiny 1.50 "
        "(3.75)."
    ]


def test_the_profile_shown_is_the_one_with_most_rows_of_equals_the_largest(add):
    assert findings.shown_profile() == "paper"
    add("cifar-cpu", "cifar10", "vanilla")
    assert findings.shown_profile() == "cifar-cpu"
    add("cifar", "cifar10", "vanilla")
    assert findings.shown_profile() == "cifar"
