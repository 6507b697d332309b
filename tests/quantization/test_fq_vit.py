"""FQ-ViT: the recorded vectors, hand-worked cases, and the whole model.

Vectors: megvii-research/FQ-ViT@5daf591 run on small inputs (power-of-two factors, integer
LayerNorm, log2 quantizer); integers and indices are exact, scales within 1e-6.
"""

import json
import math
import time
from pathlib import Path

import foreign_models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitstudy.errors import UserError
from vitstudy.quantization.fq_vit import (
    ActivationQuantizer,
    Options,
    QuantAttention,
    QuantLayerNorm,
    QuantLinear,
    affine_range,
    calibrate,
    integer_exp,
    integer_layer_norm,
    log2_dequantize,
    log2_quantize,
    log_int_softmax,
    log_int_softmax_exponents,
    multiplier_and_shift,
    pack,
    power_of_two_factors,
    quantize_model,
    unpack,
)
from vitstudy.quantization.layers import fold_batch_norm

REFERENCE = Path(__file__).parents[1] / "reference"
few = settings(max_examples=40, deadline=None)
PLAIN = {"power_of_two": False, "log_int_softmax": False}


def recorded(name):
    with np.load(REFERENCE / f"{name}.npz") as arrays:
        return {
            key: torch.from_numpy(arrays[key])
            for key in arrays.files
            if key != "meta" and arrays[key].dtype.kind != "U"
        }


# Recorded vectors


@pytest.mark.parametrize(
    ("case", "source", "bits", "signed"),
    [
        ("ptf_uint8", "batches", 8, False),
        ("ptf_uint6", "batches", 6, False),
        ("ptf_uint4", "batches", 4, False),
        ("ptf_int8", "batches", 8, True),
        ("spread_uint8", "spread", 8, False),
        ("spread_uint4", "spread", 4, False),
    ],
)
def test_power_of_two_factors_equal_the_recorded(case, source, bits, signed):
    r = recorded("fqvit_ptf")
    x = r[f"in__{source}"][-1]  # the authors take the range of all batches, the factors of the last
    low, high = r[f"{case}__obs_min"], r[f"{case}__obs_max"]
    scale, zero_point, factors = power_of_two_factors(x, bits, signed=signed, low=low, high=high)
    assert torch.equal(factors, r[f"{case}__alpha"])
    assert zero_point == r[f"{case}__zero_point"]
    torch.testing.assert_close(scale, r[f"{case}__scale"], rtol=1e-6, atol=0)
    q = torch.round(x / scale) + zero_point
    q = q.clamp(r[f"{case}__qmin"], r[f"{case}__qmax"])
    assert torch.equal(q, r[f"{case}__levels"])


@pytest.mark.parametrize("case", ["soft", "soft64", "edge"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_log2_quantizer_equals_the_recorded(case, bits):
    r = recorded("fqvit_log2")
    codes, beyond = log2_quantize(r[f"in__{case}"], bits)
    assert torch.equal(codes, r[f"{case}_b{bits}__levels"])
    assert torch.equal(beyond, r[f"{case}_b{bits}__mask"])
    assert torch.equal(log2_dequantize(codes, beyond), r[f"{case}_b{bits}__out"])


@pytest.mark.parametrize("case", ["ptf", "layerwise_in", "expand4"])
def test_integer_layer_norm_equals_the_recorded(case):
    r = {
        key.split("__")[1]: value
        for key, value in recorded("fqvit_intln").items()
        if key.startswith(f"{case}__")
    }
    y = integer_layer_norm(r["x"], r["in_scale"], r["gamma"], r["beta"], r["out_scale"])
    assert torch.equal(y, torch.round(r["y_int"] / r["out_scale"]))
    if "y_ln" in r:
        assert (y * r["out_scale"] - r["y_ln"]).abs().max() < r["out_scale"]


def test_multiplier_and_shift_equal_the_recorded():
    r = recorded("fqvit_intln")
    multiplier, shift = multiplier_and_shift(r["get_MN__x"])
    assert torch.equal(multiplier, r["get_MN__M"]) and torch.equal(shift, r["get_MN__N"])


# By hand, and against plain formulas


def test_log2_codes_by_hand():
    x = torch.tensor([1.0, 0.8, 0.7, 0.25, 2.0**-15, 2.0**-15.6, 0.0, 1.3])
    codes, beyond = log2_quantize(x, 4)
    assert codes.tolist() == [0, 0, 1, 2, 15, 15, 15, 0]
    assert beyond.tolist() == [False] * 5 + [True, True, False]
    assert log2_dequantize(codes)[-2] == 2.0**-15 and log2_dequantize(codes, beyond)[-2] == 0


@pytest.mark.parametrize("bad", [-0.1, math.nan])
def test_log2_refuses_what_is_no_probability(bad):
    with pytest.raises(ValueError, match="negative"):
        log2_quantize(torch.tensor([0.5, bad]), 4)


def test_power_of_two_factors_by_hand():
    x = torch.tensor(
        [[0.0, 0.0], [255.0, 31.0]]
    )  # 255 levels of 1; and 31 of 1/8 would clip at 31.875
    scale, zero_point, factors = power_of_two_factors(x, 8)
    assert (scale.tolist(), zero_point.item(), factors.tolist()) == ([1.0, 0.125], 0, [3, 0])


@given(st.integers(0, 10_000), st.integers(3, 8), st.integers(0, 4), st.booleans())
@few
def test_power_of_two_factors_equal_the_plain_loop(seed, bits, max_factor, signed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 7, 6, generator=generator) * torch.randn(6, generator=generator).exp()
    scale, zero_point, _ = power_of_two_factors(x, bits, signed=signed, max_factor=max_factor)
    widest, expected_zero = affine_range(x.min(), x.max(), bits, signed)
    assert zero_point == expected_zero
    low = -(2 ** (bits - 1)) if signed else 0
    for channel in range(6):
        values, errors = x[..., channel].double(), []
        for factor in range(max_factor + 1):
            step = (widest / 2**max_factor * 2**factor).double()
            q = (torch.round(values / step) + zero_point).clamp(low, low + 2**bits - 1)
            errors.append(((q - zero_point) * step - values).square().mean())
        chosen = int(torch.log2(scale[channel] / widest * 2**max_factor).round())
        assert errors[chosen] <= min(errors) * (1 + 1e-4)


def test_power_of_two_factors_are_searched_far_faster_than_by_a_loop_over_channels():
    x = torch.randn(8, 197, 384) * torch.randn(384).exp()

    def loop():
        scale, zero_point = affine_range(x.min(), x.max(), 8)
        for channel in range(x.shape[-1]):
            for factor in range(4):
                step = scale / 8 * 2**factor
                q = (torch.round(x[..., channel] / step) + zero_point).clamp(0, 255)
                ((q - zero_point) * step - x[..., channel]).square().mean()

    def seconds(function):
        times = []
        for _ in range(4):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    ratio = seconds(loop) / seconds(lambda: power_of_two_factors(x, 8))
    print(f"\npower-of-two factors of (8, 197, 384): {ratio:.1f} times as fast as the plain loop")
    assert ratio > 2  # about 15; a busy machine must not fail the test


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0])
def test_constant_activations_survive(value):
    x = torch.full((4, 3), value)
    scale, zero_point, _ = power_of_two_factors(x, 8)
    y = (torch.round(x / scale) + zero_point).clamp(0, 255).sub(zero_point) * scale
    torch.testing.assert_close(y, x)


@given(st.floats(1e-3, 0.2))
@few
def test_integer_exp_follows_exp(scale):
    steps = -torch.arange(0, math.ceil(8 / scale)).double()
    values = integer_exp(steps, scale)
    ratio = values / values[0]
    # the polynomial is good to 2 %; ln 2 is rounded to whole steps, which adds up
    assert (
        torch.log(ratio / torch.exp(steps * scale)).abs()
        <= 0.04 + 2.5 * scale * (1 - steps * scale)
    ).all()


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.5, 1.0, 1.7, 10.0, 1000.0])
def test_log_int_softmax_is_within_one_exponent_of_softmax(scale):
    x = torch.randint(-60, 60, (4, 33)).float() * scale
    expected = -torch.log2(torch.softmax(x.double(), -1))
    found = -torch.log2(log_int_softmax(x, scale, 4)).double()
    known = expected < 14
    assert torch.isfinite(found).all()
    # a coarse grid makes the polynomial coarse: its error in exponents grows with the distance
    assert (
        (found - expected).abs()[known] <= 1.1 + (0.25 * expected[known] if scale > 0.2 else 0)
    ).all()


def test_log_int_softmax_equals_its_formula_step_by_step():
    scale, bits = 0.07, 4
    x = torch.randint(0, 256, (6, 19), generator=torch.Generator().manual_seed(0)).double() * scale
    for row in x:
        steps = [float(v) / scale for v in row]
        ln2, weights = math.floor(-0.6931 / scale), []
        for step in (s - max(steps) for s in steps):
            step = max(step, 30 * ln2)
            shifts = math.floor(step / ln2)
            rest = step - ln2 * shifts
            linear, constant = 0.96963238 / 0.35815147, 1 / 0.35815147
            value = rest * (rest + math.floor(linear / scale)) + math.floor(constant / scale**2)
            weights.append(max(math.floor(value * 2 ** (30 - shifts)), 0))
        expected = []
        for weight in weights:
            quotient = round(sum(weights) / weight)
            floor = math.floor(math.log2(quotient))
            expected.append(min(floor + (quotient - 2**floor >= 2**floor / 2), 2**bits - 1))
        found = log_int_softmax(row, scale, bits)
        assert (-torch.log2(found)).tolist() == expected


def test_log_int_softmax_by_hand():
    # equal logits: 1/4 each; far below: nothing, the least power or zero
    assert log_int_softmax(torch.zeros(4), 0.1, 4).tolist() == [0.25] * 4
    x = torch.tensor([0.0, -40.0])
    assert log_int_softmax(x, 0.1, 4).tolist() == [1.0, 2.0**-15]
    assert log_int_softmax(x, 0.1, 4, zero_beyond=True).tolist() == [1.0, 0.0]
    # three equal: 3 = 1.5 * 2 is rounded up to 4
    assert log_int_softmax(torch.zeros(3), 0.1, 4).tolist() == [0.25] * 3


@given(st.integers(0, 10_000), st.integers(2, 8))
@few
def test_log_int_softmax_gives_powers_of_two_whatever_the_zero_point(seed, bits):
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(0, 256, (3, 11), generator=generator).double()
    y = log_int_softmax(steps * 0.125, 0.125, bits)
    exponents = -torch.log2(y)
    assert torch.equal(exponents, exponents.round()) and exponents.max() <= 2**bits - 1
    assert torch.equal(log_int_softmax((steps - 77) * 0.125, 0.125, bits), y)
    whole = log_int_softmax_exponents(steps.int(), 0.125).clamp(max=2**bits - 1)
    assert torch.equal(whole.double(), exponents)


@given(st.integers(0, 10_000))
@few
def test_integer_layer_norm_stays_near_layer_norm(seed):
    generator = torch.Generator().manual_seed(seed)
    scale = 0.02 * 2.0 ** torch.randint(0, 4, (24,), generator=generator)
    x = torch.round(torch.randn(3, 5, 24, generator=generator) / scale) * scale
    gamma, beta = torch.randn(24, generator=generator), torch.randn(24, generator=generator)
    expected = nn.functional.layer_norm(x, (24,), gamma, beta)
    out_scale = (expected.max() - expected.min()) / 255
    y = integer_layer_norm(x, scale, gamma, beta, out_scale) * out_scale
    # the multiplier has 8 bits: 1 part in 128 of what it multiplies
    assert (
        (y - expected).abs() <= out_scale + (expected - beta).abs() / 60 + x.abs().max() / 60
    ).all()


def test_integer_layer_norm_of_a_token_without_variance_is_beta():
    gamma, beta = torch.randn(8), torch.randn(8)
    y = integer_layer_norm(
        torch.full((2, 8), 0.5), torch.tensor(0.1), gamma, beta, torch.tensor(0.01)
    )
    torch.testing.assert_close(y * 0.01, beta.expand(2, 8), atol=0.006, rtol=0)


def test_batch_norm_is_folded_without_a_change():
    torch.manual_seed(0)
    stem = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.GELU(),
        nn.Conv2d(4, 5, 1),
        nn.BatchNorm2d(5),
    )
    for norm in (stem[1], stem[4]):
        for value in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(value)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(2, 3, 6, 6)
    expected = stem.eval()(x)
    fold_batch_norm(stem)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in stem)
    torch.testing.assert_close(stem(x), expected, atol=1e-5, rtol=1e-5)


# The whole model


@pytest.fixture
def images():
    return torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def closeness(model, other, x):
    with torch.no_grad():
        expected = model(x)
        return float((other(x) - expected).norm() / expected.norm())


def test_32_bits_are_the_float_model(vit, images):
    same, skipped = quantize_model(vit, images, Options(bits=32, attention_bits=32))
    assert not skipped
    assert closeness(vit, same, images) < 1e-5  # BatchNorm folded, attention not fused


def test_16_bits_are_within_a_thousandth_of_the_float_model(vit, images):
    model, _ = quantize_model(vit, images, Options(bits=16, attention_bits=16, **PLAIN))
    assert closeness(vit, model, images) < 1e-3


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("log_int", [False, True])
def test_every_table_row_reloads_to_the_same_logits(vit, images, power_of_two, log_int):
    options = Options(power_of_two=power_of_two, log_int_softmax=log_int)
    model, _ = quantize_model(vit, images, options)
    tensors, description = pack(model)
    again = unpack(tensors, json.loads(json.dumps(description))).eval()
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
    assert closeness(vit, model, images) < 0.5


@torch.no_grad()
def test_ranges_are_those_of_the_network_with_quantized_weights(vit, images):
    model, _ = quantize_model(vit, images, Options(bits=3))
    qkv = model.blocks[0].attn.qkv
    for quantizer in model.modules():
        if isinstance(quantizer, ActivationQuantizer):
            quantizer.phase = "nothing"  # values pass, as they did while they were looked at
    seen = []
    qkv.register_forward_hook(lambda module, given, y: seen.append(y))
    model(images)
    scale, zero_point = affine_range(seen[0], seen[0], 3)
    assert torch.equal(qkv.output_quantizer.scale, scale)
    assert torch.equal(qkv.output_quantizer.zero_point, zero_point)
    dense = seen.copy()
    vit.blocks[0].attn.qkv.register_forward_hook(lambda module, given, y: dense.append(y))
    vit(images)
    assert affine_range(dense[1], dense[1], 3)[0] != scale


@torch.no_grad()
def test_the_class_token_is_rounded_once_before_the_head(vit, images):
    model, _ = quantize_model(vit, images, Options(bits=4))
    seen = {}
    model.norm.register_forward_hook(lambda module, given, y: seen.update(norm=y[:, 0]))
    model.head.input_quantizer.register_forward_hook(lambda module, given, y: seen.update(head=y))
    model(images)
    assert torch.equal(seen["head"], seen["norm"])
    mean = VisionTransformer(
        img_size=32, patch_size=8, in_chans=1, embed_dim=16, depth=1, num_heads=2, global_pool="avg"
    ).eval()
    model, _ = quantize_model(mean, torch.randn(4, 1, 32, 32), Options(bits=4))
    assert isinstance(model.head.input_quantizer, ActivationQuantizer)  # a mean is on no grid


def test_weights_and_activations_take_only_their_codes(vit, images):
    model, _ = quantize_model(vit, images, Options(bits=4))
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, ActivationQuantizer):

            def look(module, _, y, name=name):
                seen[name] = torch.round(y / module.scale).unique()

            module.register_forward_hook(look)
        if isinstance(module, QuantLinear):
            assert module.weight.unique().numel() <= 16
    with torch.no_grad():
        model(images)
    assert all(values.numel() <= 16 for values in seen.values())
    expected = {  # what enters a product, what a product gives, norms and sums
        "patch_embed.layers.0.input_quantizer",
        "patch_embed.layers.3.output_quantizer",
        "blocks.0.norm1.input_quantizer",
        "blocks.0.mlp.fc2.input_quantizer",
        "blocks.0.mlp.fc2.output_quantizer",
        "blocks.1.attn.qkv.output_quantizer",
        "blocks.1.attn.proj.input_quantizer",
        "norm.output_quantizer",
    }
    assert expected <= seen.keys()


def test_power_of_two_factors_rescue_uneven_channels(vit, images):
    with torch.no_grad():
        for block in vit.blocks:  # a few channels far wider than the others, as in trained ViTs
            block.mlp.fc2.bias[:3] += torch.tensor([40.0, -30.0, 20.0])
    errors = {
        power_of_two: closeness(
            vit,
            quantize_model(
                vit,
                images,
                Options(bits=6, attention_bits=8, log_int_softmax=False, power_of_two=power_of_two),
            )[0],
            images,
        )
        for power_of_two in (False, True)
    }
    assert errors[True] < errors[False]


def test_model_and_random_state_are_left_alone(vit, images):
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    state = torch.get_rng_state()
    model, _ = quantize_model(vit, images)
    unpack(*pack(model))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    assert not any(isinstance(module, QuantLinear) for module in vit.modules())


def test_linear_patches_and_average_pooling_work_too(images):
    for extra in ({}, {"global_pool": "avg", "class_token": False}, {"reg_tokens": 2}):
        vit = VisionTransformer(16, 4, 3, 5, embed_dim=24, depth=1, num_heads=2, **extra).eval()
        nn.init.normal_(vit.pos_embed)  # timm's start is lost beside the patches in 8 bits
        model, skipped = quantize_model(vit, images, Options(attention_bits=8, **PLAIN))
        assert not skipped and closeness(vit, model, images) < 0.1


def test_layers_without_a_quantized_form_are_listed(images):
    vit = VisionTransformer(
        16,
        4,
        3,
        5,
        embed_dim=24,
        depth=1,
        num_heads=2,
        init_values=0.1,
        qk_norm=True,
        norm_layer=nn.LayerNorm,
    ).eval()
    _, skipped = quantize_model(vit, images)
    assert {"blocks.0.ls1", "blocks.0.ls2", "blocks.0.attn"} <= dict(skipped).keys()
    assert all(reason for _, reason in skipped)


# Bad input


def test_empty_calibration_is_refused(vit):
    with pytest.raises(ValueError, match="calibration set is empty"):
        quantize_model(vit, torch.zeros(0, 3, 16, 16))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_in_calibration_names_the_layer(vit, images, bad):
    images[3, 0, 0, 0] = bad
    with pytest.raises(ValueError, match=r"patch_embed\.layers\.0\.input_quantizer"):
        quantize_model(vit, images)


def test_nan_in_a_weight_names_it(vit, images):
    vit.blocks[0].mlp.fc1.weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.fc1\.weight"):
        quantize_model(vit, images)


@pytest.mark.parametrize("options", [{"bits": 1}, {"bits": 17}, {"attention_bits": 0}])
def test_bits_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="16, or 32"):
        Options(**options)


def test_a_quantized_model_is_refused(vit, images):
    model, _ = quantize_model(vit, images)
    with pytest.raises(ValueError, match="already quantized"):
        quantize_model(model, images)


def test_constant_images_and_dead_layers_are_quantized(vit):
    for parameter in vit.blocks[0].parameters():
        nn.init.zeros_(parameter)
    x = torch.zeros(4, 3, 16, 16)
    model, _ = quantize_model(vit, x)
    with torch.no_grad():
        assert torch.isfinite(model(x)).all()


# Models that the study did not build


@pytest.mark.parametrize("variant", foreign_models.VARIANTS)
def test_a_foreign_model_is_quantized_and_what_is_left_is_listed(variant):
    model = foreign_models.build(variant)
    images = foreign_models.images_for(model)
    if foreign_models.check_refused("fq_vit", variant, lambda: quantize_model(model, images)):
        return
    fine = Options(bits=16, attention_bits=16, power_of_two=False, log_int_softmax=False)
    with torch.no_grad():
        same, _ = quantize_model(model, images, Options(bits=32, attention_bits=32))
        foreign_models.assert_close(same(images), model(images))
        near, skipped = quantize_model(model, images, fine)
        assert (near(images) - model(images)).norm() < 1e-3 * model(images).norm()
        rounded, _ = quantize_model(model, images)  # the integers of the paper
        assert torch.isfinite(rounded(images)).all()
    left = dict(skipped)
    for name, module in model.named_modules():
        if name.endswith("attn") and not isinstance(near.get_submodule(name), QuantAttention):
            assert name in left
        if type(module) is nn.Linear:
            assert isinstance(near.get_submodule(name), QuantLinear), name
        if hasattr(module, "normalized_shape"):
            assert name in left or isinstance(near.get_submodule(name), QuantLayerNorm)


def test_a_norm_without_gain_and_bias_is_one_of_ones_and_zeros():
    norm, plain = nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False)
    x = torch.randn(3, 8, generator=torch.manual_seed(0))
    found = []
    for each in (norm, plain):
        layer = QuantLayerNorm(each, Options())
        calibrate(layer, x)
        found.append(layer(x))
    assert torch.equal(*found) and (found[0] - norm(x)).abs().max() < 0.05


def test_a_model_without_attention_is_one_line():
    with pytest.raises(UserError, match="Sequential has no attention: FQ-ViT quantizes Vision"):
        quantize_model(nn.Sequential(nn.Linear(4, 4)), torch.zeros(1, 3, 4, 4))


def test_a_layer_that_is_never_called_is_one_line():
    """An attention of somebody's own that multiplies with its layer's weight."""
    model = foreign_models.build("qk norm")
    attention = model.blocks[1].attn
    attention.forward = lambda x, **_: nn.functional.linear(x, torch.eye(32))
    with pytest.raises(UserError, match=r"blocks\.1\.attn\.qkv is never called on an image"):
        quantize_model(model, foreign_models.images_for(model))
