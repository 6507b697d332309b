"""`vitstudy.compress` and `load` on models of a user's own, such as no row of the study has."""

import copy
import json
import subprocess
import sys

import foreign_models
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import vitstudy
from vitstudy import data, methods, models, profiles
from vitstudy.errors import UserError
from vitstudy.study import Cell

generator = torch.Generator().manual_seed(3)
IMAGES = torch.randn(8, 3, 32, 32, generator=generator)
LABELS = torch.arange(8) % 5
TRAIN = TensorDataset(IMAGES, LABELS)


class Scaled(nn.Module):
    """A factor a channel: a layer that no method knows, with a parameter of a usual name."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), 1.5))

    def forward(self, x):
        return x * self.scale[:, None, None]


def network() -> nn.Module:
    """Convolutions, BatchNorm, a layer of one's own and a head, for images (B, 3, H, W)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.GELU(),
            Scaled(8),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 5),
        )


class PastItsLayer(nn.Module):
    """Multiplies with the weight of `inner` without calling it."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(3 * 32 * 32, 6), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(F.linear(x.flatten(1), self.inner.weight, self.inner.bias))


def tied() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    model[3].weight = model[2].weight
    return model


def logits(model, images=IMAGES):
    with torch.inference_mode():
        return model(images)


def given(method: str, model: nn.Module | None = None) -> dict:
    """All that a method may need, a few steps of training included."""
    teacher = model and copy.deepcopy(model)
    return {
        **{"calibration": (IMAGES, LABELS), "train": TRAIN, "teacher": teacher},
        **{"steps": 2, "batch_size": 4},
    }


# -- what it gives --------------------------------------------------------------------------------


def test_two_lines_give_a_smaller_model_with_its_report_and_leave_the_given_one(tmp_path):
    model = foreign_models.build("registers").train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    small = vitstudy.compress(model, "rounded-w4", calibration=IMAGES)
    assert torch.equal(torch.rand(3), expected)
    assert model.training and not small.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert repr(small).splitlines()[1].strip().startswith("rounded-w4 (Plain rounding, W4) of Vis")
    report = small.report
    assert report.bytes_after < 0.45 * report.bytes_before
    assert report.parameters_before == sum(each.numel() for each in model.parameters())
    assert report.macs_before == report.macs_after > 0
    assert (report.weight_bits, report.activation_bits, report.simulated) == (4, 32, True)
    assert "blocks.1.mlp.fc2" in report.layers_touched
    left = {each["layer"]: each for each in report.layers_skipped}
    assert {"blocks.0.norm1", "norm", "reg_token"} <= set(left) and left["norm"]["reason"]
    assert "left        blocks.0.norm1" in str(report)
    assert report.to_dict()["layers_touched"] == report.layers_touched
    small.save(tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size == report.bytes_after
    again = vitstudy.load(tmp_path / "small.safetensors", like=model)
    assert torch.equal(logits(again), logits(small)) and again.report == report
    assert not torch.equal(logits(small), logits(model.eval()))


def test_a_timm_model_is_read_again_by_its_name_alone(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=7, img_size=32, in_chans=1)
    images = torch.randn(3, 1, 32, 32)
    small = vitstudy.compress(model, "magnitude-r0.2-cut")
    small.save(tmp_path / "small")
    again = vitstudy.load(str(tmp_path / "small"))
    assert torch.equal(logits(again, images), logits(small, images))
    assert small.report.parameters_after < 0.81 * small.report.parameters_before
    assert small.report.macs_after < small.report.macs_before
    assert small.num_classes == 7 and len(small.blocks) == len(model.blocks)  # it is timm's still


def test_a_model_made_with_more_than_its_name_tells_needs_one_like_it(tmp_path):
    model = timm.create_model("test_vit", num_classes=5, img_size=32, init_values=0.1)
    small = vitstudy.compress(model, "dynamic", calibration=IMAGES)
    small.save(tmp_path / "small")
    with pytest.raises(UserError, match=r"weights of a VisionTransformer, .*like=model"):
        vitstudy.load(tmp_path / "small")
    again = vitstudy.load(tmp_path / "small", like=model)
    assert torch.equal(logits(again), logits(small))


@pytest.mark.parametrize("method", ["dynamic", "lsq-w4", "lsq-w4a4", "diffq-finetuned"])
def test_a_plain_network_comes_back_from_its_file(method, tmp_path):
    model = network()
    small = vitstudy.compress(model, method, **given(method))
    small.save(tmp_path / "small")
    again = vitstudy.load(tmp_path / "small", like=network())
    assert torch.equal(logits(again), logits(small))
    names = {each["layer"].removesuffix(".scale") for each in small.report.layers_skipped}
    assert "3" in names and not names & set(small.report.layers_touched)
    assert torch.equal(logits(copy.deepcopy(small)), logits(small))


def test_inputs_that_are_no_images_are_taken_too():
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    small = vitstudy.compress(model, "rounded-w4", calibration=torch.randn(5, 12))
    assert logits(small, torch.randn(2, 12)).shape == (2, 3)
    assert small.report.macs_before == 12 * 8 + 8 * 3


@pytest.mark.parametrize("method", ["dynamic", "fq-vit", "lsq-w4a4"])
@pytest.mark.parametrize(
    "variant",
    ["rectangle", "parallel", "swin v2", "eva post norm", "swiglu packed", "norm without affine"],
)
def test_models_beyond_the_page_come_back_with_what_was_left_listed(variant, method, tmp_path):
    model = foreign_models.build(variant)
    images = foreign_models.images_for(model)
    pairs = TensorDataset(images, torch.arange(4))
    small = vitstudy.compress(model, method, calibration=images, train=pairs, steps=1)
    small.save(tmp_path / "small")
    again = vitstudy.load(tmp_path / "small", like=foreign_models.VARIANTS[variant]())
    assert torch.equal(logits(again, images), logits(small, images))
    owners = {name for name, each in model.named_modules() if next(each.parameters(False), None)
              is not None and name}  # fmt: skip
    told = {*small.report.layers_touched, *(e["layer"] for e in small.report.layers_skipped)}
    parents = {name for name in told if name}
    for name in owners:
        assert any(name == each or name.startswith(f"{each}.") for each in parents), name


@pytest.mark.parametrize(
    ("variant", "method", "line"),
    [
        ("swiglu", "vtp-r0.2", r"^blocks\.0\.mlp is SwiGLU"),
        ("qk norm", "magnitude-r0.2-cut", r"^blocks\.0\.attn\.q_norm is LayerNorm"),
        ("swin", "hydra", "^SwinTransformer has no transformer blocks"),
        ("no classes", "taylor-r0.2-cut", "^head is Identity"),
    ],
)
def test_what_a_method_cannot_do_is_refused_by_the_layers_name(variant, method, line):
    model = foreign_models.build(variant)
    with pytest.raises(UserError, match=line):
        vitstudy.compress(model, method, **given(method))


def test_a_layer_whose_weight_is_read_past_it_is_refused_by_name():
    with pytest.raises(UserError, match=r"^inner is never called on an image"):
        vitstudy.compress(PastItsLayer(), "rounded-w4", calibration=IMAGES)


def test_what_was_cut_can_be_quantized_and_what_is_quantized_cannot():
    model = foreign_models.build("plain")
    cut = vitstudy.compress(model, "magnitude-r0.2-cut", calibration=IMAGES)
    both = vitstudy.compress(cut, "dynamic", calibration=IMAGES)
    assert both.report.bytes_after < cut.report.bytes_after
    assert both.report.parameters_after == cut.report.parameters_after
    with pytest.raises(UserError, match="already quantized"):
        vitstudy.compress(both, "rounded-w4", calibration=IMAGES)


# -- training -------------------------------------------------------------------------------------


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield from TRAIN


@pytest.mark.parametrize(
    "train",
    [TRAIN, DataLoader(TRAIN, batch_size=4, shuffle=True), Endless()],
    ids=["data set", "loader", "iterable"],
)
def test_training_takes_the_steps_it_is_given(train):
    model = foreign_models.build("layer scale")
    small = vitstudy.compress(model, "lsq-w4", train=train, steps=5, batch_size=4)
    assert (small.report.steps, small.report.images_seen) == (5, 20)
    untrained = vitstudy.compress(model, "rounded-w4-mse", calibration=IMAGES)
    assert not torch.equal(logits(small), logits(untrained))


def test_the_same_seed_gives_the_same_file(tmp_path):
    for name in "ab":
        loader = DataLoader(TRAIN, batch_size=4, shuffle=True)
        small = vitstudy.compress(network(), "lsq-w4", train=loader, steps=3, seed=4)
        small.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_a_method_starts_from_is_made_first_and_counted():
    model = foreign_models.build("plain")
    small = vitstudy.compress(model, "vtp-r0.2", **given("vtp-r0.2"))
    assert small.report.stages == ["vtp-gates", "vtp-r0.2-cut", "vtp-r0.2"]
    assert (small.report.steps, small.report.images_seen) == (4, 16)
    assert small.report.parameters_after < 0.81 * small.report.parameters_before
    assert not [name for name in small.report.layers_touched if "gate" in name]


def test_a_teacher_of_ones_own_is_heard():
    model = network()
    other = copy.deepcopy(model)
    nn.init.zeros_(other[-1].weight)
    made = [
        vitstudy.compress(model, "taught", train=TRAIN, teacher=teacher, steps=2, batch_size=4)
        for teacher in (model, other)
    ]
    assert not torch.equal(logits(made[0]), logits(made[1]))


def test_a_model_of_the_study_gives_what_its_cell_gave(in_smoke):
    profile = profiles.get("smoke")
    given_data = data.load("digits", profile.limit)
    count = methods.get("fq-vit").options["calibration_images"]
    images = given_data.normalise(given_data.calibration.head(count).images)
    model = vitstudy.load(Cell("smoke", "digits", "vanilla", 0).artifact_path)
    assert model.report is None
    small = vitstudy.compress(model, "fq-vit", calibration=images)
    made = models.load(Cell("smoke", "digits", "fq-vit", 0).artifact_path)
    assert torch.equal(logits(small, images), logits(made, images))


# -- one line for what is wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "changes", "line"),
    [
        ("lsq", {}, r"^unknown method 'lsq'; valid: dynamic, "),
        (4, {}, "^the method is a int"),
        ("vanilla", {}, "^vanilla trains a network of the study's own from scratch"),
        ("soft", {}, "for one of your own take taught$"),
        ("deit-base+lsq-w4", {}, "^deit-base.lsq-w4 starts from deit-base, which is"),
        ("lsq-w4", {"train": None}, "^lsq-w4 trains: give train="),
        ("fq-vit", {"calibration": None, "train": None}, "^fq-vit needs calibration images"),
        ("taught", {"teacher": None}, "^taught distils: give teacher="),
        (
            "taught",
            {"teacher": foreign_models.build("no classes")},
            "^the teacher tells 32 classes",
        ),
        ("taylor-r0.2-cut", {"calibration": IMAGES}, "needs the labels of the calibration images"),
        ("lsq-w4", {"steps": 0}, "^steps is 0; valid: a whole number from 1 on"),
        ("lsq-w4", {"learning_rate": 3}, "^learning_rate is 3; valid"),
        ("lsq-w4", {"train": [1, 2]}, "^train is a list; valid: a Dataset"),
        ("lsq-w4", {"train": TensorDataset(IMAGES)}, r"^train= must give pairs \(image, label\)"),
        ("fq-vit", {"calibration": IMAGES[:0]}, "^the calibration set is empty"),
        ("fq-vit", {"calibration": "images"}, "^calibration is a str; valid: a tensor"),
        ("fq-vit", {"calibration": IMAGES.byte()}, r"^the calibration images are torch\.uint8"),
        (
            "fq-vit",
            {"calibration": IMAGES[:, :1]},
            r"^the model does not take inputs of \(1, 32",
        ),
        ("fq-vit", {"calibration": IMAGES * torch.nan}, "NaN"),
        ("fq-vit", {"model": network()}, "^Sequential has no attention"),
        ("hydra", {"model": network()}, "^Sequential has no transformer blocks"),
        ("lsq-w4", {"model": "vit"}, r"^the model is a str; give a torch\.nn\.Module"),
        ("lsq-w4", {"model": nn.Linear(3, 3)}, "^the model is a single Linear"),
        ("lsq-w4", {"model": nn.Sequential(nn.ReLU())}, "has no parameters to compress"),
        ("lsq-w4", {"model": network().half()}, r"^0\.weight is torch\.float16"),
        ("lsq-w4", {"model": tied()}, r"^3\.weight and 2\.weight are one parameter"),
        ("dynamic", {"model": nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())}, "knows none of the"),
    ],
)
def test_what_cannot_be_is_one_line(method, changes, line):
    options = {**given(method), "model": foreign_models.build("plain"), **changes}
    with pytest.raises(UserError, match=line) as raised:
        vitstudy.compress(options.pop("model"), method, **options)
    assert "\n" not in str(raised.value)


def test_files_that_are_none_or_of_another_version_are_one_line(tmp_path):
    small = vitstudy.compress(network(), "rounded-w4", calibration=IMAGES)
    small.save(tmp_path / "small")
    with pytest.raises(UserError, match=r"^there is no file"):
        vitstudy.load(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"^like is a dict"):
        vitstudy.load(tmp_path / "small", like={})
    with pytest.raises(UserError, match="from a Sequential of another structure than the Vision"):
        vitstudy.load(tmp_path / "small", like=foreign_models.build("plain"))
    with safe_open(tmp_path / "small", "pt") as file:
        header = {**json.loads(file.metadata()["vitstudy"]), "format": 9}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    save_file(tensors, tmp_path / "later", {"vitstudy": json.dumps(header)})
    with pytest.raises(UserError, match="later is a file of format 9 and this vitstudy reads form"):
        vitstudy.load(tmp_path / "later", like=network())


# -- the names ------------------------------------------------------------------------------------


def test_every_method_that_is_listed_is_taken_and_says_what_it_needs():
    listed = {each.key: each for each in vitstudy.list_methods()}
    assert {"lsq-w4", "vtp-r0.1", "hydra", "dynamic"} <= set(listed)
    assert not {"vanilla", "teacher", "small", "diffq", "deit-tiny", "soft"} & set(listed)
    assert listed["dynamic"].needs == ()
    assert set(listed["lsq-w4+taught"].needs) == {"calibration", "train", "teacher"}
    assert set(listed["taylor-r0.1"].needs) == {"train", "calibration", "labels"}


def test_importing_the_package_and_listing_methods_leave_torch_alone():
    code = (
        "import sys, vitstudy; assert 'load' in dir(vitstudy)\n"
        "assert vitstudy.list_methods() and vitstudy.UserError\n"
        "assert not {'torch', 'timm', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'shrink'"):
        vitstudy.shrink  # noqa: B018
