"""DeiT: its losses against the recorded ones, the token, the whole model beneath other methods."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from vitstudy import data, measure, methods, models, profiles
from vitstudy.distillation import deit
from vitstudy.distillation.deit import distillation_loss, hard_loss, hard_targets
from vitstudy.narrow import narrowed
from vitstudy.quantization import dynamic, fq_vit, lsq

REFERENCE = Path(__file__).parents[1] / "reference"
SMOKE = profiles.get("smoke").architecture

# Recorded vectors: reference/attn, README row `deit_loss__*` (DeiT's authors' code)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "case", ["none_a0.5_t1_ce", "hard_a0.5_t1_ce", "soft_a0.5_t1_ce", "soft_a0.1_t3_ls"]
)
def test_the_loss_and_its_gradients_equal_the_recorded(case, dtype):
    with np.load(REFERENCE / f"deit_loss__{case}.npz") as arrays:
        r = {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays if name != "meta"}
        meta = json.loads(str(arrays["meta"]))
    heads = [r[f"in_student_{head}"].to(dtype).requires_grad_() for head in ("cls", "dist")]
    value = distillation_loss(
        *heads,
        r["in_teacher"].to(dtype),
        r["in_labels"],
        target=meta["type"],
        weight=meta["alpha"],
        temperature=meta["tau"],
        expectation="teacher",
        per_class=True,
        label_smoothing=0.1 if "LabelSmoothing" in meta["base"] else 0.0,
    )
    value.backward()
    exact = dtype == torch.float64
    found = {"loss": value.detach(), "grad_cls": heads[0].grad, "grad_dist": heads[1].grad}
    for name, tensor in found.items():
        recorded = r.get(f"out_{name}_f64" if exact else f"out_{name}")
        if recorded is None:
            assert (case.split("_")[0], name, tensor) == ("none", "grad_dist", None)
            continue
        bound = (1e-10 if exact else 2e-5) * recorded.abs().max()
        assert (tensor - recorded).abs().max() <= bound, name


# By hand


def heads(classes=4, images=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, images, classes, generator=generator, dtype=torch.float64)


def test_equation_5_by_hand():
    student, teacher = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.5, 0.4]])
    log_p = student.log_softmax(-1)[0]
    value = hard_loss(student, teacher, torch.tensor([0]))
    torch.testing.assert_close(value, -0.5 * log_p[0] - 0.5 * log_p[1])
    assert hard_targets(teacher).tolist() == [1]
    value = hard_loss(student, teacher, torch.tensor([0]), weight=0.25)
    torch.testing.assert_close(value, -0.75 * log_p[0] - 0.25 * log_p[1])


def test_each_head_learns_its_own_target_and_nothing_of_the_other():
    class_logits, token_logits, teacher = heads()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    for target in ("labels", "soft", "hard"):
        given = [each.clone().requires_grad_() for each in (class_logits, token_logits)]
        distillation_loss(*given, teacher, labels, target=target).backward()
        own = class_logits.clone().requires_grad_()
        (0.5 * F.cross_entropy(own, labels)).backward()
        torch.testing.assert_close(given[0].grad, own.grad)
        assert given[1].grad.abs().max() > 0
    both = distillation_loss(class_logits, class_logits, None, labels, target="labels", weight=0.3)
    torch.testing.assert_close(both, F.cross_entropy(class_logits, labels))


def test_weight_0_and_no_target_are_training_without_a_teacher():
    class_logits, token_logits, teacher = heads()
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    alone = F.cross_entropy(class_logits, labels, label_smoothing=0.1)
    for settings in ({"target": "none"}, {"target": "hard", "weight": 0.0}):
        value = distillation_loss(
            class_logits, token_logits, teacher, labels, label_smoothing=0.1, **settings
        )
        assert torch.equal(value, alone)


def test_soft_labels_such_as_those_of_mixing_are_taken():
    class_logits, token_logits, teacher = heads()
    labels = torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = labels / labels.sum(-1, keepdim=True)
    value = distillation_loss(class_logits, token_logits, teacher, labels)
    by_labels = -(labels * class_logits.log_softmax(-1)).sum(-1).mean()
    decided = teacher.argmax(-1, keepdim=True)
    by_teacher = -token_logits.log_softmax(-1).gather(1, decided).mean()
    torch.testing.assert_close(value, 0.5 * by_labels + 0.5 * by_teacher)


def test_bad_settings_are_refused():
    class_logits, token_logits, teacher = heads()
    labels = torch.zeros(6, dtype=torch.long)
    with pytest.raises(ValueError, match="valid: 'none', 'labels', 'soft', 'hard'"):
        distillation_loss(class_logits, token_logits, teacher, labels, target="softer")
    with pytest.raises(ValueError, match="weight λ"):
        hard_loss(class_logits, teacher, labels, weight=2.0)
    with pytest.raises(ValueError, match="teacher tells 3 classes apart, the student 4"):
        hard_loss(class_logits, teacher[:, :3], labels)
    with pytest.raises(ValueError, match="temperature τ"):
        distillation_loss(
            class_logits, token_logits, teacher, labels, target="soft", temperature=0.0
        )


# The token


@pytest.fixture
def images():
    return torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def distilled():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = deit.build(SMOKE, 10, 1)
        for head in (model.head, model.head_dist):
            torch.nn.init.normal_(head.weight)
    return model.eval()


def test_the_distilled_model_is_timms_own_with_the_studys_stem(distilled, images):
    stem = {
        "embed_layer": lambda img_size, in_chans, **_: models.ConvStem(
            img_size, in_chans, SMOKE.stem
        )
    }
    timms = VisionTransformerDistilled(
        img_size=32,
        in_chans=1,
        num_classes=10,
        embed_dim=SMOKE.width,
        depth=SMOKE.depth,
        num_heads=SMOKE.heads,
        mlp_ratio=SMOKE.mlp_ratio,
        **stem,
    ).eval()
    timms.load_state_dict(distilled.state_dict())
    assert torch.equal(timms(images), distilled(images))
    assert distilled.num_prefix_tokens == 2 and distilled.pos_embed.shape[1] == 66


def test_both_heads_are_averaged_at_inference_and_apart_in_distilled_training(distilled, images):
    tokens = distilled.forward_features(images)
    class_logits, token_logits = distilled.head(tokens[:, 0]), distilled.head_dist(tokens[:, 1])
    torch.testing.assert_close(distilled(images), (class_logits + token_logits) / 2)
    assert not torch.allclose(class_logits, token_logits, atol=0.1)
    distilled.set_distilled_training(True)
    assert isinstance(distilled(images), torch.Tensor)
    assert len(distilled.train()(images)) == 2


def test_without_its_token_it_is_the_vanilla_model_of_the_same_seed(distilled):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vanilla = models.build(SMOKE, 10, 1)
    found, before = distilled.state_dict(), vanilla.state_dict()
    assert set(found) - set(before) == {"dist_token", "head_dist.weight", "head_dist.bias"}
    for name, tensor in before.items():
        if name == "pos_embed":
            kept = torch.cat([found[name][:, :1], found[name][:, 2:]], dim=1)
            assert torch.equal(kept, tensor)
            assert found[name][:, 1].abs().max() > 0
        elif name != "head.weight":  # made larger above
            assert torch.equal(found[name], tensor), name


def test_the_token_takes_the_parts_that_other_changes_left(images):
    model = models.build(SMOKE, 10, 1)
    model.blocks[0].mlp = torch.nn.Identity()
    model.feature_info = "theirs"
    new = deit.rebuild(model.train())
    assert new.training and new.blocks[0].mlp is model.blocks[0].mlp
    assert new.feature_info == "theirs" and new.cls_token is model.cls_token
    assert new(images).shape == (3, 10)
    with pytest.raises(ValueError, match="has a distillation token already"):
        deit.rebuild(new)


def test_a_distilled_model_is_packed_as_any_other_and_comes_back(distilled, images, tmp_path):
    state = torch.random.get_rng_state()
    models.save(distilled, tmp_path / "model.safetensors")
    again = models.load(tmp_path / "model.safetensors")
    assert type(again) is VisionTransformerDistilled
    assert torch.equal(again(images), distilled(images))
    assert again.description == distilled.description
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ["smoke", "digits", "cifar-cpu", "cifar", "cifar224"])
def test_parameters_and_macs_are_counted_twice_with_the_token_too(name):
    profile = profiles.get(name)
    spec = data.spec(profile.datasets[1])
    tiny = round(profile.architecture.width * methods.SMALL["width"])
    for architecture in (profile.architecture, narrowed(profile.architecture, tiny)):
        given = architecture, spec.num_classes, spec.channels
        model = deit.build(*given).eval()
        assert measure.count_parameters(model) == deit.parameters(*given)
        found = measure.count_macs(model, architecture.image_size, spec.channels)
        assert found == deit.macs(*given)


def test_the_papers_distilled_models_have_the_published_parameters():
    paper = profiles.get("paper")
    # timm's documentation of deit_base_distilled and deit_tiny_distilled: 87.3 M and 5.9 M.
    assert deit.parameters(paper.architecture, 1000, 3) == 87_338_192
    tiny = narrowed(paper.architecture, round(768 * methods.SMALL["width"]))
    assert (tiny.width, tiny.heads) == (192, 3)
    assert deit.parameters(tiny, 1000, 3) == 5_910_800


# Beneath other methods


def reloaded(model, path, packer):
    models.save(model, path, packer)
    return models.load(path)


def test_dynamic_int8_takes_both_heads_of_a_distilled_model(distilled, images, tmp_path):
    before = copy.deepcopy(distilled.state_dict())
    quantized = dynamic.quantize(distilled)
    for head in (quantized.head, quantized.head_dist):
        assert ".quantized." in type(head).__module__
    again = reloaded(quantized, tmp_path / "model", "vitstudy.quantization.dynamic")
    assert torch.equal(again(images), quantized(images))
    expected = distilled(images)
    assert (quantized(images) - expected).norm() < 0.1 * expected.norm()
    assert all(torch.equal(before[name], t) for name, t in distilled.state_dict().items())


def test_lsq_takes_both_heads_and_trains_them_apart(distilled, images, tmp_path):
    model, _ = lsq.prepare(distilled, 4, 4, images=images)
    assert {"head", "head_dist"} <= set(model.lsq)
    model.train().set_distilled_training(True)
    class_logits, token_logits = model(images)
    distillation_loss(class_logits, token_logits, heads(10, 3)[0], torch.arange(3)).backward()
    assert model.head_dist.weight_ratio.grad.abs() > 0
    model.set_distilled_training(False)
    model.eval()
    again = reloaded(model, tmp_path / "model", "vitstudy.quantization.lsq")
    assert torch.equal(again(images), model(images))


def test_fq_vit_quantizes_the_token_too(distilled, images, tmp_path):
    model, _ = fq_vit.quantize_model(distilled, images, fq_vit.Options())
    assert hasattr(model, "dist_token_scale")
    again = reloaded(model, tmp_path / "model", "vitstudy.quantization.fq_vit")
    assert torch.equal(again(images), model(images))


def test_a_quantized_file_names_the_token_before_it(distilled):
    _, description = lsq.pack(lsq.prepare(distilled, 4)[0])
    assert description["changes"] == [{"module": "vitstudy.distillation.deit"}]
    assert isinstance(models.skeleton(description), VisionTransformer)
