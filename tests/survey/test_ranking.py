"""The field ranked under somebody's weights and limits."""

import pytest

from vitstudy.errors import UserError
from vitstudy.survey import models, pareto, ranking, tables
from vitstudy.survey.eer import eer, quantities


@pytest.fixture(scope="module")
def field(counts):
    return ranking.field(counts)


def test_every_classified_model_is_in_the_field_once(field):
    total = sum(len(tables.load(number)) for number in range(2, 8))
    assert len(field) == total - 4  # Table 4 prints DynamicViT's four rows again
    assert field["label"].is_unique


def test_equal_weights_and_no_limit_are_the_eer_of_all_metrics(field):
    ranked = ranking.rank(field).set_index("model")
    row = ranked.loc["Castling-MViTv2-T"]
    assert row["eer"] == pytest.approx(45.65, abs=0.01)
    known = dict(parameters=24.1, flops=4.5, bits=32, size=96.4)
    assert row["eer"] == pytest.approx(eer(quantities(**known)))
    assert ranked["eer"].is_monotonic_increasing


def test_limits_are_kept_and_the_front_is_of_what_is_left(field):
    ranked = ranking.rank(field, {"size": 1, "flops": 3}, limits={"size": 50}, least_top1=82)
    assert len(ranked) and (ranked["size"] <= 50).all() and (ranked["top1"] >= 82).all()
    assert list(ranked["front"]) == list(pareto.front(ranked["eer"], ranked["top1"]))


def test_shares_need_not_sum_to_one(field):
    one = ranking.rank(field, {"size": 0.25, "flops": 0.75})
    other = ranking.rank(field, {"size": 1, "flops": 3})
    assert list(one["model"]) == list(other["model"])
    assert one["eer"].to_numpy() == pytest.approx(other["eer"].to_numpy())


def test_a_larger_reference_makes_its_metric_count_less(field):
    before = ranking.rank(field, {"size": 1}).set_index("model")["eer"]
    after = ranking.rank(field, {"size": 1}, ranking.references({"size": 660}))
    after = after.set_index("model")["eer"]
    assert (after * 2).sort_index().to_numpy() == pytest.approx(before.sort_index().to_numpy())


def test_limits_that_nobody_keeps_leave_an_empty_table(field):
    ranked = ranking.rank(field, limits={"size": 0.001})
    assert ranked.empty
    assert ranking.as_text(ranked).empty


def test_latency_ranks_those_that_were_timed(counts):
    known = ranking.field(counts, {"Swin-T": 40.0, "DeiT-S": 30.0})
    ranked = ranking.rank(known, {"latency": 1}, ranking.references({"latency": 100}))
    assert list(ranked["model"]) == ["DeiT-S", "Swin-T"]
    assert list(ranked["eer"]) == pytest.approx([30, 40])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": ("watts=1",)}, "unknown metric 'watts'; valid: parameters"),
        ({"weights": ("size",)}, "'size' is no NAME=VALUE"),
        ({"weights": ("size=much",)}, "'size=much' is no NAME=VALUE"),
        ({"weights": ("size=0",)}, "all weights are zero"),
        ({"weights": ("size=-1", "bits=2")}, "the weight of size is -1"),
        ({"weights": ("size=nan",)}, "the weight of size is nan"),
        ({"references_": ("size=0",)}, "the reference of size is 0"),
        ({"references_": ("watts=1",)}, "unknown metric 'watts'"),
        ({"limits": ("size=-3",)}, "the limit of size is -3"),
        ({"limits": ("size=nan",)}, "the limit of size is nan"),
        ({"least_top1": 101}, "Top-1 of at least 101"),
    ],
)
def test_bad_options_are_one_line(options, told):
    with pytest.raises(UserError, match=told) as raised:
        ranking.from_options(**options)
    assert "\n" not in str(raised.value)


def test_a_metric_that_nobody_measured_says_what_measures_it(field):
    with pytest.raises(UserError, match="python -m vitstudy survey --speed"):
        ranking.rank(field, {"latency": 1})


def test_a_model_at_32_bits_takes_four_bytes_a_parameter_as_table_8_prints(counts):
    known = models.classification(counts).set_index("model")
    for row in tables.load(8).to_dict("records"):
        if row["weight_bits"] == 32:
            size = known.loc[[row["model"]], "size"].iloc[0]
            assert size == pytest.approx(row["size_MB"])


def test_without_a_count_three_networks_have_no_eer_of_all_metrics():
    known = models.classification(None)
    open_ = known[known["eer_all"].isna() & (known["category"] == "Q")]
    names = open_["model"].str.extract(r"-(ViT-[TSL])$")[0]
    assert set(names) == {"ViT-T", "ViT-S", "ViT-L"} and names.notna().all()
