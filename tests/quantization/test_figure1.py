"""What Figure 1 is drawn from: hooks on real timm models, and timm's weights or the reason."""

import dataclasses

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import Attention
from torch import nn

from vitstudy import data, models, profiles, weights
from vitstudy.configs import Config
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.quantization import figure1

SMOKE = profiles.get("smoke")
TINY = "test_vit"  # timm's own ViT for tests; of random weights here


@pytest.fixture
def context(home):
    return Context(SMOKE, data.load("digits", SMOKE.limit), 0, "test", Config(), {}, home)


@pytest.fixture
def pretrained_context(context):
    """The same with a profile that starts from timm's weights, at the tiny model's image size."""
    architecture = dataclasses.replace(SMOKE.architecture, timm_name="x", image_size=160)
    context.profile = dataclasses.replace(SMOKE, architecture=architecture)
    return context


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.build(SMOKE.architecture, 10, 1).eval()


@pytest.mark.parametrize("qk_norm", [False, True])
def test_attention_maps_are_those_of_timms_layer(qk_norm):
    torch.manual_seed(0)
    layer = Attention(
        12, num_heads=3, qkv_bias=True, qk_norm=qk_norm, norm_layer=nn.LayerNorm
    ).eval()
    x = torch.randn(2, 7, 12)
    maps = figure1.attention_maps(layer, x)
    assert maps.shape == (2, 3, 7, 7)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 7))
    values = layer.qkv(x).view(2, 7, 3, 3, 4).permute(2, 0, 3, 1, 4)[2]
    torch.testing.assert_close(layer.proj((maps @ values).transpose(1, 2).flatten(2)), layer(x))


def test_the_studys_own_model_is_observed_on_calibration_images(context, model):
    found = figure1.observe(context, model)
    assert set(found) == {
        f"{part}__vanilla" for part in ("norm_min", "norm_max", "attention", "attention_max")
    }
    images = context.data.normalise(context.data.calibration.head(figure1.IMAGES).images)
    with torch.no_grad():
        x = model.pos_drop(model._pos_embed(model.patch_embed(images)))
        maps = figure1.attention_maps(model.blocks[0].attn, model.blocks[0].norm1(x))
        for block in model.blocks:
            x = block(x)
    channels = x.flatten(0, 1).numpy()
    np.testing.assert_allclose(found["norm_min__vanilla"], channels.min(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["norm_max__vanilla"], channels.max(0), rtol=1e-5, atol=1e-6)
    assert found["attention_max__vanilla"] == pytest.approx(maps.max().item(), rel=1e-5)
    values = found["attention__vanilla"]
    assert values.shape == (figure1.SAMPLES,) and values.max() <= found["attention_max__vanilla"]
    assert values.mean() == pytest.approx(maps.mean().item(), rel=0.02)  # 1 / tokens
    again = figure1.observe(context, model)
    assert all(np.array_equal(again[name], array) for name, array in found.items())
    assert not model.norm._forward_pre_hooks and not model.blocks[0].attn._forward_pre_hooks


def test_a_swins_channels_are_those_of_its_last_axis(context):
    swin = SwinTransformer(
        img_size=32, patch_size=4, in_chans=1, num_classes=0, embed_dim=8, depths=(1, 1),
        num_heads=(1, 2), window_size=4,
    )  # fmt: skip
    found = figure1.norm_range(context, swin.eval(), "swin")
    assert found["norm_min__swin"].shape == (16,)
    assert (found["norm_min__swin"] < found["norm_max__swin"]).all()


def test_timms_models_are_drawn_from_a_folder_of_weights(pretrained_context, tmp_path, monkeypatch):
    monkeypatch.setattr(figure1, "SWIN_B", TINY)
    monkeypatch.setattr(figure1, "VIT_L", TINY)
    stand_in = timm.create_model(TINY, num_classes=1_000)
    save_file(stand_in.state_dict(), tmp_path / f"{TINY}.safetensors")
    monkeypatch.setenv("VITSTUDY_WEIGHTS", str(tmp_path))
    loaded = weights.timm_model(TINY, 0, 3).eval()
    assert torch.equal(loaded.blocks[0].attn.qkv.weight, stand_in.blocks[0].attn.qkv.weight)
    own = weights.timm_model(
        TINY, 0, 1
    ).eval()  # a network with what is asked for: patches of one channel
    found = figure1.observe(pretrained_context, own)
    for part in ("norm_min", "norm_max", "attention", "attention_max"):
        np.testing.assert_array_equal(found[f"{part}__{TINY}"], found[f"{part}__vanilla"])
    assert not [name for name in found if name.startswith("absent")]


@pytest.mark.parametrize("given", [True, False])
def test_weights_that_are_not_there_are_said_and_the_rest_is_drawn(
    pretrained_context, tmp_path, monkeypatch, given
):
    def no_network(*args, **options):
        raise OSError("no network\nand more")

    monkeypatch.setattr(timm, "create_model", no_network)
    if given:
        monkeypatch.setenv("VITSTUDY_WEIGHTS", str(tmp_path))
    with torch.random.fork_rng(devices=[]):
        own = models.build(SMOKE.architecture, 10, 1)
    pretrained_context.profile = dataclasses.replace(
        SMOKE, architecture=dataclasses.replace(SMOKE.architecture, timm_name="x")
    )
    found = figure1.observe(pretrained_context, own)
    assert "attention__vanilla" in found
    for name in (figure1.SWIN_B, figure1.VIT_L):
        reason = str(found[f"absent__{name}"])
        assert name in reason and "\n" not in reason
        assert ("holds no" if given else "no network") in reason
    with pytest.raises(UserError):
        weights.timm_model(figure1.SWIN_B, 0, 3)
