"""Paired tests against hand-worked cases, scipy and the procedures' own definitions."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vitstudy import profiles, statistics
from vitstudy.report import significance
from vitstudy.study import Cell

# -- the mathematics ------------------------------------------------------------------------------


def test_mcnemar_by_hand():
    # Six images differ, one of them for the first model: 2 (C(6,0) + C(6,1)) / 2^6 = 14 / 64.
    assert significance.mcnemar(1, 5, mid=False) == pytest.approx(14 / 64)
    # The mid-p counts the observed count once instead of twice: 14 / 64 - C(6,1) / 64.
    assert significance.mcnemar(1, 5) == pytest.approx(8 / 64)
    assert significance.mcnemar(0, 6) == pytest.approx(1 / 64)


counts = st.integers(0, 60)


@given(counts, counts)
def test_mcnemar_is_scipys_binomial_test(first_only, second_only):
    total, fewer = first_only + second_only, min(first_only, second_only)
    exact = scipy.stats.binomtest(fewer, total, 0.5).pvalue if total else 1.0
    assert significance.mcnemar(first_only, second_only, mid=False) == pytest.approx(exact)
    once = scipy.stats.binom.pmf(fewer, total, 0.5) if first_only != second_only else 0
    assert significance.mcnemar(first_only, second_only) == pytest.approx(exact - once)
    assert significance.mcnemar(second_only, first_only) == significance.mcnemar(
        first_only, second_only
    )


def test_mcnemar_of_thousands_of_images_neither_overflows_nor_vanishes():
    p_value = significance.mcnemar(2_300, 2_500)
    z = (2_500 - 2_300) / np.sqrt(4_800)
    assert p_value == pytest.approx(2 * scipy.stats.norm.sf(z), rel=0.01)
    assert 0 < significance.mcnemar(0, 900) < 1e-200


def test_two_models_that_never_differ_have_p_one():
    assert significance.mcnemar(0, 0) == 1
    assert significance.mcnemar(7, 7) == 1


def test_holm_by_hand():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1; the last is raised to the one before.
    found = significance.holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])
    assert significance.holm(np.array([])).shape == (0,)


p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(p_values, st.sampled_from([0.01, 0.05, 0.2, 0.5]))
def test_holm_rejects_what_its_step_down_procedure_rejects(values, level):
    order, rejected = sorted(range(len(values)), key=values.__getitem__), set()
    for step, position in enumerate(order):
        if values[position] * (len(values) - step) > level:
            break
        rejected.add(position)
    adjusted = significance.holm(np.array(values))
    assert {position for position, each in enumerate(adjusted) if each <= level} == rejected
    assert (adjusted >= np.array(values)).all()


def test_resampling_is_the_studys_bootstrap_over_sources():
    sources = np.stack(np.meshgrid(np.arange(12), np.arange(12, 24)), -1).reshape(-1, 2)
    correct = (sources.sum(axis=1) % 5 > 0)[None]
    found = significance.resampled_accuracy(correct, sources)[: statistics.BOOTSTRAP_DRAWS, 0]
    known = statistics.bootstrap_over_sources(correct[0], sources)
    assert np.percentile(found, [2.5, 97.5]) == pytest.approx(known, abs=1e-6)


def test_resampling_pairs_the_models_on_the_same_images():
    correct = np.arange(400) % 4 > 0
    worse = correct.copy()
    worse[1] = False
    draws = significance.resampled_accuracy(np.stack([correct, worse]), None)
    assert len(draws) == significance.DRAWS
    # Alone either moves by points; their difference is that one image, drawn 0, 1, 2, … times.
    assert np.std(draws[:, 0]) > 0.02
    assert np.unique((draws[:, 0] - draws[:, 1]).round(4)).size < 10


def test_the_bootstraps_p_by_hand():
    assert significance.bootstrap_p(np.array([-1.0, 1, 1, 1])) == pytest.approx(2 * 2 / 5)
    assert significance.bootstrap_p(np.array([0.0, 0, 0])) == 1
    assert significance.bootstrap_p(np.full(99, 0.5)) == pytest.approx(2 / 100)


def test_the_bootstraps_p_is_near_the_normal_one():
    generator = np.random.RandomState(3)
    draws = generator.normal(1.5, 1, 100_000)
    expected = 2 * scipy.stats.norm.sf(1.5)
    assert significance.bootstrap_p(draws) == pytest.approx(expected, rel=0.05)


# -- records --------------------------------------------------------------------------------------


@pytest.fixture
def measured(add, add_predictions):
    """Write a record with predictions: `right` says which of the test images are right."""

    def write(profile, dataset, method, right, seed=0, **given) -> None:
        right = np.asarray(right, bool)
        labels = np.arange(len(right)) % 10
        add(profile, dataset, method, seed, accuracy=float(right.mean()), **given)
        classes = np.where(right, labels, (labels + 1) % 10)
        add_predictions(Cell(profile, dataset, method, seed), labels, classes)

    return write


def test_one_seed_is_mcnemars_test(measured):
    measured("cifar-cpu", "cifar10", "vanilla", [1] * 90 + [0] * 10)
    measured("cifar-cpu", "cifar10", "dynamic", [1] * 80 + [0] * 19 + [1])
    found = significance.comparison("cifar-cpu", "cifar10").difference("dynamic", "vanilla")
    assert found.points == pytest.approx(-9)
    assert (found.test, found.seeds) == (significance.MCNEMAR, 1)
    assert found.p_value == significance.mcnemar(1, 10)
    assert found.low < -9 < found.high < 0


def test_images_that_share_sources_are_resampled_by_source(measured, home):
    profile = profiles.get("smoke")
    count = profile.limit[-1]
    right = np.arange(count) % 3 > 0
    measured("smoke", "digit-pairs", "vanilla", right, accuracy_interval="bootstrap over sources")
    measured(
        *("smoke", "digit-pairs", "dynamic", right & (np.arange(count) % 5 > 0)),
        accuracy_interval="bootstrap over sources",
    )
    found = significance.comparison("smoke", "digit-pairs").difference("dynamic", "vanilla")
    assert found.test == significance.OVER_SOURCES
    assert found.low < found.points < found.high


def test_seeds_that_disagree_are_no_significant_difference(measured):
    right = np.arange(200) % 10 > 0
    for seed, better in ((0, True), (1, False), (2, True)):
        measured("cifar", "cifar10", "vanilla", right, seed)
        other = np.ones(200) if better else np.arange(200) % 5 > 0
        measured("cifar", "cifar10", "dynamic", other, seed)
    every = significance.comparison("cifar", "cifar10")
    found = every.difference("dynamic", "vanilla")
    assert (found.test, found.seeds) == (significance.OVER_SEEDS, 3)
    assert found.points == pytest.approx((10 - 10 + 10) / 3)
    assert found.p_value > 0.05 and found.low < 0 < found.high


def test_seeds_that_agree_are_one(measured):
    for seed in (0, 1, 2):
        measured("cifar", "cifar10", "vanilla", np.arange(400) % 10 > 0, seed)
        measured("cifar", "cifar10", "dynamic", np.arange(400) % 4 > 0, seed)
    found = significance.comparison("cifar", "cifar10").difference("dynamic", "vanilla")
    assert found.points == pytest.approx(-15)
    assert found.p_value < 0.001 and found.high < -8


def test_rows_are_compared_on_the_seeds_that_both_have(measured):
    for seed in (0, 1, 2):
        measured("cifar", "cifar10", "vanilla", np.ones(50), seed)
    measured("cifar", "cifar10", "dynamic", np.arange(50) % 5 > 0, 1)
    every = significance.comparison("cifar", "cifar10")
    found = every.difference("dynamic", "vanilla")
    assert (found.seeds, found.points) == (1, pytest.approx(-20))
    assert every.difference("fq-vit", "vanilla") == "no predictions of fq-vit"


def test_predictions_of_other_images_are_not_compared(measured, add, add_predictions):
    measured("cifar-cpu", "cifar10", "vanilla", np.ones(20))
    add("cifar-cpu", "cifar10", "dynamic")
    add_predictions(Cell("cifar-cpu", "cifar10", "dynamic", 0), [3] * 20, [3] * 20)
    found = significance.comparison("cifar-cpu", "cifar10").difference("dynamic", "vanilla")
    assert found == "no predictions of dynamic"


def test_a_table_is_one_family_of_tests(measured):
    right = np.arange(300) % 10 > 0
    measured("cifar-cpu", "cifar10", "vanilla", right)
    for key, worse in (("dynamic", 5), ("fq-vit", 9), ("lsq-w4", 0)):
        less = right.copy()
        less[np.flatnonzero(right)[:worse]] = False
        measured("cifar-cpu", "cifar10", key, less)
    frame = significance.against_vanilla("cifar-cpu", "cifar10").set_index("first")
    assert list(frame.index) == ["dynamic", "fq-vit", "lsq-w4"]
    raw = [significance.mcnemar(0, worse) for worse in (5, 9, 0)]
    assert frame["p_value"].tolist() == raw
    assert frame["p_holm"].tolist() == pytest.approx([2 * raw[0], 3 * raw[1], 1])
    # Alone the first would be called significant as well.
    assert raw[0] < significance.LEVEL
    assert frame["significant"].tolist() == [False, True, False]
    assert len(significance.all_pairs("cifar-cpu", "cifar10")) == 6


def test_a_new_record_is_seen(measured):
    measured("cifar-cpu", "cifar10", "vanilla", np.ones(30))
    assert len(significance.against_vanilla("cifar-cpu", "cifar10")) == 0
    measured("cifar-cpu", "cifar10", "dynamic", np.ones(30))
    assert len(significance.against_vanilla("cifar-cpu", "cifar10")) == 1


def test_a_variant_is_held_against_its_own_row(measured):
    measured("cifar-cpu", "cifar10", "vanilla", np.ones(40))
    measured("cifar-cpu", "cifar10", "lsq-w4", np.arange(40) % 4 > 0)
    measured("cifar-cpu", "cifar10", "rounded-w4", np.arange(40) % 2 > 0)
    frame = significance.against_their_row("cifar-cpu", "cifar10")
    assert frame[["first", "second"]].to_numpy().tolist() == [["rounded-w4", "lsq-w4"]]
    assert frame["points"].tolist() == pytest.approx([-25])


# -- equivalence and trainings --------------------------------------------------------------------


def test_two_one_sided_tests_by_hand():
    # 0.5 - 0.171 is 1.645 standard errors of 0.2: the one-sided 5 % of the normal distribution.
    assert significance.tost(0.1710293, 0.2, 0.5) == pytest.approx(0.05, abs=1e-6)
    assert significance.tost(-0.1710293, 0.2, 0.5) == significance.tost(0.1710293, 0.2, 0.5)
    assert significance.tost(0.5, 0.2, 0.5) == 0.5  # at the margin itself
    assert significance.tost(1.5, 0.2, 0.5) > 0.999
    assert (significance.tost(0.4, 0, 0.5), significance.tost(0.5, 0, 0.5)) == (0, 1)


finite = st.floats(-3, 3)
positive = st.floats(0.05, 2)


@given(finite, positive, positive, st.one_of(st.just(np.inf), st.floats(1, 50)))
def test_tost_is_the_greater_of_scipys_two_one_sided_tests(value, error, margin, freedom):
    lower = scipy.stats.t.sf((value + margin) / error, freedom)
    upper = scipy.stats.t.cdf((value - margin) / error, freedom)
    found = significance.tost(value, error, margin, freedom)
    assert found == pytest.approx(max(lower, upper), abs=1e-9)


@given(finite, positive, positive)
def test_tost_says_what_the_interval_of_twice_its_level_says(value, error, margin):
    half = scipy.stats.norm.ppf(0.95) * error
    room = margin - abs(value) - half
    found = significance.tost(value, error, margin)
    assert abs(room) < 1e-9 or (found < 0.05) == (room > 0)


def test_the_error_of_two_trainings_by_hand():
    # Images 0.3, trainings 0.4 of three seeds, one against the mean of three:
    # 0.09 + 0.16 x 4/3 = 0.30333; freedom 2 (0.30333 / 0.21333)^2 = 4.0435.
    error, freedom = significance.error_of_trainings(0.3, 0.4, 1, 3, 2)
    assert error == pytest.approx(0.550757, abs=1e-6)
    assert freedom == pytest.approx(4.043457, abs=1e-5)
    assert significance.error_of_trainings(0.3, 0.0, 1, 1, 2) == (0.3, np.inf)


@given(st.lists(st.floats(80, 90), min_size=3, max_size=6), st.integers(1, 4))
def test_without_images_the_error_is_that_of_a_pooled_t_test(ours, count):
    deviation = float(np.std(ours, ddof=1))
    error, freedom = significance.error_of_trainings(0, deviation, count, len(ours), len(ours) - 1)
    assert error == pytest.approx(deviation * np.sqrt(1 / count + 1 / len(ours)))
    assert deviation < 1e-6 or freedom == pytest.approx(len(ours) - 1)


@given(positive, st.floats(0.01, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 9))
def test_trainings_never_make_a_difference_surer(images, deviation, ours, theirs, freedom):
    error, known = significance.error_of_trainings(images, deviation, ours, theirs, freedom)
    assert error > images and known >= freedom * (1 - 1e-9)


@pytest.mark.parametrize(
    ("points", "significant", "equivalent", "outcome"),
    [
        (-0.3, True, True, significance.NO_LOSS),
        (0.1, False, True, significance.NO_LOSS),
        (-0.6, False, False, significance.UNTOLD),
        (-5, True, False, significance.LOSES),
        (2, True, False, significance.GAINS),
    ],
)
def test_an_outcome_is_of_both_tests(points, significant, equivalent, outcome):
    assert significance.outcome(points, significant, equivalent) == outcome


def test_a_rows_training_is_the_one_its_weights_come_from():
    for key, training in {
        "vanilla": "vanilla",
        "vtp-r0.2+dynamic": "vanilla",
        "deit-base": "deit-base",  # its teacher gives it no weights
        "deit-base+dynamic": "deit-base",
        "lsq-w4+taught": "vanilla",
        "teacher": "teacher",
    }.items():
        assert significance.training(key) == training


def test_two_trainings_are_held_against_the_mean_of_vanillas_seeds(measured):
    count = 2_000
    for seed, right in enumerate((1_740, 1_748, 1_752)):
        measured("cifar-cpu", "cifar10", "vanilla", np.arange(count) < right, seed)
    measured("cifar-cpu", "cifar10", "deit-base", np.arange(count) < 1_760)
    measured("cifar-cpu", "cifar10", "dynamic", np.arange(count) < 1_736)
    every = significance.comparison("cifar-cpu", "cifar10")
    found = every.difference("deit-base", "vanilla")
    mean, deviation = np.mean([87, 87.4, 87.6]), np.std([87, 87.4, 87.6], ddof=1)
    assert found.points == pytest.approx(88 - mean)
    assert found.test == significance.OF_TRAININGS
    assert found.covers == f"images and trainings, by 3 of vanilla's (± {deviation:.2f})"
    # The images alone: the standard error of a mean of differences, which the bootstrap comes to.
    images = np.arange(count)
    apart = (images < 1_760) - np.mean([images < right for right in (1_740, 1_748, 1_752)], axis=0)
    alone = 100 * apart.std() / np.sqrt(count)
    error, freedom = significance.error_of_trainings(alone, deviation, 1, 3, 2)
    half = error * scipy.stats.t.ppf(0.975, freedom)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.03)
    expected = 2 * scipy.stats.t.sf(found.points / error, freedom)
    assert found.p_value == pytest.approx(expected, rel=0.1)
    # What was made of one training is compared with it alone.
    found = every.difference("dynamic", "vanilla")
    assert found.points == pytest.approx(-0.2) and found.test == significance.MCNEMAR
    assert found.covers == "images of one trained model"


def test_a_table_tells_what_is_surely_small(measured):
    right = np.arange(10_000) % 10 > 0
    measured("cifar-cpu", "cifar10", "vanilla", right)
    for key, worse in (("dynamic", 10), ("fq-vit", 60), ("lsq-w4", 900)):
        less = right.copy()
        less[np.flatnonzero(right)[:worse]] = False
        less[np.flatnonzero(~right)[: 50 if key == "fq-vit" else 0]] = True
        measured("cifar-cpu", "cifar10", key, less)
    frame = significance.against_vanilla("cifar-cpu", "cifar10").set_index("first")
    assert frame["points"].tolist() == pytest.approx([-0.1, -0.1, -9])
    assert frame["outcome"].tolist() == [significance.NO_LOSS] * 2 + [significance.LOSES]
    assert (frame["p_equivalent_holm"] >= frame["p_equivalent"]).all()
