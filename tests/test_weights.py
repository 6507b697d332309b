"""Pretrained weights: every tensor but the head's is loaded, or one line says what is wrong."""

import pytest
import timm
import torch
from safetensors.torch import save, save_file

from vitstudy import weights
from vitstudy.errors import UserError

NAME = "test_vit"  # timm's smallest


@pytest.fixture(scope="module")
def original():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(NAME, num_classes=7)


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Write tensors, or bytes, as the file that is looked for."""
    monkeypatch.setenv("VITSTUDY_WEIGHTS", str(tmp_path))

    def write(content) -> None:
        path = tmp_path / f"{NAME}.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file({name: each.contiguous() for name, each in content.items()}, path)

    return write


def same_but_the_head(model, original) -> bool:
    found = model.state_dict()
    return all(
        torch.equal(found[name], tensor)
        for name, tensor in original.state_dict().items()
        if not name.startswith("head.")
    )


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model.", "state_dict.vit."])
@pytest.mark.parametrize("classes", [0, 7, 10])
def test_every_tensor_but_the_heads_is_loaded_whatever_the_keys_begin_with(
    put, original, prefix, classes
):
    put({f"{prefix}{name}": tensor for name, tensor in original.state_dict().items()})
    assert same_but_the_head(weights.timm_model(NAME, classes, 3), original)


def test_a_file_without_a_head_is_whole(put, original):
    state = original.state_dict()
    put({name: each for name, each in state.items() if not name.startswith("head.")})
    assert same_but_the_head(weights.timm_model(NAME, 10, 3), original)


def test_images_of_one_channel_get_the_first_convolution_summed(put, original):
    put(original.state_dict())
    model = weights.timm_model(NAME, 10, 1)
    expected = original.patch_embed.proj.weight.sum(1, keepdim=True)
    assert torch.allclose(model.patch_embed.proj.weight, expected, atol=1e-6)


def changed(state: dict, how: str) -> dict:
    if how == "a block is missing":
        return {name: each for name, each in state.items() if not name.startswith("blocks.1.")}
    if how == "a tensor is missing":
        return {name: each for name, each in state.items() if name != "norm.bias"}
    if how == "a tensor too many":
        return {**state, "blocks.0.extra": torch.zeros(1)}
    if how == "another width":
        return {**state, "norm.weight": torch.zeros(5)}
    return {f"ema.{name}" if "blocks" in name else name: each for name, each in state.items()}


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("a block is missing", "missing: blocks.1.attn.proj.bias, "),
        ("a tensor is missing", "missing: norm.bias"),
        ("a tensor too many", "not expected: blocks.0.extra"),
        ("another width", "of another shape: norm.weight"),
        ("a prefix on some", "not expected: ema.blocks.0."),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_weights_that_do_not_fit_are_named_and_nothing_is_left_random(
    put, original, how, told, prefix
):
    state = changed(original.state_dict(), how)
    put({f"{prefix}{name}": each for name, each in state.items()})
    with pytest.raises(UserError, match="does not hold this model's weights") as raised:
        weights.timm_model(NAME, 10, 3)
    assert told in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "a pointer of git-lfs"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"\n<html></html>", "a web page"),
        (b"PK\x03\x04rest", "a pickle of torch.save"),
        (b"\x80\x04rest", "a pickle"),
        (b"", "no whole safetensors file"),
        (save({"norm.weight": torch.zeros(100)})[:200], "no whole safetensors file"),
        (save({"norm.weight": torch.zeros(100)})[:-9], "no whole safetensors file"),
    ],
)
def test_a_file_that_is_no_safetensors_is_one_line_that_says_what_it_is(put, content, told):
    put(content)
    with pytest.raises(UserError) as raised:
        weights.timm_model(NAME, 10, 3)
    assert told in str(raised.value) and "\n" not in str(raised.value)
