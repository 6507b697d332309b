"""Models: what the profiles describe, and files that give back the same model to the bit."""

import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vitstudy import models, profiles
from vitstudy.errors import UserError
from vitstudy.profiles import Architecture

SMOKE = profiles.get("smoke").architecture
LINEAR = Architecture(width=32, depth=2, heads=2, mlp_ratio=2)


def build(architecture=SMOKE, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.build(architecture, 10, 1)
        with torch.no_grad():  # BatchNorm has seen something, the head is no zeros
            model.train()(torch.randn(16, 1, 32, 32))
            torch.nn.init.normal_(model.head.weight)
    return model.eval()


def images():
    return torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("architecture", [SMOKE, LINEAR], ids=["stem", "linear patches"])
def test_a_saved_model_comes_back_with_the_same_logits_to_the_bit(tmp_path, architecture):
    model = build(architecture)
    models.save(model, tmp_path / "model.safetensors")
    loaded = models.load(tmp_path / "model.safetensors")
    assert not loaded.training
    assert torch.equal(loaded(images()), model(images()))
    assert loaded.description == model.description


def test_the_same_model_is_the_same_bytes(tmp_path):
    for name in "ab":
        models.save(build(), tmp_path / name)
    models.save(models.load(tmp_path / "a"), tmp_path / "c")
    models.save(build(seed=1), tmp_path / "d")
    a, b, c, d = ((tmp_path / name).read_bytes() for name in "abcd")
    assert a == b == c != d


@pytest.mark.parametrize("name", ["smoke", "digits", "cifar-cpu", "cifar"])
def test_small_profiles_have_64_patches_and_a_class_token(name):
    architecture = profiles.get(name).architecture
    model = models.build(architecture, 100, 3)
    tokens = model.forward_features(torch.zeros(1, 3, 32, 32))
    assert tokens.shape == (1, 65, architecture.width)
    assert model.num_prefix_tokens == 1 and model.global_pool == "token"
    assert model.patch_embed.patch_size == (4, 4)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 100)


def test_loading_leaves_the_callers_random_numbers(tmp_path):
    models.save(build(), tmp_path / "model")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    models.load(tmp_path / "model")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("keep", [0, 4, 200, 0.5, -1])
def test_a_truncated_file_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    models.save(build(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match=r"model\.safetensors is no whole safetensors file"):
        models.load(path)


def test_a_changed_structure_is_built_again_from_the_file_and_carried_on(tmp_path, monkeypatch):
    def rebuild(model, classes):
        model.head = nn.Linear(model.embed_dim, classes)
        return model

    monkeypatch.setitem(sys.modules, "vitstudy.stranger", SimpleNamespace(rebuild=rebuild))
    model = models.changed(build(), "vitstudy.stranger", classes=7)
    model = models.changed(model, "vitstudy.stranger", classes=4)
    models.save(model, tmp_path / "model.safetensors")
    again = models.load(tmp_path / "model.safetensors")
    assert again(images()).shape[1] == 4 and torch.equal(again(images()), model(images()))
    assert [each["classes"] for each in again.description["changes"]] == [7, 4]


def test_a_file_cannot_name_a_change_from_elsewhere(tmp_path):
    model = build()
    model.description["changes"] = [{"module": "antigravity"}]
    models.save(model, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"a change of structure names 'antigravity'"):
        models.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"vitstudy": "null"},
        {"vitstudy": '{"architecture": {}}'},
        {"vitstudy": '{"packer": "os"}'},
        {"vitstudy": '{"packer": "vitstudyx.models"}'},
        {"vitstudy": '{"packer": "antigravity", "architecture": {}}'},
    ],
)
def test_a_file_of_somebody_else_is_refused_and_imports_nothing(tmp_path, metadata, monkeypatch):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)

    def forbidden(name):
        raise AssertionError(f"imported {name}")

    monkeypatch.setattr(models.importlib, "import_module", forbidden)
    with pytest.raises(UserError, match="was not written by vitstudy"):
        models.load(path)


def test_pretrained_weights_that_are_not_there_are_told(home, monkeypatch):
    (home / "weights").mkdir()
    monkeypatch.setenv("VITSTUDY_WEIGHTS", "weights")
    with pytest.raises(UserError, match=r"holds no vit_base_patch16_224\.safetensors"):
        models.pretrained(profiles.get("paper").architecture, 10, 3)


def test_pretrained_weights_come_from_the_folder_that_is_named(home, monkeypatch):
    import timm

    tiny = Architecture(
        width=192, depth=12, heads=3, mlp_ratio=4, image_size=224, patch_size=16,
        timm_name="vit_tiny_patch16_224",
    )  # fmt: skip
    original = timm.create_model(tiny.timm_name, num_classes=1000)
    (home / "weights").mkdir()
    save_file(original.state_dict(), home / "weights" / f"{tiny.timm_name}.safetensors")
    monkeypatch.setenv("VITSTUDY_WEIGHTS", "weights")
    model = models.pretrained(tiny, 10, 3)
    assert torch.equal(model.blocks[3].attn.qkv.weight, original.blocks[3].attn.qkv.weight)
    assert torch.equal(model.pos_embed, original.pos_embed)
    assert model.head.weight.shape == (10, 192)


def test_pretrained_weights_without_a_network_are_told_with_what_to_do(monkeypatch):
    import timm

    def offline(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"no network.*VITSTUDY_WEIGHTS.*profile 'digits'"):
        models.pretrained(profiles.get("paper").architecture, 10, 3)
