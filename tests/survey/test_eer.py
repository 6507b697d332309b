"""The Efficient Error Rate: its properties, and one clear line for what it cannot average."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitstudy.errors import UserError
from vitstudy.survey import eer as module
from vitstudy.survey.eer import VIT_B16, Quantity, eer, quantities, weighted_eer

NAMES = tuple(VIT_B16)
positive = st.floats(1e-2, 1e4)
some = st.sets(st.sampled_from(NAMES), min_size=1)


@st.composite
def metrics(draw):
    return quantities(**{name: draw(positive) for name in sorted(draw(some))})


@st.composite
def pairs(draw):
    """Metrics and a reference of their own."""
    found = draw(metrics())
    return found, quantities(**{name: draw(positive) for name in found})


def test_by_hand():
    # 24.1 / 86.6 = 0.27829, 4.5 / 17.6 = 0.25568: the mean is 0.26699.
    assert eer(quantities(parameters=24.1, flops=4.5)) == pytest.approx(26.699, abs=1e-3)
    # 6 / 32 = 0.1875, 66 / 330 = 0.2
    assert eer(quantities(bits=6, size=66)) == pytest.approx(19.375)


@given(pairs())
def test_the_reference_scores_100(both):
    _, reference = both
    assert eer(reference, reference) == pytest.approx(100)


@given(pairs(), st.floats(1e-2, 1e2))
def test_a_change_of_unit_on_both_sides_changes_nothing(both, scale):
    found, reference = both

    def scaled(values):
        return {name: Quantity(value * scale, "other") for name, (value, _) in values.items()}

    assert eer(scaled(found), scaled(reference)) == pytest.approx(eer(found, reference))


@given(pairs(), st.floats(1.01, 10), st.data())
def test_it_grows_with_every_metric(both, factor, data):
    found, reference = both
    name = data.draw(st.sampled_from(sorted(found)))
    more = {**found, name: Quantity(found[name].value * factor, found[name].unit)}
    assert eer(more, reference) > eer(found, reference)


@given(pairs())
def test_equal_weights_are_the_plain_mean_in_the_consistent_form(both):
    found, reference = both
    weights = dict.fromkeys(found, 1 / len(found))
    plain = eer(found, reference)
    assert weighted_eer(found, weights, reference) == pytest.approx(plain)


@given(pairs())
def test_equal_weights_are_not_the_plain_mean_in_the_printed_form(both):
    found, reference = both
    weights = dict.fromkeys(found, 1 / len(found))
    printed = weighted_eer(found, weights, reference, as_printed=True)
    assert printed == pytest.approx(eer(found, reference) / len(found))
    assert (printed == pytest.approx(eer(found, reference))) == (len(found) == 1)


@given(pairs())
def test_all_weight_on_one_metric_is_its_ratio(both):
    found, reference = both
    name = sorted(found)[0]
    weights = {each: float(each == name) for each in found}
    ratio = found[name].value / reference[name].value
    assert weighted_eer(found, weights, reference) == pytest.approx(100 * ratio)


@given(st.floats(1, 32), st.floats(1, 32))
def test_bits_are_the_mean_of_both_widths(weights, activations):
    assert module.mean_bits(weights, activations) == (weights + activations) / 2


@pytest.mark.parametrize(
    ("metrics", "reference", "told"),
    [
        ({}, VIT_B16, "EER of no metrics; valid: any of parameters, flops, bits, size"),
        ({"latency": Quantity(3, "ms")}, VIT_B16, "metric 'latency' has no reference"),
        (
            {"size": Quantity(3, "GB")},
            VIT_B16,
            "size is in GB, its reference in MB: convert one",
        ),
        ({"size": Quantity(3, "MB")}, {"size": Quantity(0, "MB")}, "the reference of size is 0"),
        ({"size": Quantity(3, "MB")}, {"size": Quantity(-1, "MB")}, "the reference of size is -1"),
        ({"size": Quantity(3, "MB")}, {"size": Quantity(math.nan, "MB")}, "of size is nan"),
        ({"size": Quantity(math.nan, "MB")}, VIT_B16, "size is nan; it must be a number"),
        ({"size": Quantity(math.inf, "MB")}, VIT_B16, "size is inf"),
        ({"size": Quantity(-1, "MB")}, VIT_B16, "size is -1; it must be a number"),
    ],
)
def test_what_cannot_be_averaged_is_refused_in_one_line(metrics, reference, told):
    with pytest.raises(UserError, match="^" + ".*" + told.replace("(", r"\(")) as raised:
        eer(metrics, reference)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"bits": 0.5, "size": 0.6}, "the weights sum to 1.1; they must sum to 1"),
        ({"bits": 1.0}, "weights for bits, but metrics bits, size"),
        ({"bits": 1.5, "size": -0.5}, "the weight of size is -0.5"),
        ({"bits": math.nan, "size": 1.0}, "the weight of bits is nan"),
    ],
)
def test_weights_that_are_no_mean_are_refused(weights, told):
    with pytest.raises(UserError, match=told):
        weighted_eer(quantities(bits=8, size=50), weights)


@given(st.dictionaries(st.sampled_from(NAMES), st.floats(0, 100), min_size=1))
def test_shares_become_weights_that_sum_to_one_or_are_refused(shares):
    if not sum(shares.values()):
        with pytest.raises(UserError, match="all weights are zero"):
            module.balanced(shares)
        return
    assert sum(module.balanced(shares).values()) == pytest.approx(1)


def test_an_unknown_metric_is_named():
    with pytest.raises(UserError, match="unknown metric 'watts'; valid: parameters"):
        quantities(watts=3)
