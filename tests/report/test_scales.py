"""Kendall's τ by hand, by brute force and by scipy; its intervals; and what is said of scales."""

import itertools
import json
import math

import nbformat
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vitstudy import files, notebooks, profiles
from vitstudy.methods import METHODS
from vitstudy.report import costs, scales, scales_figures, significance, style, transfer
from vitstudy.study import Cell

KEYS = [method.key for method in METHODS]
FEW = KEYS[:6]

# -- the mathematics ------------------------------------------------------------------------------


def tau(first, second) -> float:
    return float(scales.kendall(np.asarray(first, float), np.asarray(second, float)))


def brute_force(first, second) -> float:
    """τ-b pair by pair."""
    same = opposite = tied_first = tied_second = 0
    for (a, b), (c, d) in itertools.combinations(zip(first, second, strict=True), 2):
        same += (a - c) * (b - d) > 0
        opposite += (a - c) * (b - d) < 0
        tied_first += a == c
        tied_second += b == d
    pairs = math.comb(len(first), 2)
    return (same - opposite) / math.sqrt((pairs - tied_first) * (pairs - tied_second))


def test_tau_by_hand():
    # Of six pairs the first and the second row alone change places: (5 - 1) / 6.
    assert tau([1, 2, 3, 4], [2, 1, 3, 4]) == pytest.approx(4 / 6)
    # A tie on one side: five pairs are in the same order, over √(5 · 6).
    assert tau([4, 3, 3, 1], [4, 3, 2, 1]) == pytest.approx(5 / math.sqrt(30))
    # Tied alike on both sides, the pair counts nowhere.
    assert tau([4, 3, 3, 1], [9, 5, 5, 2]) == pytest.approx(1)
    # One tie each, of different rows: four pairs the same, over √(5 · 5).
    assert tau([4, 3, 3, 1], [4, 4, 2, 1]) == pytest.approx(4 / 5)


def test_a_side_that_ties_all_has_no_tau():
    assert math.isnan(tau([1, 1, 1], [1, 2, 3]))


values = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=13)
distinct = st.permutations(range(8))


@given(values)
def test_tau_is_scipys_and_that_of_counting_every_pair(both):
    first, second = zip(*both, strict=True)
    if len({*first}) > 1 and len({*second}) > 1:
        assert tau(first, second) == pytest.approx(brute_force(first, second))
        assert tau(first, second) == pytest.approx(scipy.stats.kendalltau(first, second).statistic)
        assert tau(first, second) == tau(second, first)
        assert -1 - 1e-12 <= tau(first, second) <= 1 + 1e-12


@given(distinct, distinct)
def test_a_ranking_is_like_itself_and_unlike_its_reverse(first, second):
    first, second = np.array(first), np.array(second)
    assert tau(first, first) == 1 and tau(first, -first) == -1
    assert tau(first, -second) == -tau(first, second)
    assert tau(np.exp(first), 3 * second - 7) == tau(first, second)


def test_many_rankings_are_compared_at_once():
    draws = np.random.RandomState(0).rand(2, 5, 7)
    assert scales.kendall(*draws) == pytest.approx([tau(a, b) for a, b in zip(*draws, strict=True)])


def noisy(truth, deviation, seed=0):
    return truth + deviation * np.random.RandomState(seed).randn(4_000, len(truth))


@given(distinct, distinct, st.sampled_from([0.01, 0.5, 3.0]))
def test_the_interval_over_images_holds_tau_and_lies_within_its_bounds(first, second, deviation):
    found = tau(first, second)
    low, high = scales.over_images(
        found, noisy(np.array(first), deviation, 1), noisy(np.array(second), deviation, 2)
    )
    assert -1 <= low <= found <= high <= 1


def test_without_noise_the_interval_over_images_is_tau():
    first, second = np.array([[4.0, 3, 2, 1]]), np.array([[4.0, 2, 3, 1]])
    found = tau(first[0], second[0])
    assert scales.over_images(found, first, second) == pytest.approx((found, found))


def test_pairs_that_the_images_cannot_tell_apart_may_stand_in_either_order():
    truth = np.array([10.0, 9.99, 5, 1])
    assert scales.told_apart(noisy(truth, 0.5)).tolist() == [0, 1, 1, 1, 1, 1]
    # The second side has them the other way round: the pair counts for either order.
    other = np.array([[9.0, 10, 5, 1]])
    low, high = scales.over_images(tau(truth, other[0]), noisy(truth, 0.5), other)
    assert (low, high) == pytest.approx((4 / 6, 1))
    # Where all is noise, below 0 neither end says more than the bounds do.
    truth = np.array([3.0, 2.99, 2.98])
    assert scales.over_images(-1.0, noisy(truth, 5), np.array([[1.0, 2, 3]])) == (-1, 1)


@given(st.integers(5, 13), st.floats(-1, 1))
def test_the_interval_over_rows_holds_tau_and_is_no_point(rows, found):
    low, high = scales.over_rows(found, rows)
    assert -1 <= low <= found <= high <= 1
    assert high - low > 0.01
    mirrored = scales.over_rows(-found, rows)
    assert mirrored == pytest.approx((-high, -low))


def test_the_interval_over_rows_by_hand():
    # atanh(0.6) = 0.6931, 1.96 · √(0.437 / 9) = 0.4319.
    low, high = scales.over_rows(0.6, 13)
    assert (low, high) == pytest.approx((math.tanh(0.6931 - 0.4319), math.tanh(1.125)), abs=1e-3)
    assert scales.over_rows(0.6, 4) is None
    narrower = scales.over_rows(0.6, 50)
    assert narrower[0] > low and narrower[1] < high


def test_the_interval_over_rows_covers_about_what_it_says():
    generator, slope = np.random.RandomState(5), 0.8
    truth, held = 2 / math.pi * math.asin(slope), 0
    for _ in range(400):
        first = generator.randn(13)
        second = slope * first + math.sqrt(1 - slope**2) * generator.randn(13)
        low, high = scales.over_rows(tau(first, second), 13)
        held += low <= truth <= high
    assert 0.91 < held / 400 < 0.98


@pytest.mark.parametrize(
    ("intervals", "said"),
    [
        ([(0.6, 0.9), (0.55, 0.8)], scales.AGREES),
        ([(0.6, 0.9), (0.4, 0.95)], scales.OPEN),
        ([(-0.2, 0.3), (0.0, 0.49)], scales.DIFFERS),
        ([(-0.2, 0.3), (0.0, 0.6)], scales.OPEN),
        ([(0.6, 0.9), None], scales.OPEN),
    ],
)
def test_one_ranking_predicts_another_by_both_intervals(intervals, said):
    assert scales.verdict(*intervals) == said


# -- the scales -----------------------------------------------------------------------------------


def made(name, accuracies, deviation=0.1):
    """A scale with these accuracies, percent, in the rows' order."""
    accuracy = dict(zip(KEYS, accuracies, strict=False))
    generator = np.random.RandomState(len(name))
    resampled = {
        key: value + deviation * generator.randn(significance.DRAWS)
        for key, value in accuracy.items()
    }
    return scales.Scale(name, accuracy, {} if name == scales.PRINT else resampled, f"{name}: made")


def found_with(**measured):
    """What `read` gives where these scales alone are measured, in both tables alike."""
    printed = [100 - 5 * position for position in range(13)]
    measured = {name.replace("_", "-"): values for name, values in measured.items()}
    each = [made(name, measured.get(name, [])) for name in scales.SCALES[:-1]]
    return {which: [*each, made(scales.PRINT, printed)] for which in scales.TABLES}


def row(frame, first, second, table=1):
    chosen = frame["table"].eq(table) & frame["first"].eq(first) & frame["second"].eq(second)
    return frame[chosen].iloc[0]


DOWN = list(range(90, 77, -1))


@pytest.fixture
def measured(add, add_predictions):
    """Write records with predictions on a profile: how many of `images` each row gets right."""

    def write(profile, dataset, right, images, seed=0):
        labels = np.arange(images) % 10
        for key, count in right.items():
            wrong = np.random.RandomState(len(key)).permutation(images) >= count
            add(profile, dataset, key, seed, accuracy=count / images)
            cell = Cell(profile, dataset, key, seed)
            add_predictions(cell, labels, np.where(wrong, (labels + 1) % 10, labels))

    return write


def test_scales_are_the_profiles_that_are_evidence_the_digits_and_the_print():
    assert scales.SCALES == ("digits", "cifar-cpu", "cifar", "cifar224", "paper", "print")


def test_a_row_that_one_side_lacks_is_left_out():
    frame = scales.pairs(found_with(cifar_cpu=DOWN[:7], cifar=DOWN))
    assert row(frame, "cifar-cpu", "cifar")["rows"] == 7
    assert row(frame, "cifar", "print")["rows"] == 13
    assert row(frame, "cifar-cpu", "cifar")["tau"] == 1


def test_what_is_not_measured_has_the_reason():
    frame = scales.pairs(found_with(cifar_cpu=DOWN[:2], cifar=DOWN, cifar224=[80] * 13))
    assert len(frame) == 2 * math.comb(len(scales.SCALES), 2)
    for first, second, note in (
        ("digits", "cifar", "digits not measured"),
        ("digits", "paper", "digits and paper not measured"),
        ("cifar-cpu", "cifar", "rows in common: 2, and it takes 3"),
        ("cifar", "cifar224", "one of them ties all rows"),
    ):
        each = row(frame, first, second)
        assert (each["verdict"], each["note"]) == (scales.NOT_MEASURED, note)
        assert pd.isna(each["tau"]) and pd.isna(each["low"])
    said = scales.missing(frame)
    assert (
        said.startswith("No τ for ") and "cifar and cifar224, 10 classes (one of them ties" in said
    )
    assert scales.missing(frame.dropna(subset="tau")) == ""


def test_four_rows_have_a_tau_but_no_interval_over_rows_and_no_verdict():
    frame = scales.pairs(found_with(cifar_cpu=DOWN[:4], cifar=DOWN))
    each = row(frame, "cifar-cpu", "cifar")
    assert each["tau"] == 1 and pd.isna(each["rows_low"])
    assert each["verdict"] == scales.OPEN and "too few rows" in each["note"]


def test_predictions_are_resampled_and_more_images_make_the_interval_narrower(measured):
    for profile, images in (("cifar-cpu", 400), ("cifar", 6_000)):
        right = {key: round(images * (0.9 - 0.01 * at)) for at, key in enumerate(KEYS)}
        measured(profile, "cifar10", right, images)
    frame = scales.pairs(scales.read())
    few, many = (row(frame, profile, "print") for profile in ("cifar-cpu", "cifar"))
    assert few["rows"] == many["rows"] == 13
    assert few["tau"] == pytest.approx(many["tau"])
    assert few["low"] < many["low"] and many["high"] < few["high"]
    assert few["note"].startswith("cifar-cpu: test images resampled, the same for all rows; print")
    assert many["note"].startswith("cifar: test images and seeds resampled")
    assert row(frame, "cifar", "print", table=2)["note"] == "cifar not measured"


def test_models_of_one_prediction_tie_on_every_resampling(measured):
    measured("cifar-cpu", "cifar10", dict.fromkeys(("dynamic", "deit-base"), 150), 200)
    scale = scales.read()[1][1]
    assert set(scale.accuracy) == {"dynamic", "deit-base"}
    alone = scale.draws(["dynamic"])
    assert alone.std() > 0.5 and alone.mean() == pytest.approx(75, abs=0.2)
    for key in ("dynamic", "fq-vit"):
        measured("cifar-cpu", "cifar10", {key: 200}, 200)
    both = scales.read()[1][1].draws(["dynamic", "fq-vit"])
    assert (both == 100).all()


def test_seeds_are_averaged_and_drawn(measured):
    for seed, right in enumerate((150, 160, 170)):
        measured("cifar", "cifar10", {"vanilla": right}, 200, seed)
    every = significance.comparison("cifar", "cifar10")
    accuracy, draws = every.row("vanilla")
    assert accuracy == pytest.approx(0.8) and draws.shape == (significance.DRAWS,)
    assert draws.mean() == pytest.approx(0.8, abs=0.01)
    assert not np.array_equal(draws, every.row("vanilla", stream=2)[1])
    assert every.row("dynamic") is None


def test_the_digits_are_those_of_the_committed_summary_whatever_is_measured_here(measured):
    measured("digits", "digits", dict.fromkeys(FEW, 30), 60)
    summary = json.loads(scales.SUMMARY.read_text())
    for which, dataset in enumerate(profiles.get("digits").datasets, 1):
        scale = scales.read()[which][0]
        rows = {each["method"]: each for each in summary["rows"] if each["dataset"] == dataset}
        assert scale.accuracy == {key: 100 * each["accuracy"] for key, each in rows.items()}
        draws = scale.draws(["vanilla"])
        assert draws.mean() == pytest.approx(100 * rows["vanilla"]["accuracy"], abs=0.05)
        ends = np.percentile(draws, [2.5, 97.5])
        width = 100 * (rows["vanilla"]["accuracy_high"] - rows["vanilla"]["accuracy_low"])
        assert ends[1] - ends[0] == pytest.approx(width, rel=0.05)


def test_without_a_summary_the_digits_are_not_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(scales, "SUMMARY", tmp_path / "summary.json")
    frame = scales.pairs(scales.read())
    assert set(frame["verdict"]) == {scales.NOT_MEASURED}
    assert len(scales.ranks(scales.read())) == 2 * len(METHODS)


def test_ranks_are_shared_by_ties_and_begin_with_the_most_accurate():
    frame = scales.ranks(found_with(cifar=[80, 90, 90, 70], cifar_cpu=DOWN[:2]))
    own = frame[frame["table"].eq(1) & frame["scale"].eq("cifar")].set_index("key")["rank"]
    assert own.to_dict() == {"vanilla": 3, "dynamic": 1.5, "fq-vit": 1.5, "lsq-w4": 4}
    assert set(frame["scale"]) == {"cifar", "print"}


# -- what is shown --------------------------------------------------------------------------------

SHUFFLED = [78, 90, 79, 89, 80, 88, 81, 87, 82, 86, 83, 85, 84]


def test_the_table_is_written_and_read_as_text(home):
    frame = scales.pairs(found_with(cifar_cpu=DOWN, cifar=SHUFFLED))
    scales.write(frame)
    written = pd.read_csv(home / "results/scales/agreement.csv", keep_default_na=False, dtype=str)
    assert list(written) == scales.COLUMNS and len(written) == len(frame)
    each = row(frame, "cifar-cpu", "cifar")
    shown = written[written["first"].eq("cifar-cpu") & written["second"].eq("cifar")].iloc[0]
    assert shown["tau"] == f"{each['tau']:.3f}" and shown["rows"] == "13"
    assert written["tau"].eq("").sum() == frame["tau"].isna().sum()
    readable = scales.readable(frame)
    assert len(readable) == frame["tau"].notna().sum()
    assert not readable.isna().any(axis=None)


@pytest.mark.parametrize(
    "given_", [{}, {"cifar_cpu": DOWN[:5]}, {"digits": SHUFFLED, "cifar": DOWN[:9], "paper": DOWN}]
)
def test_figures_draw_what_is_measured_and_name_every_row(given_):
    found = found_with(**given_)
    ranks = scales_figures.ranks(scales.ranks(found))
    names = [label.get_text() for label in ranks.axes[0].get_xticklabels()]
    assert [name.split("\n")[0] for name in names] == [
        *(name.replace("_", "-") for name in given_),
        "print",
    ]
    assert {text.get_text() for text in ranks.axes[0].texts} == {each.title for each in METHODS}
    intervals = scales_figures.intervals(scales.pairs(found))
    pairs = [label.get_text() for label in intervals.axes[0].get_yticklabels()]
    assert len(pairs) == math.comb(len(given_) + 1, 2)
    again = scales_figures.ranks(scales.ranks(found))
    assert style.render(ranks, "svg") == style.render(again, "svg")
    assert style.render(intervals, "png").startswith(b"\x89PNG")


# -- what is committed ----------------------------------------------------------------------------

AGAIN = "stale: run python -m vitstudy refresh --from-records"


@pytest.fixture(scope="module")
def committed():
    """The scales of the records that are in the repository, not of an empty home's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VITSTUDY_HOME", raising=False)
        found, losses = scales.read(), transfer.losses()
    return found, scales.pairs(found), losses


def test_the_committed_table_is_what_the_committed_records_give(committed, home):
    scales.write(committed[1])
    made, kept = (root / "results/scales/agreement.csv" for root in (home, files.REPOSITORY))
    assert made.read_text() == kept.read_text(), AGAIN


def test_the_notebook_shows_the_numbers_of_the_functions(committed):
    _, frame, losses = committed
    notebook = nbformat.read(notebooks.path("10_scales"), as_version=4)
    shown = [
        output["data"].get("text/markdown", output["data"]["text/plain"])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    assert scales.readable(frame).to_string(index=False) in shown, AGAIN
    assert transfer.readable(losses).to_string(index=False) in shown, AGAIN
    lines = (*transfer.lines(losses), *costs.lines())
    assert "\n".join(f"- {line}" for line in lines) in shown, AGAIN
