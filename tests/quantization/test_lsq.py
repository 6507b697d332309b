"""LSQ: gradients against autograd and by hand, the whole model, its file."""

import copy
import json
import math

import foreign_models
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitstudy.errors import UserError
from vitstudy.quantization.layers import Quantized
from vitstudy.quantization.lsq import (
    LsqConv2d,
    LsqLinear,
    initial_step,
    learned_step,
    pack,
    prepare,
    step_gradient_scale,
    unpack,
    wants_sign,
)
from vitstudy.quantization.uniform import quantization_range

few = settings(max_examples=40, deadline=None)


@pytest.fixture
def images():
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


# The mathematics


def test_rounding_and_gradients_by_hand():
    # bounds -2 and 1; v = 0.4, -1.6, 3, -9, and both bounds themselves
    x = torch.tensor([0.2, -0.8, 1.5, -4.5, 0.5, -1.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    y = learned_step(x, step, 2, True, gradient_scale=0.25)
    assert y.tolist() == [0.0, -1.0, 0.5, -1.0, 0.5, -1.0]
    weights = torch.tensor([1.0, 10.0, 100.0, 1e3, 1e4, 1e5])
    (y * weights).sum().backward()
    assert x.grad.tolist() == [1.0, 10.0, 0.0, 0.0, 0.0, 0.0]
    by_step = torch.tensor([-0.4, -0.4, 1.0, -2.0, 1.0, -2.0])
    torch.testing.assert_close(step.grad, 0.25 * (weights * by_step).sum())


@given(st.integers(0, 10_000), st.integers(2, 8), st.booleans(), st.booleans(), st.booleans())
@few
def test_gradients_equal_those_of_the_formula_under_autograd(seed, bits, signed, symmetric, rows):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 9, generator=generator, dtype=torch.float64).requires_grad_()
    step = (torch.rand((4, 1) if rows else (), generator=generator) + 0.05).double()
    step.requires_grad_()
    weights = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    low = -high if symmetric and signed else low

    def straight_through(x, step):  # rounding passes gradients, clipping does not
        v = x / step
        clipped = torch.minimum(torch.maximum(v, torch.tensor(low)), torch.tensor(high))
        return (clipped + (clipped.round() - clipped).detach()) * step

    y = learned_step(x, step, bits, signed, 0.3, symmetric=symmetric)
    expected = straight_through(x, step)
    torch.testing.assert_close(y, expected)
    found = torch.autograd.grad((y * weights).sum(), (x, step))
    wanted = torch.autograd.grad((expected * weights).sum(), (x, step))
    torch.testing.assert_close(found[0], wanted[0])
    torch.testing.assert_close(found[1], 0.3 * wanted[1])


def test_zero_of_unsigned_inputs_lies_on_the_bound_and_gets_no_gradient():
    x = torch.tensor([0.0, 1e-3], requires_grad=True)
    learned_step(x, torch.tensor(1.0), 4, False).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0]


def test_gradient_scale_and_first_step_by_hand():
    assert step_gradient_scale(100, 4, signed=True) == 1 / math.sqrt(700)
    assert step_gradient_scale(100, 4, signed=False) == 1 / math.sqrt(1500)
    x = torch.tensor([[1.0, -3.0], [0.0, 4.0]])
    assert initial_step(x, 2, True).item() == 4.0
    assert initial_step(x, 2, True, axis=0).tolist() == [4.0, 4.0]
    assert initial_step(torch.zeros(3), 4, True) > 0
    assert initial_step(torch.zeros(3), 4, True, start="mse") > 0


def test_only_values_that_deserve_it_get_a_sign():
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    for bits in (2, 3, 4, 8, 16):
        assert not wants_sign(x.relu(), bits)
        assert wants_sign(x, bits)
    gelu = nn.functional.gelu(x)
    assert not wants_sign(gelu, 2) and wants_sign(gelu, 16)


def test_32_bits_return_the_input_itself():
    x = torch.randn(3)
    assert learned_step(x, torch.tensor(1.0), 32, True) is x


def test_rounding_twice_is_rounding_once():
    x, step = torch.randn(1000), torch.tensor(0.0371)
    once = learned_step(x, step, 4, True)
    assert torch.equal(learned_step(once, step, 4, True), once)


# The whole model


@given(st.integers(0, 2**31 - 1), st.integers(2, 8), st.booleans())
def test_the_least_squares_start_errs_no_more_than_any_hundredth_of_the_widest(seed, bits, signed):
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x if signed else x.abs()
    q_min, q_max = quantization_range(bits, signed)
    steps = initial_step(x, bits, signed, start="mse", axis=0)
    for row, step in zip(x, steps, strict=True):
        widest = initial_step(row, bits, signed, start="max")

        def error(s, row=row):
            return float(((row / s).round().clamp(q_min, q_max) * s - row).square().sum())

        best = min(error(widest * share / 100) for share in range(1, 101))
        assert error(step) == pytest.approx(best, rel=1e-9)


VARIANTS = [(4, 32, None), (2, 2, 8), (8, 8, None), (32, 4, None), (16, 32, 8)]


def test_32_bits_leave_the_model_as_it_is(vit, images):
    model, _ = prepare(vit, 32)
    assert not any(isinstance(module, Quantized) for module in model.modules())
    assert torch.equal(model(images), vit(images))


def test_16_bits_are_within_a_thousandth_of_the_float_model(vit, images):
    model, _ = prepare(vit, 16, 16, images=images, start="max")
    expected = vit(images)
    assert (model(images) - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize(("weight_bits", "activation_bits", "ends"), VARIANTS)
def test_trained_model_reloads_to_the_same_logits(vit, images, weight_bits, activation_bits, ends):
    model, _ = prepare(vit, weight_bits, activation_bits, first_last_bits=ends, images=images)
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2)
    before = {name: p.clone() for name, p in model.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert any(name.endswith("_ratio") for name in changed)
    model.eval()
    tensors, description = pack(model)
    again = unpack(tensors, json.loads(json.dumps(description)))
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_first_and_last_layer_have_their_own_bits(vit, images):
    model, _ = prepare(vit, 3, 2, first_last_bits=8, images=images)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, LsqLinear | LsqConv2d)}
    first, *_, last = layers
    assert (first, last) == ("patch_embed.layers.0", "head")
    for name, layer in layers.items():
        expected = (8, 8) if name in (first, last) else (3, 2)
        assert (layer.weight_bits, layer.input_bits) == expected
        codes = layer.codes()
        assert codes.min() >= -(2 ** (expected[0] - 1)) and codes.max() < 2 ** (expected[0] - 1)


def test_first_step_of_activations_comes_from_the_first_batch(vit, images):
    model, _ = prepare(vit, 32, 4, images=images)
    layer = model.patch_embed.layers[0]
    assert layer.input_is_signed
    torch.testing.assert_close(layer.input_step, 2 * images.abs().mean() / math.sqrt(7))


def test_plain_rounding_is_the_untrained_control(vit):
    model, _ = prepare(vit, 4, start="max")
    weight = vit.head.weight
    step = 2 * weight.abs().max() / 15  # the papers' Eq. 3
    expected = (weight / step).round().clamp(-8, 7) * step
    torch.testing.assert_close(model.head.rounded_weight(), expected)


def test_four_bit_payload_is_an_eighth_of_the_float_weights(vit):
    model, _ = prepare(vit, 4)
    tensors, _ = pack(model)
    for name, module in model.named_modules():
        if isinstance(module, LsqLinear | LsqConv2d):
            assert tensors[f"{name}.weight"].numel() == -(-module.weight.numel() // 2)


def test_steps_below_zero_do_no_harm(vit, images):
    model, _ = prepare(vit, 4)
    expected = model(images)
    for name, parameter in model.named_parameters():
        if name.endswith("_ratio"):
            parameter.data.neg_()
    assert torch.equal(model(images), expected)


def test_under_autocast_codes_stay_exact(vit, images):
    model, _ = prepare(vit, 8, 8, images=images)
    with torch.autocast("cpu", torch.bfloat16):
        x = model.head.rounded_input(torch.linspace(-1, 1, 77).bfloat16().view(1, 77))
    steps = x / model.head.input_step
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)


def test_model_and_its_mode_are_left_alone(vit, images):
    before = copy.deepcopy(vit.state_dict())
    model, _ = prepare(vit.train(), 4, 4, images=images)
    assert model.training and vit.training
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    model.head.weight.data.zero_()
    assert vit.head.weight.abs().sum() > 0


def test_layers_left_in_float_are_listed(vit, images):
    _, skipped = prepare(vit, 4, 4, images=images)
    names = dict(skipped)
    assert {
        "norm",
        "pos_embed",
        "cls_token",
        "blocks.0.attn",
        "patch_embed.layers.1",
    } <= names.keys()


# Bad input


def test_bad_input_is_refused(vit, images):
    with pytest.raises(ValueError, match="16, or 32"):
        prepare(vit, 1)
    with pytest.raises(ValueError, match="16, or 32"):
        prepare(vit, 4, 17, images=images)
    with pytest.raises(ValueError, match="calibration set is empty"):
        prepare(vit, 4, 4)
    with pytest.raises(ValueError, match="calibration set is empty"):
        prepare(vit, 4, 4, images=images[:0])
    with pytest.raises(ValueError, match="valid: 'mean', 'max'"):
        prepare(vit, 4, start="median")
    with pytest.raises(ValueError, match="already quantized"):
        prepare(prepare(vit, 4)[0], 4)
    images[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"patch_embed\.layers\.0: its input holds NaN"):
        prepare(vit, 4, 4, images=images)
    vit.head.weight.data[0, 0] = math.inf
    with pytest.raises(ValueError, match=r"head\.weight: holds NaN or infinity"):
        prepare(vit, 4)


# Models that the study did not build


@pytest.mark.parametrize("variant", foreign_models.VARIANTS)
def test_the_rounded_weights_of_a_foreign_model_are_those_that_run(variant):
    model = foreign_models.build(variant)
    images = foreign_models.images_for(model)
    if foreign_models.check_refused("lsq", variant, lambda: prepare(model, 4)):
        return
    learned, skipped = prepare(model, 4)
    steps = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    assert set(steps) <= set(learned.lsq) and not set(steps) & set(dict(skipped))
    by_hand = copy.deepcopy(model)
    with torch.no_grad():
        foreign_models.assert_close(prepare(model, 32)[0](images), model(images))
        for name in learned.lsq:
            weight = learned.get_submodule(name).rounded_weight()
            by_hand.get_submodule(name).weight.copy_(weight)
        foreign_models.assert_close(learned(images), by_hand(images))
        assert not torch.allclose(learned(images), model(images), rtol=1e-3)
        both, skipped = prepare(model, 16, 16, images=images, start="max")
        assert (both(images) - model(images)).norm() < 1e-3 * model(images).norm()
    assert all(layer.input_is_signed is not None for layer in map(both.get_submodule, both.lsq))
    assert any("products have no weights" in reason for _, reason in skipped)


def test_a_layer_that_is_never_called_is_one_line():
    """An attention of somebody's own that multiplies with its layer's weight."""
    model = foreign_models.build("plain")
    attention = model.blocks[1].attn
    attention.forward = lambda x, **_: nn.functional.linear(x, attention.proj.weight)
    with pytest.raises(UserError, match=r"blocks\.1\.attn\.qkv is never called on an image"):
        prepare(model, 4, 4, images=foreign_models.images_for(model))
