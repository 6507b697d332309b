"""Intervals, calibration and flips, against hand cases and scipy."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from vitstudy import statistics

counts = st.integers(1, 5_000).flatmap(
    lambda total: st.tuples(st.integers(0, total), st.just(total))
)


@given(counts)
def test_wilson_is_scipys_and_holds_the_share(count):
    correct, total = count
    low, high = statistics.wilson(correct, total)
    known = scipy.stats.binomtest(correct, total).proportion_ci(0.95, "wilson")
    assert (low, high) == pytest.approx((known.low, known.high), abs=1e-6)
    assert 0 <= low <= correct / total + 1e-12
    assert correct / total - 1e-12 <= high <= 1


def test_wilson_by_hand_where_everything_is_right():
    # z² / (n + z²) is left out below.
    z = 1.959964
    low, high = statistics.wilson(10, 10)
    assert low == pytest.approx(10 / (10 + z * z), abs=1e-9)
    assert high == pytest.approx(1)


def single_sources(count: int) -> np.ndarray:
    return np.arange(count)[:, None]


def test_bootstrap_over_images_that_are_their_own_sources_is_the_plain_one():
    correct = np.arange(500) % 5 > 0
    low, high = statistics.bootstrap_over_sources(correct, single_sources(500))
    half = 1.96 * np.sqrt(0.8 * 0.2 / 500)
    assert low == pytest.approx(0.8 - half, abs=0.006)
    assert high == pytest.approx(0.8 + half, abs=0.006)


def test_bootstrap_is_wider_where_images_share_sources():
    # 50 sources of 10 images each; a source is right or wrong as a whole.
    sources = np.repeat(np.arange(50), 10)[:, None]
    correct = sources[:, 0] % 5 > 0
    shared = np.diff(statistics.bootstrap_over_sources(correct, sources))
    alone = np.diff(statistics.bootstrap_over_sources(correct, single_sources(500)))
    assert shared > 2.5 * alone  # by √10, were there no chance in it


def test_bootstrap_counts_an_image_by_both_of_its_sources():
    # Pairs on a 20x20 grid, wrong where the right one is of a bad source: as for 20 sources.
    sources = np.stack(np.meshgrid(np.arange(20), np.arange(20, 40)), -1).reshape(-1, 2)
    correct = sources[:, 1] % 5 > 0
    low, high = statistics.bootstrap_over_sources(correct, sources)
    assert low < 0.8 < high
    assert high - low > 0.25


def test_bootstrap_gives_the_same_interval_each_time():
    correct, sources = np.arange(60) % 3 > 0, np.repeat(np.arange(20), 3)[:, None]
    first = statistics.bootstrap_over_sources(correct, sources)
    np.random.rand(7)
    assert statistics.bootstrap_over_sources(correct, sources) == first


def test_accuracy_interval_says_how_it_was_made():
    correct = np.array([True, True, False, True])
    *interval, made = statistics.accuracy_interval(correct, single_sources(4))
    assert made == "wilson" and tuple(interval) == statistics.wilson(3, 4)
    for sources in (np.array([[0], [0], [1], [2]]), np.array([[0, 5], [1, 5], [2, 6], [3, 6]])):
        *interval, made = statistics.accuracy_interval(correct, sources)
        assert made == "bootstrap over source images"
        assert tuple(interval) == statistics.bootstrap_over_sources(correct, sources)


def test_calibration_error_by_hand():
    # Two bins: 0.62 and 0.64 (one right of two), 0.95 and 1.0 (two of two); gaps 0.13 and 0.025.
    confidence = np.array([0.62, 0.64, 0.95, 1.0])
    correct = np.array([True, False, True, True])
    assert statistics.expected_calibration_error(confidence, correct, bins=10) == pytest.approx(
        (2 * 0.13 + 2 * 0.025) / 4
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_calibration_error_is_a_share(pairs):
    confidence, correct = map(np.array, zip(*pairs, strict=True))
    assert 0 <= statistics.expected_calibration_error(confidence, correct) <= 1


def test_a_model_as_sure_as_it_is_right_has_no_calibration_error():
    confidence = np.full(10, 0.7)
    correct = np.arange(10) < 7
    assert statistics.expected_calibration_error(confidence, correct) == pytest.approx(0)


def test_flips_by_hand():
    labels = np.array([0, 1, 2, 3, 4])
    before = np.array([0, 1, 0, 0, 0])
    after = np.array([0, 2, 2, 1, 0])  # as it was, to wrong, to right, wrong to wrong, as it was
    assert statistics.flips(before, after, labels) == {
        "flips": 3,
        "flips_to_wrong": 1,
        "flips_to_right": 1,
    }


classes = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1)


@given(classes)
def test_flips_explain_the_change_of_accuracy(rows):
    before, after, labels = np.array(rows).T
    found = statistics.flips(before, after, labels)
    gained = (after == labels).sum() - (before == labels).sum()
    assert gained == found["flips_to_right"] - found["flips_to_wrong"]
    assert found["flips"] >= found["flips_to_right"] + found["flips_to_wrong"]
