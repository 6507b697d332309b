"""The harness of post-training quantizers, by the smallest one that can be put into it."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitstudy.errors import UserError
from vitstudy.packing import pack_model, unpack_model
from vitstudy.profiles import Architecture
from vitstudy.quantization import fq_vit, harness
from vitstudy.quantization.layers import layers_left


def images(count=6):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def dense():
    from vitstudy import models

    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = Architecture(image_size=8, patch_size=4, width=8, depth=2, heads=2, mlp_ratio=2)
        return models.build(shape, 3, 1).eval()


def min_max(bits):
    """Every operand by one affine grid over its whole range: a method in two lines."""

    def convert(model):
        skipped = harness.Frame(bits, lambda operand: harness.AffineGrid(bits)).convert(model)
        return skipped + layers_left(model, (harness.QuantizedLayer,))

    return convert


def quantized(model, bits):
    return harness.quantized(model, images(), min_max(bits), title="min/max", batch_size=4)


@torch.no_grad()
def test_at_32_bits_nothing_is_rounded(dense):
    model, _ = quantized(dense, 32)
    assert torch.allclose(model(images()), dense(images()), atol=1e-6)
    assert harness.operands(model) == []


@torch.no_grad()
def test_error_falls_with_bits_and_the_model_given_stays_as_it_was(dense):
    expected = dense(images())
    errors = [(quantized(dense, bits)[0](images()) - expected).norm() for bits in (4, 8, 12)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0
    assert torch.equal(dense(images()), expected)


def test_it_rounds_weights_and_inputs_of_layers_and_four_operands_of_attention(dense):
    model, skipped = quantized(dense, 8)
    names = set(harness.operands(model))
    layers = (
        "patch_embed.proj",
        "head",
        *(f"blocks.{i}.mlp.fc{n}" for i in (0, 1) for n in (1, 2)),
    )
    layers += tuple(f"blocks.{i}.attn.{part}" for i in (0, 1) for part in ("qkv", "proj"))
    expected = {f"{name}.{each}" for name in layers for each in ("weight", "input_quantizer")}
    for operand in ("query", "key", "map", "value"):
        expected |= {f"blocks.{i}.attn.{operand}_quantizer" for i in (0, 1)}
    assert names == expected
    assert {name for name, _ in skipped} == {
        "norm",
        *(f"blocks.{i}.norm{n}" for i in (0, 1) for n in (1, 2)),
    }


@torch.no_grad()
def test_a_grid_is_set_by_all_batches_of_its_operand(dense):
    model, _ = quantized(dense, 8)
    grid, given = model.patch_embed.proj.input_quantizer, images()
    low, high = given.min().clamp(max=0), given.max().clamp(min=0)
    assert grid.scale == pytest.approx(((high - low) / 255).item(), rel=1e-6)
    assert (grid.rounded(given) - given).abs().max() <= grid.scale * 0.5001


@torch.no_grad()
def test_it_is_packed_and_unpacked_to_the_same_logits(dense):
    model, _ = quantized(dense, 5)
    tensors, description = pack_model(model, harness.codes(model))
    weight = tensors["blocks.0.mlp.fc1.weight"]
    assert weight.dtype == torch.uint8 and weight.numel() == 16 * 8 * 5 // 8

    def convert(bare):
        min_max(5)(bare)

    again = unpack_model(tensors, description, convert, lambda _, name, given: given[name])
    assert torch.equal(again(images()), model(images()))


def test_a_grid_looks_once_for_each_of_its_phases(dense):
    seen = []

    class Twice(harness.AffineGrid):
        phases = ("range", "again")

        def observe(self, x):
            seen.append((self.phase, len(x)))
            if self.phase == "range":
                super().observe(x)

    model = nn.Sequential(Twice(8), harness.AffineGrid(8))
    harness.calibrate(model, images(), batch_size=4)
    assert seen == [("range", 4), ("range", 2), ("again", 4), ("again", 2)]
    assert {grid.phase for grid in model} == {"on"}


def test_a_layer_that_no_image_reaches_is_named(dense):
    class Unread(VisionTransformer):
        def forward(self, x):
            return self.forward_features(x)[:, 0]

    with torch.random.fork_rng():
        model = Unread(img_size=8, patch_size=4, in_chans=1, embed_dim=8, depth=1, num_heads=2)
    with pytest.raises(UserError, match="^head is never called"):
        quantized(model, 8)


@pytest.mark.parametrize(
    ("given", "told"),
    [(torch.zeros(0, 1, 8, 8), "empty"), (torch.zeros(3, 8, 8), "no batch of images")],
)
def test_no_images_are_refused(dense, given, told):
    with pytest.raises(ValueError, match=told):
        harness.quantized(dense, given, min_max(8), title="min/max")


def test_a_model_without_attention_and_one_quantized_already_are_refused(dense):
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3))
    with pytest.raises(UserError, match="no attention: min/max quantizes Vision Transformers"):
        quantized(convolution, 8)
    with pytest.raises(ValueError, match="already quantized"):
        quantized(quantized(dense, 8)[0], 8)


def test_fq_vit_rounds_the_same_weights_and_its_own_operands(dense):
    model, _ = fq_vit.quantize_model(dense, images())
    plain, _ = quantized(dense, 8)

    def weights(model):
        return {name for name in harness.operands(model) if name.endswith(".weight")}

    assert weights(model) == weights(plain) != set()
    assert "blocks.0.attn.logit_quantizer" in harness.operands(model)
