"""Where a number has to lie, and how it is read off tables, records, timings and analysis files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitstudy import costs, files
from vitstudy.conditions import Region, Value, about, above, at_least, at_most, below
from vitstudy.report import conditions
from vitstudy.report.conditions import Measured, Unmeasured
from vitstudy.study import Cell


@pytest.mark.parametrize(
    ("region", "value", "holds"),
    [
        (above(0), Value(1, 0.5, 2), True),
        (above(0), Value(1, -0.5, 2), None),
        (above(0), Value(-1, -2, -0.5), False),
        (above(0), Value.exact(0), False),
        (above(0), Value(1, 0, 2), None),
        (below(1), Value.exact(1), False),
        (below(1), Value.exact(0.99), True),
        (at_least(-1), Value.exact(-1), True),
        (at_least(-1), Value(-1, -1.5, -1), None),
        (at_most(0.1), Value.exact(0.1), True),
        (at_most(0.1), Value.exact(0.11), False),
        (Region(1.1, 1.2), Value(1.15, 1.1, 1.2), True),
        (Region(1.1, 1.2), Value(1.15, 1.05, 1.2), None),
        (Region(1.1, 1.2), Value(1.3, 1.25, 1.4), False),
    ],
)
def test_a_region_holds_a_range_that_lies_in_it_whole(region, value, holds):
    assert region.holds(value) is holds


@given(st.floats(-100, 100), st.floats(0, 50), st.floats(-100, 100), st.floats(0, 50))
def test_a_wider_range_never_says_more(low, width, value, spread):
    region = Region(low, low + width)
    wide = region.holds(Value(value, value - spread, value + spread))
    assert wide is None or wide is region.holds(Value.exact(value))


def test_about_is_a_tenth_either_way():
    assert (about(0.25).low, about(0.25).high) == pytest.approx((0.225, 0.275))
    assert (about(-10).low, about(-10).high) == pytest.approx((-11, -9))


def test_regions_are_said_in_words():
    assert above(0).words("{:+.2f}") == "above +0.00"
    assert below(1).words("{:.3g}") == "below 1"
    assert at_least(-5).words("{:.3g}") == "at least -5"
    assert at_most(0.75).words("{:.3g}") == "at most 0.75"
    assert Region(1.1, 1.2).words("{:.3g}") == "1.1 to 1.2"


def test_printed_numbers_are_the_papers_tables():
    assert conditions.size("dynamic", above(0)).printed(1).value == pytest.approx(84 / 327)
    assert conditions.gpu("deit-base", above(0)).printed(2).value == pytest.approx(6.97 / 4.34)
    assert conditions.accuracy("vtp-r0.1", above(0)).printed(2) == Value.exact(-18.41)
    assert conditions.removed("vtp-r0.2", above(0)).printed(1).value == pytest.approx(1 - 254 / 327)
    assert conditions.top1("diffq", above(0)).printed(1).value == 60.29
    assert conditions.cpu("deit-tiny", above(0)).printed(1) == '"-" is printed for deit-tiny'
    missing = conditions.accuracy("lsq-w4", above(0), "rounded-w4").printed(1)
    assert missing == "the papers have no row rounded-w4"


def test_a_number_in_words_has_its_range_where_there_is_one():
    condition = conditions.accuracy("dynamic", at_least(-1))
    assert condition.write(Value(-0.5, -1.25, 0.25)) == "-0.50 (-1.25 to +0.25)"
    assert condition.write(Value.exact(-0.5)) == "-0.50"
    assert condition.label == "accuracy, dynamic - vanilla"
    wanted = condition.wanted(["dynamic", "fq-vit"])
    assert wanted == "accuracy, dynamic, fq-vit - vanilla: at least -1.00"


def test_what_follows_from_a_shape_is_judged_at_the_papers_shape(add):
    add("cifar-cpu", "cifar10", "vanilla", size_bytes=400, parameters=900_000)
    add("cifar-cpu", "cifar10", "dynamic", size_bytes=216)
    found = Measured("cifar-cpu")
    # The committed costs of ViT-B/16: 84.3245 of 327.3389 MiB, 21.1038, 41.8584.
    size = conditions.size("dynamic", above(0))
    assert size.measured(found, 1).value == pytest.approx(84.3245 / 327.3389, abs=1e-5)
    assert conditions.removed("deit-tiny", above(0)).measured(found, 1).value == pytest.approx(
        1 - 21.1038 / 327.3389, abs=1e-5
    )
    assert conditions.parameters(above(0)).measured(found, 2).value == pytest.approx(85.875556)
    learned = conditions.size("diffq", above(0)).measured(found, 1)
    assert isinstance(learned, Unmeasured) and "decided by training" in learned
    assert (size.of, found.scale(size.of)) == (conditions.SHAPE, "ViT-B/16")
    trained = conditions.accuracy("dynamic", above(0))
    assert found.scale(trained.of) == "0.9 M parameters"
    assert Measured("paper").scale(trained.of) == "ViT-B/16"


def test_a_speed_at_the_papers_shape_is_the_one_timed_there(add_costs):
    add_costs({"vanilla": (1, 1, 1), "dynamic": (2.5, 2.0, 3.0), "nystrom-m24": (1.0, 0.8, 1.25)})
    found = Measured("cifar-cpu")
    value = conditions.cpu("dynamic", above(0)).measured(found, 2)  # a head more or less
    assert (value.value, value.low, value.high) == (2.5, 2.0, 3.0)
    value = conditions.cpu("dynamic", above(0), "nystrom-m24").measured(found, 1)
    assert (value.value, value.low, value.high) == pytest.approx((2.5, 1.6, 3.75))
    assert conditions.cpu("fq-vit", above(0)).measured(found, 1) == "fq-vit is simulated: no speed"
    gpu = conditions.gpu("dynamic", above(0)).measured(found, 1)
    assert gpu == "not timed at ViT-B/16 on cuda" and not isinstance(gpu, Unmeasured)
    missing = conditions.cpu("deit-tiny", above(0)).measured(found, 1)
    assert missing == "deit-tiny not counted at ViT-B/16"
    saved = conditions.saved("nystrom-m24", above(0)).measured(found, 1)
    assert (saved.value, saved.high) == pytest.approx((0, 0.2))
    assert conditions.saved("dynamic", above(0)).measured(found, 1).low == 0.75  # of the file


@pytest.fixture
def add_costs(home):
    """Write costs of rows at the papers' shape: by key, the ratio of speed with its interval."""

    def write(ratios: dict) -> None:
        rows = []
        for key in (*ratios, "fq-vit"):
            for classes in (10, 100):
                row = {"key": key, "num_classes": classes, "simulated": key == "fq-vit"}
                row["size_bytes"] = 100 if key == "dynamic" else 400
                ends = dict(zip(("", "_low", "_high"), ratios.get(key, ()), strict=False))
                if classes == 10:
                    row |= {f"images_ratio{end}": value for end, value in ends.items()}
                rows.append(row)
        files.write_csv(costs.path(), costs.COLUMNS, rows)

    return write


def test_a_speed_of_the_profiles_own_is_of_its_latest_run(add, add_speed):
    for key in ("vanilla", "dynamic"):
        add("cifar-cpu", "cifar10", key)
    add("cifar-cpu", "cifar10", "fq-vit", simulated=True)
    found = Measured("cifar-cpu")
    assert found.speed("dynamic", "vanilla", "cpu", 1) == "dynamic not timed on cpu"
    add_speed("cifar-cpu", {"cifar10/vanilla/seed0": (10, 1.0), "cifar10/dynamic/seed0": (16, 1.6)})
    assert found.speed("dynamic", "vanilla", "cpu", 1).value == 1.6
    assert found.speed("vanilla", "dynamic", "cpu", 1).value == 1 / 1.6
    assert found.speed("fq-vit", "vanilla", "cpu", 1) == "fq-vit is simulated: no speed"
    assert found.speed("dynamic", "vanilla", "cuda", 1) == "dynamic not timed on cuda"


def test_landmarks_of_another_share_than_the_papers_test_nothing(add):
    for key in ("vanilla", "nystrom-m24", "nystrom-m8-dropin"):
        add("cifar-cpu", "cifar10", key)
    found = Measured("cifar-cpu")
    for key, base in (("nystrom-m24", "vanilla"), ("vanilla", "nystrom-m24")):
        reason = found.accuracy(key, base, 1)
        assert isinstance(reason, Unmeasured)
        assert reason.startswith("nystrom-m24 has m/n = 0.37 here, of 65 tokens")
    few = found.accuracy("nystrom-m8-dropin", "vanilla", 1)
    assert few == "no predictions of nystrom-m8-dropin and vanilla"
    assert found._other_landmarks("nystrom-all") == Measured("paper")._other_landmarks("lsq-w4")


def test_a_speeds_range_is_that_of_its_turns(add, home):
    for key in ("vanilla", "dynamic", "continued"):
        add("cifar-cpu", "cifar10", key)
    models = {
        f"cifar10/{key}/seed0": {
            "artifact_sha256": "a" * 64,
            "images_per_second": float(np.median(turns)),
            "turns": turns,
        }
        for key, turns in (
            ("vanilla", [100, 100, 100]),
            ("dynamic", [180, 200, 220]),
            ("continued", [90, 100, 110]),
        )
    }
    runs = {"runs": [{"device": "cpu", "rounds": 3, "models": models}]}
    files.write_json(home / "results/cifar-cpu/speed.json", runs)
    found = Measured("cifar-cpu").speed("dynamic", "continued", "cpu", 1)
    assert (found.value, found.low, found.high) == pytest.approx((2, 1.8 / 1.1, 2.2 / 0.9))


def test_what_has_no_record_is_unmeasured_and_says_so(add):
    found = Measured("cifar-cpu")
    missing = found.mean("dynamic", "size_bytes", 1)
    assert isinstance(missing, Unmeasured) and missing == "dynamic not measured"
    add("cifar-cpu", "cifar10", "dynamic", status="failed", error="loss is NaN")
    assert found.ratio("dynamic", "vanilla", "size_bytes", 1) == "dynamic failed"
    unknown = found.mean("nonesuch", "accuracy", 1)
    assert isinstance(unknown, Unmeasured) and unknown == "the study has no method nonesuch"


def test_the_papers_own_numbers_are_not_asked_of_another_network(add):
    add("cifar-cpu", "cifar10", "vanilla")
    condition = conditions.top1("vanilla", at_least(90))
    asked = condition.measured(Measured("cifar-cpu"), 1)
    assert asked == conditions.ANOTHER_NETWORK and isinstance(asked, Unmeasured)
    add("paper", "cifar10", "vanilla", accuracy=0.9)
    assert condition.measured(Measured("paper"), 1).value == pytest.approx(90)


def test_numbers_of_an_analysis_file_say_what_is_missing(add, home):
    condition = conditions.analysed(
        "share of {}", "dynamic", ("gates",), lambda gates: np.mean(gates > 0.5), above(0.5), "none"
    )
    found = Measured("digits")
    assert isinstance(condition.measured(found, 1), Unmeasured)
    add("digits", "digits", "dynamic")
    assert condition.measured(found, 1) == "no analysis file of dynamic"
    path = Cell("digits", "digits", "dynamic", 0).analysis_path
    path.parent.mkdir(parents=True)
    np.savez(path, others=np.ones(1))
    assert condition.measured(found, 1) == "no gates in the analysis file of dynamic"
    np.savez(path, gates=np.array([0.1, 0.9, 0.8, 0.7]))
    assert condition.measured(found, 1).value == 0.75
    assert condition.printed(1) == "none"


def test_growth_is_the_slope_over_the_longest_sequences(home):
    time, memory = conditions.growth("explicit", about(2))
    found = Measured("digits")
    assert time.measured(found, 1) == "attention explicit not timed on cpu"
    rows = [
        {"attention": name, "tokens": n, "milliseconds": milliseconds, "mib": 3.0 * n}
        for n in (64, 512, 1024, 2048, 4096)  # a step from cache to memory at 1,024
        for name, milliseconds in (("explicit", 1 + n**2 * (9 if n >= 1024 else 1)), ("fused", n))
    ]
    run = {"device": "cpu", "rows": rows}
    files.write_json(home / "results/digits/attention_speed.json", {"runs": [run]})
    assert time.measured(found, 1).value == pytest.approx(2, abs=1e-3)
    assert memory.measured(found, 1).value == pytest.approx(1)
    assert conditions.growth("fused", about(1))[0].measured(found, 1).value == pytest.approx(1)


def test_a_difference_between_tables_is_as_uncertain_as_both(add_costs):
    condition = conditions.between_tables(
        conditions.cpu("dynamic", above(0)), above(0), "CPU of {}, Table 1 less 2"
    )
    assert condition.printed(1).value == pytest.approx(0.062 / 0.050 - 0.122 / 0.093)
    found = Measured("cifar-cpu")
    add_costs({"vanilla": (1, 1, 1), "dynamic": (1.5, 1.4, 1.6)})
    value = condition.measured(found, 1)  # timed of ten classes alone
    assert (value.value, value.low, value.high) == pytest.approx((0, -0.2, 0.2))
    assert condition.of == conditions.SHAPE


def test_attentions_share_needs_no_record():
    found = conditions.attention_share(at_most(0.1))
    paper, here = found.printed(1), found.measured(Measured("digits"), 1)
    assert paper.value == pytest.approx(0.041, abs=0.001)
    assert here == paper
