"""PyTorch's dynamic quantization: real integers, in a file without pickles, and back."""

import sys

import foreign_models
import pytest
import torch
from safetensors import safe_open
from torch import nn

from vitstudy import data, measure, methods, models, profiles, training
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.quantization import dynamic

SMOKE = profiles.get("smoke")
KINDS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
LINEAR = [*(f"blocks.{n}.{kind}" for n in (0, 1) for kind in KINDS), "head"]


@pytest.fixture
def dense():
    torch.manual_seed(0)
    model = models.build(SMOKE.architecture, 10, 1).eval()
    nn.init.normal_(model.head.weight)
    return model


@pytest.fixture
def images():
    return torch.randn(20, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def save(model, path):
    models.save(model, path, "vitstudy.quantization.dynamic")
    return path


def test_the_reloaded_model_gives_the_same_logits_to_the_bit(dense, images, tmp_path):
    quantized = dynamic.quantize(dense)
    loaded = models.load(save(quantized, tmp_path / "model.safetensors"))
    assert torch.equal(loaded(images), quantized(images))
    again = models.load(save(loaded, tmp_path / "again.safetensors"))
    assert torch.equal(again(images), quantized(images))
    one, two = (tmp_path / name for name in ("model.safetensors", "again.safetensors"))
    assert one.read_bytes() == two.read_bytes()


def test_the_file_holds_integers_scales_and_zero_points_and_nothing_twice(dense, tmp_path):
    with safe_open(save(dynamic.quantize(dense), tmp_path / "model"), framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}
    for name in LINEAR:
        assert found[f"{name}.weight"].dtype == torch.int8
        assert found[f"{name}.scale"].dtype == torch.float64 and found[f"{name}.scale"].ndim == 0
        assert found[f"{name}.zero_point"].item() == 0
        assert found[f"{name}.bias"].dtype == torch.float32
    state = dense.state_dict()
    extra = {f"{name}.{each}" for name in LINEAR for each in ("scale", "zero_point")}
    assert set(found) == set(state) | extra
    for name, tensor in state.items():
        if name.removesuffix(".weight") not in LINEAR:
            assert torch.equal(found[name], tensor), name


def test_a_weight_is_off_by_half_a_step_at_most(dense):
    tensors, _ = dynamic.pack(dynamic.quantize(dense))
    for name in LINEAR:
        weight = dense.get_submodule(name).weight.detach().double()
        step, integers = tensors[f"{name}.scale"], tensors[f"{name}.weight"].double()
        assert (weight - step * integers).abs().max() <= step / 2 * (1 + 1e-4)
        # One scale a tensor, symmetric: the largest weight uses the range.
        assert integers.abs().max() >= 127


def test_the_input_is_not_changed_and_the_outputs_stay_near(dense, images):
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    expected = dense(images)
    quantized = dynamic.quantize(dense)
    assert all(type(dense.get_submodule(name)) is nn.Linear for name in LINEAR)
    assert all(torch.equal(before[name], tensor) for name, tensor in dense.state_dict().items())
    assert torch.equal(dense(images), expected)
    difference = (quantized(images) - expected).norm() / expected.norm()
    assert 0 < difference < 0.1


def test_quantizing_twice_is_refused(dense):
    with pytest.raises(UserError, match="dynamically quantized already"):
        dynamic.quantize(dynamic.quantize(dense))


@pytest.mark.parametrize("gone", ["torch.ao.quantization", "torch.ao.nn.quantized.dynamic"])
def test_a_torch_without_eager_quantization_gives_one_clear_line(dense, monkeypatch, gone):
    monkeypatch.setitem(sys.modules, gone, None)
    with pytest.raises(UserError) as raised:
        dynamic.quantize(dense)
    line = str(raised.value)
    assert "\n" not in line
    assert f"torch {torch.__version__} no longer has torch.ao.quantization" in line
    assert "requirements.lock" in line


def test_every_parameter_is_of_a_layer_touched_or_skipped_with_a_reason(in_smoke):
    context = Context(
        profile=SMOKE,
        data=data.load("digits", SMOKE.limit),
        seed=0,
        name="test",
        config=methods.get("dynamic").config,
        artifacts={"vanilla": in_smoke / "artifacts/smoke/digits/vanilla/seed0/model.safetensors"},
        checkpoints=in_smoke / "checkpoints",
    )
    dynamic.compress(context)
    assert sorted(context.layers_touched) == sorted(LINEAR)
    skipped = {each["layer"]: each for each in context.layers_skipped}
    assert len(skipped) == len(context.layers_skipped)
    assert not set(skipped) & set(LINEAR)
    assert all(each["reason"] and each["type"] for each in skipped.values())
    assert skipped["norm"]["type"] == "LayerNorm"
    for name, _ in context.model("vanilla").named_parameters():
        layer = name.rpartition(".")[0] or "(model)"
        assert layer in skipped or layer in LINEAR, name


def test_a_file_without_a_layer_it_should_have_is_refused(dense):
    tensors, description = dynamic.pack(dynamic.quantize(dense))
    for name in ("norm.weight", "head.scale", "blocks.0.attn.qkv.weight"):
        less = {each: tensor for each, tensor in tensors.items() if each != name}
        with pytest.raises((UserError, KeyError)):
            dynamic.unpack(less, description)


def test_evaluation_keeps_it_on_the_cpu(dense, in_smoke):
    digits = data.load("digits", SMOKE.limit)
    quantized = dynamic.quantize(dense)
    logits = training.evaluate(quantized, digits, digits.test, device="cpu")
    assert logits.shape == (128, 10) and torch.isfinite(logits).all()


def test_the_user_sees_no_warning(smoke_home):
    lines = (smoke_home / "digits.txt").read_text().splitlines()
    assert any("smoke/digits/dynamic/seed0" in line for line in lines)
    assert [line for line in lines if not line.startswith("vitstudy: ")] == []


# Models that the study did not build


@pytest.mark.parametrize("variant", foreign_models.VARIANTS)
def test_every_linear_layer_of_a_foreign_model_is_integers_and_runs(variant):
    model = foreign_models.build(variant)
    images, called = foreign_models.images_for(model), set()
    quantized = dynamic.quantize(model)
    layers = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    for name in layers:
        layer = quantized.get_submodule(name)
        assert layer.weight().dtype == torch.qint8
        layer.register_forward_hook(lambda layer, *_, name=name: called.add(name))
    with torch.no_grad():
        difference = quantized(images) - model(images)
        assert difference.norm() < 0.15 * model(images).norm()
    assert called == set(layers)
    assert measure.count_parameters(quantized) == measure.count_parameters(model)
