"""Uniform quantization: by hand, by invariants, and against torch's own operators."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitstudy.quantization.uniform import (
    QuantParams,
    choose_params,
    dequantize,
    fake_quantize,
    min_max,
    moving_average,
    mse,
    percentile,
    quantization_range,
    quantize,
    sqnr_db,
)

SCHEMES = [
    dict(symmetric=False, signed=False),
    dict(symmetric=False, signed=True),
    dict(symmetric=True, signed=True),
    dict(symmetric=True, signed=True, narrow_range=True),
]
LAYOUTS = [{}, {"axis": 0}, {"axis": -1}, {"group_size": 4}, {"group_size": 1}, {"group_size": 100}]
few = settings(max_examples=40, deadline=None)
numbers = st.floats(-1e4, 1e4, width=32)
arrays = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=9), elements=numbers
)
widths = st.integers(2, 16)


def observed(x, bits, scheme, layout=None, observer=min_max):
    layout = layout or {}
    return choose_params(*observer(x, **layout), bits, **scheme, **layout)


# By hand


@pytest.mark.parametrize(
    ("bits", "signed", "expected"),
    [
        (1, False, (0, 1)),
        (2, True, (-2, 1)),
        (4, False, (0, 15)),
        (8, True, (-128, 127)),
        (16, False, (0, 65535)),
    ],
)
def test_quantization_range_by_hand(bits, signed, expected):
    assert quantization_range(bits, signed) == expected


def test_affine_unsigned_by_hand():
    params = choose_params(-1.0, 2.0, 2, symmetric=False, signed=False)  # S = 3 / 3, Z = 0 + 1
    assert (params.scale.item(), params.zero_point.item(), params.paper_zero_point.item()) == (
        1.0,
        1,
        -1,
    )
    x = torch.tensor([-9.0, -1.0, -0.4, 0.6, 2.0, 9.0])
    assert quantize(x, params).tolist() == [0, 0, 1, 2, 3, 3]
    assert fake_quantize(x, params).tolist() == [-1.0, -1.0, 0.0, 1.0, 2.0, 2.0]


def test_affine_signed_by_hand():
    params = choose_params(0.0, 15.0, 4, symmetric=False, signed=True)  # S = 1, Z = -8
    assert (params.scale.item(), params.zero_point.item()) == (1.0, -8)
    assert quantize(torch.tensor([0.0, 7.0, 15.0]), params).tolist() == [-8, -1, 7]


def test_symmetric_scale_is_the_papers_and_its_maximum_needs_the_clamp():
    params = choose_params(-3.0, 7.5, 4, symmetric=True, signed=True)  # S = 15 / 15
    assert (params.scale.item(), params.zero_point.item()) == (1.0, 0)
    assert quantize(torch.tensor([7.5, -7.5]), params).tolist() == [
        7,
        -8,
    ]  # round(7.5) = 8 does not exist


def test_symmetric_narrow_range_reaches_the_maximum_exactly():
    params = choose_params(
        -3.5, 2.0, 4, symmetric=True, signed=True, narrow_range=True
    )  # S = 3.5 / 7
    assert params.scale.item() == 0.5
    assert fake_quantize(torch.tensor([-3.5, 3.5]), params).tolist() == [-3.5, 3.5]


def test_symmetric_unsigned_by_hand():
    params = choose_params(0.0, 3.0, 2, symmetric=True, signed=False)
    assert quantize(torch.tensor([0.0, 1.4, 3.0, 7.0]), params).tolist() == [0, 1, 3, 3]


def test_rounding_is_half_to_even_whatever_the_zero_point():
    for low in (-1.0, -2.0):
        params = choose_params(low, low + 15, 4, symmetric=False, signed=False)
        values = dequantize(quantize(torch.tensor([0.5, 1.5, 2.5]), params), params)
        assert values.tolist() == [0.0, 2.0, 2.0]


def test_groups_are_scaled_alone_and_the_last_may_be_smaller():
    x = torch.tensor([[1.0, 2.0, 10.0, 20.0, 7.0], [0.0, 0.0, 1.0, -1.0, -3.0]])
    low, high = min_max(x, group_size=2)
    assert low.tolist() == [[1.0, 10.0, 7.0], [0.0, -1.0, -3.0]]
    assert high.tolist() == [[2.0, 20.0, 7.0], [0.0, 1.0, -3.0]]


def test_percentile_interpolates_as_numpy_does():
    x = torch.arange(11.0)
    low, high = percentile(x, fraction=0.95)
    assert (low.item(), high.item()) == (0.5, 9.5)
    x = torch.randn(3, 50)
    low, high = percentile(x, fraction=0.97, axis=0)
    np.testing.assert_allclose(low, np.quantile(x.numpy(), 1 - 0.97, axis=1), rtol=1e-5)
    np.testing.assert_allclose(high, np.quantile(x.numpy(), 0.97, axis=1), rtol=1e-5)


def test_moving_average_by_hand():
    batches = [torch.tensor([-1.0, 1.0]), torch.tensor([-3.0, 5.0])]
    low, high = moving_average(batches, weight=0.25)
    assert (low.item(), high.item()) == (-1.5, 2.0)


def test_min_max_percentile_and_mse_see_all_batches():
    x = torch.randn(6, 5)
    whole = [f(x) for f in (min_max, percentile, lambda b: mse(b, 4, **SCHEMES[0]))]
    parts = [f(x.split(4)) for f in (min_max, percentile, lambda b: mse(b, 4, **SCHEMES[0]))]
    assert whole == parts


def test_mse_clips_an_outlier_where_that_pays():
    x = torch.cat([torch.linspace(-1, 1, 1000), torch.tensor([20.0])])
    _, high = mse(x, 4, symmetric=True, signed=True)
    assert high < 20


def test_sqnr_by_hand():
    assert sqnr_db(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5])) == pytest.approx(20.0)
    assert sqnr_db(torch.ones(2), torch.ones(2)) == math.inf


def test_sqnr_gains_six_decibels_a_bit():
    x = torch.rand(20000)
    values = [sqnr_db(x, fake_quantize(x, observed(x, bits, SCHEMES[0]))) for bits in range(4, 13)]
    assert np.diff(values) == pytest.approx(20 * math.log10(2), abs=0.6)


# Against torch's own operators: the sign of Z, the clamp, the axis


@pytest.mark.parametrize("scheme", SCHEMES[:3])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_equals_torch_fake_quantize_per_tensor(scheme, bits):
    x = torch.randn(500) * 3 + 1
    params = choose_params(-4.0, 5.0, bits, **scheme)
    expected = torch.fake_quantize_per_tensor_affine(
        x,
        params.scale.item(),
        params.zero_point.item(),
        *quantization_range(bits, scheme["signed"]),
    )
    torch.testing.assert_close(fake_quantize(x, params), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_equals_torch_fake_quantize_per_channel(axis):
    x = torch.randn(4, 5, 6)
    params = observed(x, 6, SCHEMES[0], {"axis": axis})
    expected = torch.fake_quantize_per_channel_affine(
        x, params.scale, params.zero_point, axis % 3, 0, 63
    )
    torch.testing.assert_close(fake_quantize(x, params), expected, atol=1e-5, rtol=0)


@given(arrays, widths, st.sampled_from(SCHEMES[:2]))
@few
def test_papers_equations_1_and_2_with_their_sign_of_z_give_the_same_integers(x, bits, scheme):
    x = torch.from_numpy(x)
    params = observed(x, bits, scheme)
    q_min, q_max = quantization_range(bits, scheme["signed"])
    paper_q = (torch.round(x / params.scale) - params.paper_zero_point).clamp(q_min, q_max)
    assert torch.equal(paper_q, quantize(x, params).float())
    assert torch.equal(params.scale * (paper_q + params.paper_zero_point), fake_quantize(x, params))


# Invariants


@given(arrays, widths, st.sampled_from(SCHEMES), st.sampled_from(LAYOUTS))
@few
def test_round_trip_stays_within_half_a_step_and_is_idempotent(x, bits, scheme, layout):
    x = torch.from_numpy(x)
    params = observed(x, bits, scheme, layout)
    q = quantize(x, params)
    q_min, q_max = quantization_range(bits, scheme["signed"])
    assert q.shape == x.shape and q.min() >= q_min and q.max() <= q_max
    once = fake_quantize(x, params)
    # S / 2, and as much of a level as float32 loses in r / S (2^21 levels at most)
    half = (0.5 + 0.13) if params.zero_point.abs().max() > 2**16 else 0.51
    scale = params.scale
    if "group_size" in layout:
        scale = scale.repeat_interleave(layout["group_size"], -1)[..., : x.shape[-1]]
    elif "axis" in layout:
        scale = scale.view([-1 if i == layout["axis"] % x.ndim else 1 for i in range(x.ndim)])
    assert ((once - x).abs() <= half * scale).all()
    assert torch.equal(fake_quantize(once, params), once)


@given(st.lists(numbers, min_size=2, max_size=20), widths, st.sampled_from(SCHEMES))
@few
def test_quantize_is_monotone(values, bits, scheme):
    x = torch.tensor(sorted(values))
    low, high = sorted(values[:2])
    q = quantize(x, choose_params(low, high, bits, **scheme))
    assert (q.diff() >= 0).all()


@given(arrays, st.integers(1, 16), st.booleans())
@few
def test_mse_range_is_never_worse_than_min_max(x, bits, symmetric):
    x = torch.from_numpy(x)
    scheme = dict(symmetric=symmetric, signed=symmetric)
    bits = max(bits, 2)
    errors = [
        (fake_quantize(x, choose_params(*r, bits, **scheme)) - x).double().square().mean()
        for r in (mse(x, bits, num_candidates=20, **scheme), min_max(x))
    ]
    assert errors[0] <= errors[1] * (1 + 1e-5) + 1e-30


def test_mse_gives_the_same_range_as_the_plain_loop():
    x = torch.randn(3, 200) * torch.tensor([[1.0], [5.0], [0.2]]) + 0.3
    for scheme in SCHEMES[:3]:
        low, high = mse(x, 3, axis=0, num_candidates=50, **scheme)
        for row, row_low, row_high in zip(x, low, high, strict=True):
            top, bottom = row.max(), row.min()
            if scheme["symmetric"]:
                top = torch.maximum(top, -bottom)
                bottom = -top
            ranges = [(bottom * (1 - i / 50), top * (1 - i / 50)) for i in range(50)]
            errors = [
                (fake_quantize(row, choose_params(*r, 3, **scheme)) - row).square().mean().item()
                for r in ranges
            ]
            best = ranges[int(np.argmin(errors))]
            torch.testing.assert_close((row_low, row_high), best)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.1, -123.456, 1e-30, 3e38])
@pytest.mark.parametrize("bits", [1, 2, 8, 16])
def test_constant_tensors_and_zeros_survive_exactly(scheme, value, bits):
    x = torch.full((3, 4), value)
    params = observed(x, max(bits, 2) if scheme["signed"] else bits, scheme)
    assert params.scale > 0
    assert torch.equal(fake_quantize(x, params), x)


@pytest.mark.parametrize(
    ("low", "high"), [(1e4, 1e4 + 1e-3), (-1.0, -1 + 1e-7), (0.0, 1e-45), (-1e38, 1e38)]
)
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_ranges_at_the_edge_of_float32_give_a_finite_positive_scale(low, high, bits):
    params = choose_params(low, high, bits, symmetric=False, signed=False)
    assert params.scale > 0 and torch.isfinite(params.scale)
    x = torch.tensor([low, high])
    assert ((fake_quantize(x, params) - x).abs() <= 0.63 * params.scale).all()


@given(arrays, widths, st.sampled_from(SCHEMES))
@few
def test_one_channel_equals_per_tensor_and_one_group_a_row(x, bits, scheme):
    x = torch.from_numpy(x)[None]
    per_tensor = fake_quantize(x, observed(x, bits, scheme))
    assert torch.equal(fake_quantize(x, observed(x, bits, scheme, {"axis": 0})), per_tensor)
    flat = x.flatten()[None]
    per_group = fake_quantize(flat, observed(flat, bits, scheme, {"group_size": flat.numel() + 3}))
    assert torch.equal(per_group, per_tensor.flatten()[None])


def test_32_bits_return_the_input_itself():
    x = torch.randn(3, 4)
    for scheme in SCHEMES:
        params = observed(x, 32, scheme)
        assert (
            quantize(x, params) is x
            and fake_quantize(x, params) is x
            and dequantize(x, params) is x
        )
        assert observed(x, 32, scheme, observer=lambda b: mse(b, 32, **SCHEMES[0])).bits == 32


def test_16_bits_are_within_one_in_131070_of_the_range():
    x = torch.randn(10000)
    error = (fake_quantize(x, observed(x, 16, SCHEMES[0])) - x).abs().max()
    assert error <= 1.01 * (x.max() - x.min()) / (2 * 65535)


def test_half_precision_comes_back_in_its_own_type():
    x = torch.randn(8).half()
    assert fake_quantize(x, observed(x, 8, SCHEMES[0])).dtype == torch.float16


def test_input_is_not_changed():
    x = torch.randn(4, 5)
    kept = x.clone()
    for scheme in SCHEMES:
        fake_quantize(x, observed(x, 3, scheme, observer=lambda b, s=scheme: mse(b, 3, **s)))
    assert torch.equal(x, kept)


# Bad input


@pytest.mark.parametrize("bits", [0, -1, 17, 31, 33, True, 4.0, "8"])
def test_bits_out_of_range_say_what_is_valid(bits):
    with pytest.raises(ValueError, match="1 to 16, or 32"):
        choose_params(0.0, 1.0, bits, symmetric=False, signed=False)


def test_one_bit_cannot_be_signed():
    with pytest.raises(ValueError, match="signed takes 2 to 16"):
        choose_params(0.0, 1.0, 1, symmetric=True, signed=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "observer", [min_max, moving_average, percentile, lambda b, **k: mse(b, 8, **SCHEMES[0], **k)]
)
def test_nan_and_infinity_name_the_tensor(observer, bad):
    with pytest.raises(ValueError, match=r"blocks\.0\.norm1: holds NaN"):
        observer(torch.tensor([1.0, bad]), name="blocks.0.norm1")
    with pytest.raises(ValueError, match="weight"):
        quantize(torch.tensor([bad]), choose_params(0.0, 1.0, 8, **SCHEMES[0]), name="weight")


@pytest.mark.parametrize(
    "observer", [min_max, moving_average, percentile, lambda b, **k: mse(b, 8, **SCHEMES[0], **k)]
)
def test_no_data_is_refused(observer):
    with pytest.raises(ValueError, match="head: the calibration set is empty"):
        observer([], name="head")
    with pytest.raises(ValueError, match="head: is empty"):
        observer(torch.empty(0, 3), name="head")


def test_other_bad_input_is_refused():
    x = torch.randn(4, 6)
    with pytest.raises(ValueError, match="low <= high"):
        choose_params(1.0, 0.0, 8, **SCHEMES[0])
    with pytest.raises(ValueError, match="low <= high"):
        choose_params(0.0, math.inf, 8, **SCHEMES[0])
    with pytest.raises(ValueError, match="negative"):
        choose_params(-1.0, 1.0, 8, symmetric=True, signed=False)
    with pytest.raises(ValueError, match="axis 2"):
        min_max(x, axis=2)
    with pytest.raises(ValueError, match="exclude"):
        min_max(x, axis=0, group_size=2)
    with pytest.raises(ValueError, match="group_size=0"):
        min_max(x, group_size=0)
    with pytest.raises(ValueError, match="real values"):
        min_max(torch.arange(3))
    with pytest.raises(ValueError, match="do not fit"):
        quantize(
            x,
            observed(x, 8, SCHEMES[0], {"axis": 0}).__class__(
                torch.ones(3), torch.zeros(3), 8, False, axis=0
            ),
        )
    with pytest.raises(ValueError, match="need an axis"):
        quantize(x, QuantParams(torch.ones(4), torch.zeros(4), 8, False))
    for bad in (dict(fraction=0.4), dict(fraction=1.1)):
        with pytest.raises(ValueError, match="fraction"):
            percentile(x, **bad)
    with pytest.raises(ValueError, match="weight"):
        moving_average(x, weight=0.0)
    with pytest.raises(ValueError, match="num_candidates"):
        mse(x, 8, num_candidates=0, **SCHEMES[0])
