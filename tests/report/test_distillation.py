"""What notebook 04 computes and draws, on a study made up of a few records."""

import math

import numpy as np
import pytest

from vitstudy.errors import UserError
from vitstudy.report import distillation, distillation_figures, style
from vitstudy.study import Cell

LABELS = [0, 1, 2, 3]


@pytest.fixture
def measured(add, add_predictions):
    """Records and predictions of every row; vanilla is right on two of four, hard on none."""

    def write(dataset="digits", keys=(*distillation.STUDENTS, *distillation.OTHERS), **right):
        for key in keys:
            add(
                *("digits", dataset, key),
                training_seconds={"vanilla": 10.0, "teacher": 5.0}.get(key, 20.0),
                options={"width": 0.25},
                accuracy=0.5,
                calibration_error=0.1,
                steps=30,
            )
            correct = right.get(key, {"hard": 0, "deit-base": 3}.get(key, 2))
            guessed = [label if i < correct else 9 for i, label in enumerate(LABELS)]
            add_predictions(Cell("digits", dataset, key, 0), LABELS, guessed)

    return write


@pytest.fixture
def analysed(home):
    def write(key, dataset="digits", **arrays):
        path = Cell("digits", dataset, key, 0).analysis_path
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)

    return write


def logits(*decided, classes=10):
    return 3.0 * np.eye(classes, dtype=np.float16)[list(decided)]


def test_the_worked_example_is_right_by_hand():
    found = distillation.worked_example()
    e = math.e
    assert found["CE(student, label)"] == round(-2 + math.log(e**2 + e + 1), 6)
    student = [x / (e**2 + e + 1) for x in (e**2, e, 1)]
    teacher = [x / (e + e**3 + 1) for x in (e, e**3, 1)]
    pairs = list(zip(student, teacher, strict=True))
    printed = sum(s * math.log(s / t) for s, t in pairs)
    usual = sum(t * math.log(t / s) for s, t in pairs)
    assert found["KL(student ‖ teacher), τ = 1"] == round(printed, 6)
    assert found["KL(teacher ‖ student), τ = 1"] == round(usual, 6)
    survey = found["CE(student, label)"] - sum(t * math.log(s) for s, t in pairs)
    assert found["the survey's Eq. 3-4"] == pytest.approx(survey, abs=2e-6)
    hard = found["CE(student, label)"] / 2 - math.log(student[1]) / 2
    assert found["Eq. 5, the teacher says class 1"] == pytest.approx(hard, abs=2e-6)
    assert found["Eq. 4 as printed, τ = 2, λ = ½"] == pytest.approx(
        found["CE(student, label)"] / 2 + found["τ² KL(student ‖ teacher), τ = 2"] / 2, abs=2e-6
    )


def test_both_directions_vanish_at_the_teacher_and_part_far_from_it():
    frame = distillation.directions(teacher=0.9).set_index("student")
    nearest = np.abs(frame.index.to_numpy() - 0.9).argmin()
    assert frame.iloc[nearest].max() < 1e-9
    assert frame.iloc[0]["as printed"] < math.log(10)  # its bound; the usual one has none
    assert frame.iloc[0]["usual"] > 4


def test_a_teacher_that_is_not_there_is_said_with_what_makes_it(home):
    with pytest.raises(UserError, match=r'python -m vitstudy run "digits/\*/teacher"'):
        distillation.teachers("digits")


def test_softness_goes_from_sure_to_knowing_nothing():
    frame = distillation.softness(logits(0, 1, 2), (0.01, 1.0, 1e6)).set_index("temperature")
    assert frame["top"].tolist() == pytest.approx([1, math.e**3 / (math.e**3 + 9), 0.1], abs=1e-4)
    assert frame["entropy"].iloc[0] == pytest.approx(0, abs=1e-9)
    assert frame["entropy"].iloc[2] == pytest.approx(1, abs=1e-6)


def test_students_are_compared_image_by_image(measured):
    measured()
    frame = distillation.compare("digits").set_index("key")
    assert list(frame.index) == [*distillation.STUDENTS, *distillation.OTHERS]
    assert frame.at["vanilla", "difference"] is None
    # One image more right of four, and the others alike: drawn again, 0 to 3 times in 95 %.
    found = frame.at["deit-base", "difference"]
    assert (found.points, found.low, found.high) == (25, 0, 75) and not found.significant
    assert frame.at["hard", "difference"].points == -50
    text = distillation.readable(distillation.compare("digits"))
    assert text["against vanilla, points (95 %)"].iloc[0] == ""
    assert "+25.00 (+0.00 to +75.00)" in set(text["against vanilla, points (95 %)"])
    assert len(text) == len(frame)


def test_what_is_not_measured_or_failed_is_left_out(measured, add):
    measured(keys=("vanilla", "deit-base", "teacher"))
    add("digits", "digits", "hard", status="failed", error="NaN")
    assert set(distillation.compare("digits")["key"]) == {"vanilla", "deit-base", "teacher"}
    assert distillation.against_controls("digits").empty
    assert distillation.tiny("digits").empty


def test_each_part_is_held_against_the_row_without_it(measured):
    measured()
    frame = distillation.against_controls("digits").set_index(["model", "against"])
    assert len(frame) == len(distillation.CONTROLS)
    found = frame["points (95 %)"]
    assert found["DeiT base", "Hard distillation"].points == 75
    assert found["DeiT base", "DeiT base, both heads by the labels"].points == 25


def test_the_bill_has_the_teacher_in_it(measured):
    measured()
    bill = distillation.cost(distillation.compare("digits"))
    assert bill["factor"].tolist() == [2.5]
    measured("digit-pairs", keys=("vanilla", "deit-base"))
    assert len(distillation.cost(distillation.compare("digits"))) == 1


def test_heads_are_counted_against_labels_and_teacher(measured, analysed):
    measured()
    told = {"labels": np.array(LABELS), "unsure": np.array([0]), "logits": logits(0, 1, 2, 9)}
    analysed("teacher", **told)
    analysed(
        "deit-base",
        class_logits=logits(0, 1, 2, 3),
        token_logits=logits(0, 1, 2, 9),
        logits=logits(0, 1, 9, 9),
    )
    analysed("soft", logits=logits(0, 1, 2, 9))
    frame = distillation.heads("digits").set_index("head")
    assert frame.at["class", "accuracy"] == 100 and frame.at["class", "as the teacher"] == 75
    assert frame.at["distillation", "as the teacher"] == 100
    assert frame.at["mean of both", "accuracy"] == 50
    learned = distillation.what_they_learned("digits").set_index("student")
    assert learned.at["Soft distillation", "decide alike, %"] == 100
    assert learned.at["Soft distillation", "KL(student ‖ teacher)"] == 0
    assert learned.at["DeiT base", "KL(student ‖ teacher)"] > 0


def test_conclusions_are_of_what_was_measured(measured, analysed):
    measured()
    told = {"labels": np.array(LABELS), "logits": logits(0, 1, 2, 9)}
    analysed("teacher", **told)
    same = logits(0, 1, 2, 3)
    analysed("deit-base", class_logits=same, token_logits=same, logits=same)
    softened = distillation.softness_by_dataset(distillation.teachers("digits"))
    lines = distillation.conclusions(
        distillation.compare("digits"),
        distillation.against_controls("digits"),
        softened,
        distillation.heads("digits"),
        distillation.cost(distillation.compare("digits")),
    )
    said = "\n".join(lines)
    assert "the teacher 50.00 %, the vanilla ViT 50.00 %, DeiT base 75.00 %" in said
    # Three of four differ: drawn again, one to four of four in 95 %.
    told = "is worth +75.00 (+25.00 to +100.00) points of DeiT base: not significant after Holm's"
    assert told in said
    assert "decides as the teacher on 75.0 % of the validation images" in said
    assert "took 2.5 times" in said


def test_published_rows_are_below_their_vanilla_model():
    frame = distillation.published().set_index("model")
    assert frame.at["DeiT base", "CIFAR-10, against vanilla"] == "-0.47"
    assert frame.at["DeiT tiny", "CIFAR-100, against vanilla"] == "-16.97"


# Figures


def words(figure):
    texts = [each.get_text() for axes in figure.axes for each in axes.texts]
    for axes in figure.axes:
        texts += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        texts += [each.get_text() for each in axes.get_xticklabels() + axes.get_yticklabels()]
    return texts


def test_targets_show_the_five_likeliest_classes_in_percent():
    images = np.zeros((2, 3, 32, 32), np.uint8)
    names = ["cat", "automobile", *"abcdefgh"]
    figure = distillation_figures.targets(images, logits(0, 1), np.array([0, 2]), names, 1.0)
    assert len(figure.axes) == 4
    heights = [bar.get_height() for bar in figure.axes[2].patches]
    assert len(heights) == 5 and heights[0] == pytest.approx(100 * math.e**3 / (math.e**3 + 9))
    assert {"label: cat", "label: a", "autom."} <= set(words(figure))
    assert style.render(figure, "png")


def test_students_are_drawn_in_every_data_set_with_their_intervals(measured):
    measured()
    measured("digit-pairs", keys=("vanilla", "teacher"))
    figure = distillation_figures.students(distillation.compare("digits"), distillation.ORDER)
    assert {"Digits", "Digit pairs", "none", "the teacher itself"} <= set(words(figure))
    counts = [len(axes.containers) for axes in figure.axes]
    assert counts == [len(distillation.STUDENTS) + len(distillation.OTHERS), 2]
    assert style.render(figure, "svg")


def test_curves_are_labelled():
    figure = distillation_figures.directions(distillation.directions(0.9, points=9), 0.9)
    assert "divergence, nats" in words(figure)
    figure = distillation_figures.softness({"Digits": distillation.softness(logits(0, 1))})
    assert {"temperature τ", "likeliest class, mean %"} <= set(words(figure))
    assert style.render(figure, "png")
