"""Speed: models in turn, ratios to vanilla within a run, and runs that are added, not replaced."""

import json

import numpy as np
import pytest
import scipy.stats
import smoke_study
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitstudy import measure, methods, profiles, speed, study
from vitstudy.study import Cell

SMOKE = profiles.get("smoke")
MADE = smoke_study.cells(*(method.key for method in methods.available()))
REAL = [
    cell
    for cell in study.cells("smoke", left_out=True)
    if not (method := methods.get(cell.method)).simulated
    and method.timed
    and (cell.method, cell.dataset) in MADE
]
"""What has a speed of its own."""
COPIED = ("vanilla", "dynamic", "onnx", "nystrom-m24", "fq-vit")
KEYS = [speed._key(cell) for cell in REAL if cell.method in COPIED]
VANILLA = [key for key in KEYS if "/vanilla/" in key]


@pytest.fixture
def few(with_cells):
    """A copy of a few cells, the simulated ones of FQ-ViT among them."""
    return with_cells(*COPIED)


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(speed, "SECONDS_A_TURN", 0.002)


class Counting(nn.Module):
    """Notes its own name and the size of each batch that it is given."""

    def __init__(self, name, log):
        super().__init__()
        self.name, self.log = name, log

    def forward(self, images):
        assert torch.is_inference_mode_enabled()
        self.log.append((self.name, len(images)))
        return images * 2


def test_interleave_times_each_model_in_turn_after_a_warm_up():
    log = []
    pairs = {name: (Counting(name, log), torch.zeros(4, 3)) for name in "ABC"}
    turns = speed.interleave(pairs, rounds=5)
    assert list(turns) == ["A", "B", "C"]
    timed = sum((each["repeats"] + speed.SINGLES_A_TURN) * 5 for each in turns.values())
    order = [name for name, _ in log[-timed:]]
    in_turn = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert in_turn == ["A", "B", "C"] * 5
    warm_up = log[:-timed]
    assert {name for name, size in warm_up if size == 4} == set("ABC")
    assert {name for name, size in warm_up if size == 1} == set("ABC")
    for name in "ABC":
        each = turns[name]
        assert len(each["batch_seconds"]) == len(each["images_per_second"]) == 5
        assert len(each["single_seconds"]) == 5 * speed.SINGLES_A_TURN
        assert each["images_per_second"] == pytest.approx(4 / np.array(each["batch_seconds"]))
        assert each["peak_mib"] is None  # of a process that ran others, a CPU cannot tell


def test_summary_by_hand():
    base = {"images_per_second": np.array([100.0, 200.0, 400.0])}
    turns = {
        "images_per_second": np.array([200.0, 300.0, 400.0]),
        "batch_seconds": [0.08, 16 / 300, 0.04],
        "single_seconds": [0.001] * 19 + [0.011],
        "peak_mib": 3.5,
    }
    found = speed._summary(turns, base)
    assert found["images_per_second"] == 300
    assert found["images_per_second_quartiles"] == [250, 350]
    assert found["iterations_per_second"] == pytest.approx(300 / 16)
    assert found["ratio_to_vanilla"] == 1.5  # 300 / 200: the two medians
    assert found["turns"] == [200, 300, 400]
    # Three turns drawn again are often one turn three times: 200 / 100 and 400 / 400.
    assert found["ratio_interval"] == [1, 2]
    assert found["latency_ms_p50"] == 1
    assert found["latency_ms_p95"] == pytest.approx(1.5)
    assert found["peak_mib"] == 3.5


rates = st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)), min_size=1, max_size=12)


@given(rates, st.floats(0.01, 100))
def test_a_ratios_interval_scales_and_lies_within_what_turns_can_give(turns, factor):
    ours, base = np.array(turns).T
    low, high = speed.bootstrap_of_ratio(ours, base)
    assert ours.min() / base.max() * (1 - 1e-9) <= low <= high
    assert high <= ours.max() / base.min() * (1 + 1e-9)
    scaled = speed.bootstrap_of_ratio(factor * ours, base)
    assert scaled == pytest.approx((factor * low, factor * high))
    assert speed.bootstrap_of_ratio(ours, ours) == (1, 1)


def test_what_slows_both_sides_of_a_turn_cancels():
    slow = np.array([1.0, 0.4, 0.9, 0.2, 0.7, 0.8, 0.6])
    assert speed.bootstrap_of_ratio(300 * slow, 200 * slow) == pytest.approx((1.5, 1.5))


def test_two_turns_by_hand():
    # Drawn again: both (1/4), the first twice, the second twice (1/4 each), or mixed (1/2 in all).
    ours, base = np.array([100.0, 300.0]), np.array([100.0, 100.0])
    assert speed.bootstrap_of_ratio(ours, base) == (1, 3)


def test_the_bootstrap_of_a_ratio_is_scipys():
    generator = np.random.RandomState(2)
    ours, base = generator.normal(130, 5, 30), generator.normal(100, 5, 30)
    scipys = scipy.stats.bootstrap(
        (ours, base),
        lambda first, second, axis: np.median(first, axis) / np.median(second, axis),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert speed.bootstrap_of_ratio(ours, base) == pytest.approx(tuple(scipys), rel=0.01)


def test_the_spread_of_a_median_is_that_of_normal_turns():
    # Quartiles of a normal of mean 100 and deviation 4: a median of 400 is off by 4 x 1.2533 / 20.
    lower, upper = scipy.stats.norm.ppf([0.25, 0.75], 100, 4)
    low, high = speed.spread_of_median(lower, upper, 400)
    expected = scipy.stats.norm.ppf(0.975) * 4 * np.sqrt(np.pi / 2) / 20 / 100
    assert (-low, high) == pytest.approx((expected, expected), rel=1e-3)


def test_an_older_run_gets_the_ratio_of_its_rates_and_an_interval_from_its_quartiles():
    base = {speed.RATE: 200.0}
    timed = {speed.RATE: 300.0, "ratio_to_vanilla": 1.6, "ratio_quartiles": [1.5, 1.7]}
    found = speed.ratio(timed, base, 7)
    assert found["ratio_to_vanilla"] == 1.5
    half = 1.959964 * 1.2533 * 0.2 / 1.349 / np.sqrt(7) / 1.6
    assert found["ratio_interval"] == pytest.approx([1.5 * (1 - half), 1.5 * (1 + half)], rel=1e-4)
    assert speed.ratio({"ratio_to_vanilla": 1.2}, None, None) == {"ratio_to_vanilla": 1.2}


def test_a_profile_is_timed_once_and_only_what_is_new_again(few):
    first = speed.run("smoke")
    path = few / "results" / "smoke" / "speed.json"
    assert json.loads(path.read_text())["runs"] == first
    (run,) = first if len(speed.devices()) == 1 else first[:1]
    assert sorted(run["models"]) == sorted(KEYS)
    assert run["threads"] == torch.get_num_threads() and run["cpu"] == measure.cpu()
    assert (run["batch"], run["rounds"], run["device"]) == (16, 3, "cpu")
    for key, found in run["models"].items():
        assert found["images_per_second"] > 0 and found["latency_ms_p95"] > 0
        assert found["latency_ms_p95"] >= found["latency_ms_p50"]
        low, high = found["images_per_second_quartiles"]
        assert low <= found["images_per_second"] <= high
        if "vanilla" in key:
            assert found["ratio_to_vanilla"] == 1 and found["ratio_interval"] == [1, 1]
    # An artifact that was made anew has no speed until it is timed.
    cell = Cell("smoke", "digits", "vanilla", 0)
    value = cell.record_path.read_text()
    assert speed.latest(cell)["started"] == run["started"]
    cell.record_path.write_text(json.dumps({**json.loads(value), "artifact_sha256": "0" * 64}))
    assert speed.latest(cell) is None
    # Nor has what was timed beside it: a ratio is to the vanilla model of now.
    assert speed.latest(Cell("smoke", "digits", "dynamic", 0)) is None
    assert speed.latest(Cell("smoke", "digit-pairs", "dynamic", 0))["started"] == run["started"]
    cell.record_path.write_text(value)
    # Nothing new: nothing is timed, nothing written.
    before = path.stat().st_mtime_ns
    assert speed.run("smoke") == first
    assert path.stat().st_mtime_ns == before
    # A new artifact: a run of its own, the vanilla models in it; the old run stays.
    cell = Cell("smoke", "digits", "dynamic", 0)
    value = json.loads(cell.record_path.read_text())
    cell.record_path.write_text(json.dumps({**value, "artifact_sha256": "0" * 64}))
    second = speed.run("smoke")
    assert second[: len(first)] == first
    added = second[len(first)]
    assert sorted(added["models"]) == sorted(["digits/dynamic/seed0", *VANILLA])
    found = speed.latest(cell)
    assert found["artifact_sha256"] == "0" * 64 and found["started"] == added["started"]
    other = speed.latest(Cell("smoke", "digit-pairs", "dynamic", 0))
    assert other["started"] == run["started"]


def test_another_machine_times_everything_anew(few, monkeypatch):
    first = speed.run("smoke")
    monkeypatch.setattr(measure, "cpu", lambda: "another one (8 cores, AVX512)")
    second = speed.run("smoke")
    assert second[: len(first)] == first
    assert sorted(second[len(first)]["models"]) == sorted(KEYS)


def test_a_damaged_file_of_speeds_is_made_again(few):
    path = speed.path("smoke")
    path.write_text('{"runs": [')
    assert len(speed.run("smoke")) == len(speed.devices())
    assert json.loads(path.read_text())["runs"]


def test_simulated_failed_and_absent_models_are_not_timed(smoke, monkeypatch):
    assert speed._timed_cells(SMOKE, "cpu") == REAL != study.cells("smoke")
    timed = {cell.method for cell in REAL}
    assert "vtp-r0.2" in timed and "vtp-r0.2-cut" not in timed  # the same shape twice
    on_gpu = [cell for cell in REAL if methods.get(cell.method).device is None]
    assert speed._timed_cells(SMOKE, "cuda") == on_gpu
    absent, failed = (cell for cell in REAL if cell.method == "dynamic")
    absent.artifact_path.unlink()
    value = json.loads(failed.record_path.read_text())
    failed.record_path.write_text(json.dumps({**value, "status": "failed"}))
    left = [cell for cell in REAL if cell not in (absent, failed)]
    assert speed._timed_cells(SMOKE, "cpu") == left


def test_nothing_timed_reads_as_nothing(home):
    assert speed.read("smoke") == []
    assert speed.latest(Cell("smoke", "digits", "vanilla", 0)) is None
