"""What notebook 05 shows: tables from records and analysis files, and its figures."""

import numpy as np
import pandas as pd
import pytest
import smoke_study
from matplotlib.figure import Figure

from vitstudy import data, models, profiles
from vitstudy.errors import UserError
from vitstudy.pruning import slim
from vitstudy.report import pruning, pruning_figures, style
from vitstudy.report.evidence import Evidence

SMOKE = Evidence("smoke")
SHAPE = slim.Shape(width=4, depth=2, heads=2, head_dim=2, hidden=4, fixed=100)


def made_up(row="vtp", dataset="digits", scores=(0.5, 0.995, 1.2, 0.1)) -> pd.DataFrame:
    """Units of two blocks and every kind, four each, with the same scores in each."""
    places = [(block, kind) for block in range(2) for kind in range(5)]
    frame = pd.DataFrame(
        [(block, kind, score) for block, kind in places for score in scores],
        columns=["block", "kind", "score"],
    )
    frame = frame.assign(row=row, dataset=dataset, parameters=10, stays=True)
    return frame.astype({"score": "float32"})


@pytest.fixture
def study(in_smoke):
    """The smoke study, for reading only."""


def test_the_share_of_parameters_above_the_papers_threshold_by_hand():
    frame = made_up()
    frame.loc[frame["score"] > 0.99, "parameters"] = 30
    found = pruning.important(frame).iloc[0]
    assert found["above"] == pytest.approx((30 + 30) / (10 + 30 + 30 + 10))
    assert (found["least"], found["greatest"]) == pytest.approx((0.1, 1.2))
    # a score without a scale of its own is taken relative to its greatest value
    other = pruning.important(made_up("taylor", scores=(2.0, 3.97, 4.0, 0.0))).iloc[0]
    assert other["above"] == pytest.approx(0.5) and other["spread"] == np.inf


def test_how_far_a_gate_gets_is_the_rate_summed_over_its_schedule(study):
    found = pruning.units("smoke")
    far = pruning.reach("smoke", "digits")
    assert far == pytest.approx(2e-3 * 0.03 * (1 + 1 + 0.5))  # three steps
    here = found[(found["dataset"] == "digits") & (found["row"] == "vtp-slow")]
    assert 0 < (here["score"] - 1).abs().max() <= 1.05 * far
    assert pruning.reach("cifar", "cifar10") is None


def test_dimensions_that_go_are_those_that_the_cut_would_take():
    gone = pruning.selected(made_up(), SHAPE, 0.0)
    assert gone.shape == (2, 5) and not gone.any()
    masks = slim.select(
        {
            f"blocks.{block}.{kind}": pruning.torch.tensor([0.5, 0.995, 1.2, 0.1])
            for block in range(2)
            for kind in slim.KINDS
        },
        SHAPE,
        0.3,
    )
    wanted = [
        [1 - masks[f"blocks.{block}.{kind}"].double().mean() for kind in slim.KINDS]
        for block in range(2)
    ]
    found = pruning.selected(made_up(), SHAPE, 0.3)
    assert found == pytest.approx(np.array(wanted)) and found.any()
    table = pruning.by_kind(made_up(), SHAPE, 0.3)
    assert table.loc["gates"].tolist() == pytest.approx(100 * np.array(wanted).mean(0))


@pytest.mark.parametrize("name", ["smoke", "digits", "cifar-cpu", "paper"])
def test_the_shape_by_formula_is_the_models(name):
    profile = profiles.get(name)
    if name == "paper":  # 86 M weights: the smallest that differs in kind is enough
        assert pruning.shape_of(name, "cifar10").sizes()["hidden"] == 3_072
        return
    for dataset in profile.datasets:
        spec = data.spec(dataset)
        model = models.build(profile.architecture, spec.num_classes, spec.channels)
        assert pruning.shape_of(name, dataset) == slim.shape_of(model)


def test_what_the_papers_lose_stands_beside_what_is_measured(study):
    frame = pruning.against_the_papers("smoke")
    assert frame["published, points"].tolist() == ["-10.58", "-18.41", "-18.38", "-28.60"]
    assert frame["published, size"].tolist() == ["-8 %", "-8 %", "-22 %", "-17 %"]
    vanilla, pruned = (SMOKE.record("digits", key) for key in ("vanilla", "vtp-r0.2"))
    expected = f"{100 * (pruned.accuracy - vanilla.accuracy):+.2f}"
    assert frame["against vanilla, points"][2] == expected
    assert float(frame["size"][2].rstrip(" %")) < -15


def test_delta_is_the_loss_after_less_the_loss_before(study):
    frame = pruning.deltas("smoke").set_index(["dataset", "row", "r"])
    found, tuned = (SMOKE.analysis("digits", key) for key in ("vtp-r0.2-cut", "vtp-r0.2"))
    here = frame.loc["digits", "vtp", 0.2]
    assert here["whole"] == pytest.approx(float(found["loss_after"] - found["loss_before"]))
    assert here["sum"] == pytest.approx(found["delta_layers"].sum())
    assert here["tuned"] == pytest.approx(float(tuned["loss"] - found["loss_before"]))
    assert set(frame.index.get_level_values("r")) == {0.1, 0.2}


def test_the_smoke_study_is_shown_whole(study):
    assert pruning.missing("smoke").startswith("All rows of pruning are measured")
    units = pruning.units("smoke")
    of_digits = units["dataset"] == "digits"
    assert set(units["row"][of_digits]) == set(pruning.ROWS)
    assert set(units["dataset"][~of_digits]) == {"digit-pairs"}
    costs = pruning.costs("smoke")
    keys = [f"{row}-r{r}" for row in (*pruning.ROWS, "skip") for r in pruning.RATES]
    assert len(costs) == len(smoke_study.cells(*keys))
    assert (costs["parameters"].astype(float) < 0.91).all()
    text = pruning.says("smoke")
    assert "the papers print -10.6 and -18.4 against vanilla" in text
    assert text.count("\n- ") >= 5
    assert len(pruning.skip_gates("smoke")) == 2


def test_what_is_not_measured_is_named_with_its_command_and_nothing_fails(home):
    text = pruning.missing("cifar-cpu")
    assert "vtp-r0.1" in text and 'run "cifar-cpu/*/*-r0.*" "cifar-cpu/*/continued-twice"' in text
    assert pruning.says("cifar-cpu") == f"- {text}"
    for frame in (
        pruning.units("cifar-cpu"),
        pruning.readable_important(pruning.units("cifar-cpu")),
        pruning.readable_deltas("cifar-cpu"),
        pruning.accuracies("cifar-cpu"),
        pruning.costs("cifar-cpu"),
        pruning.skip_gates("cifar-cpu"),
    ):
        assert not len(frame)
    assert (pruning.against_the_papers("cifar-cpu")["against vanilla, points"] == "").all()
    for figure in (
        pruning_figures.importance(pruning.units("cifar-cpu")),
        pruning_figures.accuracy(pruning.accuracies("cifar-cpu"), {}),
    ):
        assert "not measured" in figure.axes[0].texts[0].get_text()


def labelled(figure: Figure) -> bool:
    axes = [each for each in figure.axes if each.axison and each.get_visible()]
    named = {side for each in axes for side in "xy" if getattr(each, f"get_{side}label")()}
    return named == {"x", "y"}


def test_figures_name_what_they_draw(study):
    units = pruning.units("smoke")
    importance = pruning_figures.importance(units)
    accuracy = pruning_figures.accuracy(pruning.accuracies("smoke"), pruning.unpruned("smoke"))
    assert labelled(importance) and labelled(accuracy)
    titles = [axes.get_title() for axes in importance.axes if axes.get_visible()]
    assert len(titles) == 6 and len(set(titles)) == 6
    goes = pruning_figures.what_goes(np.array([[0.0, 0.5, 1.0, 0.25, 0.1]]), "t")
    assert [text.get_text() for text in goes.axes[0].texts] == [
        "0 %",
        "50 %",
        "100 %",
        "25 %",
        "10 %",
    ]
    for figure in (importance, accuracy, goes):
        assert style.render(figure, "png").startswith(b"\x89PNG")


def test_every_parameter_is_drawn_in_the_histograms(study):
    units = pruning.units("smoke")
    figure = pruning_figures.importance(units)
    heights = [patch.get_data().values.sum() for patch in figure.axes[-1].patches]
    mine = units[units["row"] == "magnitude"].groupby("dataset", sort=False)["parameters"].sum()
    assert heights[::2] == mine.tolist()


def test_the_schematics_show_the_models_own_dimensions():
    figure = pruning_figures.schematics(pruning.shape_of("paper", "cifar10"))
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    for own in texts:
        assert "gate: 768 inputs" in own and "W_1: 3072 hidden" in own
        assert "W_q, W_k, W_v: 12 heads of 64" in own
    assert "past the block: weight 1 - g" in texts[1] and "g" not in texts[0]


def test_a_cut_that_would_empty_a_layer_is_one_line_for_the_slider_too():
    with pytest.raises(UserError, match="would empty a layer"):
        pruning.selected(made_up(), SHAPE, 0.95)
