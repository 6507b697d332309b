"""DiffQ: the recorded vectors, noise and gradients, the whole model, its file.

Vectors: facebookresearch/diffq@f6182ab run on small inputs (uniform levels, model size); levels are
exact, values within 1e-6 of the range, sizes within 1e-6.
"""

import json
import math
from pathlib import Path

import foreign_models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitstudy.quantization.diffq import (
    DiffQ,
    add_noise,
    bits_from_logits,
    fixed_size_mb,
    from_levels,
    logit_of_bits,
    model_size_mb,
    pack,
    true_bits,
    uniform_levels,
    unpack,
)

REFERENCE = Path(__file__).parents[1] / "reference"
few = settings(max_examples=40, deadline=None)
WIDTHS = [1, 2, 3, 4, 5, 8, 9, 12, 15]
GROUPED = [f"group{size}{wide}" for size in (1, 4, 8, 16) for wide in ("", "_wide")]


@pytest.fixture
def images():
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


# Recorded vectors


@pytest.mark.parametrize("case", [f"b{bits}" for bits in WIDTHS] + GROUPED)
def test_levels_equal_the_recorded(case):
    with np.load(REFERENCE / "diffq_uniform.npz") as r:
        weight = torch.from_numpy(r["in__w"])
        bits = int(case[1:]) if case[1:].isdigit() else torch.from_numpy(r[f"{case}__bits"])
        weight = weight.view(r[f"{case}__levels"].shape)
        levels, low, high = uniform_levels(weight, bits)
        assert (low.item(), high.item()) == (r[f"{case}__mn"], r[f"{case}__mx"])
        assert torch.equal(levels, torch.from_numpy(r[f"{case}__levels"]))
        error = from_levels(levels, bits, low, high) - torch.from_numpy(r[f"{case}__out"])
        assert error.abs().max() <= 1e-6 * (high - low)


def size_cases():
    with np.load(REFERENCE / "diffq_model_size.npz") as r:
        return json.loads(str(r["meta"]))["cases"]


@pytest.mark.parametrize("case", size_cases(), ids=lambda case: case["tag"])
def test_model_size_equals_the_recorded(case):
    with np.load(REFERENCE / "diffq_model_size.npz") as r:
        field = lambda name: r[f"{case['tag']}__{name}"]  # noqa: E731
        expected, exact = float(field("model_size")), float(field("true_model_size"))
        num_float = int(field("n_other"))
        if case["quantizer"] != "DiffQuantizer":
            overhead = 32 if case["quantizer"] == "LSQ" else 64
            half = int(field("n_quant")) // 2  # two tensors
            size = fixed_size_mb([half, half], case["bits"], num_float, overhead)
            assert size == pytest.approx(expected, rel=1e-6) == exact
            return
        low, high = case.get("min_bits", 2), case.get("max_bits", 15)
        logits = [field(f"logit{k}") for k in (0, 1) if f"{case['tag']}__logit{k}" in r.files]
        bits = [bits_from_logits(torch.from_numpy(x), low, high) for x in logits]
        rest = (case["group_size"], low, num_float, int(field("n_float16")))
        assert float(model_size_mb(bits, *rest)) == pytest.approx(expected, rel=1e-6)
        whole = [true_bits(b) for b in bits]
        assert float(model_size_mb(whole, *rest)) == pytest.approx(exact, rel=1e-6)


# The mathematics


def test_levels_by_hand():
    levels, low, high = uniform_levels(torch.tensor([-1.0, -0.4, 0.2, 2.0]), 2)
    assert levels.tolist() == [0, 1, 1, 3]
    assert from_levels(levels, 2, low, high).tolist() == [-1.0, 0.0, 0.0, 2.0]


@given(st.integers(0, 10_000), st.integers(1, 15))
@few
def test_true_quantization_stays_within_half_a_step(seed, bits):
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(seed))
    levels, low, high = uniform_levels(weight, bits)
    assert levels.min() == 0 and levels.max() == 2**bits - 1
    error = (from_levels(levels, bits, low, high) - weight).abs().max()
    assert error <= (high - low) / (2**bits - 1) * 0.501 + 1e-6


@pytest.mark.parametrize("value", [0.0, 3.7, -1e-30])
def test_constant_weights_come_back_exactly(value):
    weight = torch.full((4, 8), value)
    assert torch.equal(from_levels(*split(uniform_levels(weight, 5), 5)), weight)


def split(found, bits):
    levels, low, high = found
    return levels, bits, low, high


@pytest.mark.parametrize(
    ("noise", "deviation"), [("uniform", 1 / math.sqrt(12)), ("gaussian", 0.5)]
)
def test_noise_has_the_size_of_a_step(noise, deviation):
    generator = torch.Generator().manual_seed(0)
    weight = torch.linspace(-1, 1, 80_000).view(-1, 8)
    u = (add_noise(weight, torch.tensor(3.0), noise, generator) - weight) / (2 / 7)
    assert u.std().item() == pytest.approx(deviation, rel=0.02)
    assert abs(u.mean().item()) < 0.01
    if noise == "uniform":
        assert u.abs().max() <= 0.5001


def test_noise_none_is_the_identity():
    weight = torch.randn(3, 8)
    assert add_noise(weight, torch.tensor(2.0), "none") is weight


def test_gradient_of_the_bits_equals_its_formula():
    weight = torch.randn(4, 8, dtype=torch.float64)
    bits = torch.full((4, 1), 3.0, dtype=torch.float64, requires_grad=True)
    noisy = add_noise(weight, bits, "uniform", torch.Generator().manual_seed(0))
    u = ((noisy - weight) / (weight.max() - weight.min()) * 7).detach()
    noisy.sum().backward()
    by_bits = -(weight.max() - weight.min()) * 8 * math.log(2) / 49 * u.sum(1, keepdim=True)
    torch.testing.assert_close(bits.grad, by_bits)


@pytest.mark.parametrize("parametrization", ["bits", "noise"])
def test_bits_lie_between_their_bounds(parametrization):
    bits = bits_from_logits(torch.tensor([-50.0, 0.0, 50.0]), 2, 15, parametrization)
    torch.testing.assert_close(bits[[0, 2]], torch.tensor([2.0, 15.0]), atol=1e-4, rtol=0)
    assert bits.diff().min() > 0


def test_logit_of_bits_is_the_inverse():
    logits = torch.tensor([logit_of_bits(b, 2, 15) for b in (3, 8, 14.5)])
    torch.testing.assert_close(bits_from_logits(logits, 2, 15), torch.tensor([3, 8, 14.5]))


def test_size_by_hand():
    # 2 groups of 8 at 3 and 5 bits, a table of ceil(log2(1 + 5 - 2)) = 2 bits each; 10 floats
    bits = torch.tensor([3.0, 5.0])
    expected = 8 * 8 + 64 + 8 + 2 * 2 + 32 * 10
    assert float(model_size_mb([bits], 8, 2, 10)) * 8 * 2**20 == expected


# The whole model


def scattered(vit, **options):
    wrapped = DiffQ(vit, min_size_mb=0.001, **options)
    generator = torch.Generator().manual_seed(3)
    for logits in wrapped.bit_logits:
        logits.data += torch.randn(logits.shape, generator=generator) / wrapped.bit_rate
    return wrapped


@pytest.mark.parametrize("group_size", [1, 5, 8])
def test_true_quantization_reloads_to_the_same_logits(vit, images, group_size):
    wrapped = scattered(vit, group_size=group_size).eval()
    model = wrapped.quantized()
    tensors, description = pack(model)
    again = unpack(tensors, json.loads(json.dumps(description)))
    with torch.no_grad():
        assert torch.equal(model(images), wrapped(images))
        assert torch.equal(again(images), model(images))


def test_fifteen_bit_groups_are_not_lost(vit, images):
    wrapped = scattered(vit, bit_rate=10).eval()
    for logits in wrapped.bit_logits:
        logits.data[::2] = 100.0
    model = wrapped.quantized()
    assert all(bits.max() == 15 for _, bits, _ in model.diffq.values())
    tensors, description = pack(model)
    with torch.no_grad():
        assert torch.equal(unpack(tensors, description)(images), model(images))


def test_packed_payload_is_within_a_hundredth_of_the_formula(vit):
    wrapped = scattered(vit)
    tensors, _ = pack(wrapped.quantized())
    buffers = sum(value.nbytes for value in vit.buffers())  # BatchNorm's statistics: no parameters
    payload = (sum(value.nbytes for value in tensors.values()) - buffers) / 2**20
    assert payload == pytest.approx(wrapped.true_size_mb(), rel=0.01)


def test_size_penalty_lowers_the_bits_and_training_moves_the_weights(vit, images):
    wrapped = scattered(vit, bit_rate=100).train()
    before = wrapped.size_mb().item()
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        (wrapped(images).square().mean() + 100 * wrapped.size_mb()).backward()
        optimizer.step()
    assert wrapped.size_mb().item() < before
    assert not torch.equal(wrapped.model.head.weight, vit.head.weight)


@pytest.mark.parametrize("training", [True, False])
def test_without_noise_it_is_the_float_model(vit, images, training):
    wrapped = DiffQ(vit, noise="none", min_size_mb=0).eval()
    if training:
        wrapped.train()
        wrapped.model.eval()  # BatchNorm and dropout as in evaluation, the noise as in training
    with torch.no_grad():
        assert torch.equal(wrapped(images), vit(images))


def test_noise_is_drawn_anew_in_training_and_absent_in_evaluation(vit, images):
    wrapped = DiffQ(vit, initial_bits=4, min_size_mb=0)
    with torch.no_grad():
        assert torch.equal(wrapped(images), wrapped(images))
        assert not torch.equal(wrapped.train()(images), wrapped(images))


def test_fifteen_bits_are_within_a_thousandth_of_the_float_model(vit, images):
    wrapped = DiffQ(vit, initial_bits=14.99, min_size_mb=0).eval()
    with torch.no_grad():
        expected = vit(images)
        assert (wrapped(images) - expected).norm() < 1e-3 * expected.norm()


def test_small_parameters_stay_float_and_are_listed(vit):
    wrapped = DiffQ(vit, min_size_mb=0.004)  # 1,048 values
    left = dict(wrapped.left_in_float())
    assert "norm.weight" in left and "blocks.0.mlp.fc1.weight" in wrapped.names
    assert left.keys() | set(wrapped.names) == {name for name, _ in vit.named_parameters()}
    assert wrapped.num_float == sum(vit.get_parameter(name).numel() for name in left)


def test_bad_input_is_refused(vit):
    for bad in ({"min_bits": 0}, {"max_bits": 16}, {"initial_bits": 15}, {"initial_bits": 1}):
        with pytest.raises(ValueError, match="bits are out of range"):
            DiffQ(vit, **bad)
    with pytest.raises(ValueError, match="valid: uniform, gaussian, none"):
        DiffQ(vit, noise="pink")
    with pytest.raises(ValueError, match="valid: uniform, gaussian, none"):
        add_noise(torch.ones(2), torch.tensor(2.0), "pink")
    with pytest.raises(ValueError, match="group_size=0"):
        DiffQ(vit, group_size=0)
    with pytest.raises(ValueError, match="already quantized"):
        DiffQ(DiffQ(vit).quantized())
    vit.head.weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        DiffQ(vit, min_size_mb=0).quantized()


# Models that the study did not build


@pytest.mark.parametrize("variant", foreign_models.VARIANTS)
def test_the_quantized_weights_of_a_foreign_model_are_those_that_run(variant):
    model = foreign_models.build(variant)
    images = foreign_models.images_for(model)
    with torch.no_grad():
        same = DiffQ(model, noise="none", min_size_mb=0)
        foreign_models.assert_close(same(images), model(images))
        wrapped = DiffQ(model, min_size_mb=0, initial_bits=4)
        assert set(wrapped.names) == {name for name, _ in model.named_parameters()}
        foreign_models.assert_close(wrapped(images), wrapped.quantized()(images))
        assert not torch.allclose(wrapped(images), model(images), rtol=1e-3)
