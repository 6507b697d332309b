"""The survey's figures: labels do not overlap, bubbles are to scale, axes say what they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitstudy.report import labels, style, survey, survey_figures, survey_schematics
from vitstudy.survey import counted


def overlapping(boxes) -> int:
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    return sum(a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1 for a, b in pairs)


@pytest.fixture(scope="module")
def drawn():
    """Every bubble figure, and the label boxes of each."""
    place, boxes = labels.place, []

    def remembered(*arguments, **options):
        boxes.append(place(*arguments, **options))
        return boxes[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "place", remembered)
        figures = survey.bubble_figures(counted.read())
    return dict(zip(figures, zip(figures.values(), boxes, strict=True), strict=True))


NAMES = ("figure_5_compact", "figure_6_pruning", "figure_7_distillation", "quantization")


@pytest.mark.parametrize("name", [*NAMES, "all_categories"])
def test_labels_of_a_figure_do_not_overlap_and_stay_inside(drawn, name):
    figure, boxes = drawn[name]
    assert len(boxes) > 5
    assert overlapping(boxes) == 0
    frame = figure.axes[0].get_window_extent()
    for box in boxes:
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1
        assert frame.y0 <= box.y0 and box.y1 <= frame.y1


@pytest.mark.parametrize(("name", "category"), list(zip(NAMES, ("CA", "P", "KD"), strict=False)))
def test_every_model_has_a_label_and_a_bubble_of_its_area(drawn, name, category):
    figure, boxes = drawn[name]
    chosen, best = survey.category(category, counted.read())
    assert len(boxes) == len(chosen)
    axes = figure.axes[0]
    said = {text.get_text(): text for text in axes.texts}
    assert set(chosen["model"]) <= set(said)
    assert said[best].get_fontweight() == "bold"
    bubbles, *legend = axes.collections
    area = survey.FIGURES[category][1]
    scale = bubbles.get_sizes().max() / chosen[area].max()
    assert sorted(bubbles.get_sizes()) == pytest.approx(sorted(chosen[area] * scale))
    values = [value for value, _ in survey.FIGURES[category][2]]
    sizes = [each.get_sizes()[0] for each in legend]
    assert sizes == pytest.approx([value * scale for value in reversed(values)])
    assert axes.get_xlabel() and axes.get_ylabel()


def test_the_best_is_the_only_orange_bubble(drawn):
    from matplotlib.colors import to_rgb

    figure, _ = drawn["figure_5_compact"]
    faces = figure.axes[0].collections[0].get_facecolors()[:, :3]
    orange = np.isclose(faces, to_rgb(survey_figures.BEST)).all(1)
    assert orange.sum() == 1 and orange[-1]  # drawn last, over the others


@settings(max_examples=10)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_labels_find_places_apart_wherever_the_points_are(points):
    figure = style.figure()
    axes = figure.subplots()
    axes.set(xlim=(-0.2, 1.2), ylim=(-0.2, 1.2))
    found = np.array(points)
    texts = [f"model {number}" for number in range(len(found))]
    boxes = labels.place(axes, found, np.full(len(found), 5.0), texts)
    assert overlapping(boxes) == 0


def test_schematics_are_drawn_and_the_same_each_time():
    drawn = survey_schematics.schematics()
    assert [name[:8] for name in drawn] == ["figure_1", "figure_2", "figure_4"]
    again = survey_schematics.distillation()
    assert style.render(drawn["figure_2_distillation"], "svg") == style.render(again, "svg")


def test_figure_3_shows_the_codes_of_eq_5():
    values = np.array([[-1.0, -0.26, 0.0], [0.24, 0.5, 1.0]])
    figure = survey_schematics.quantization(values, 0.25, 3, "weights")
    shown = [text.get_text() for text in figure.axes[1].texts]
    # round(x / 0.25), clamped to -4 … 3
    assert shown == ["-4", "-1", "0", "1", "2", "3"]
