"""The profiles of a GPU in a tiny form: the papers' thirteen rows end to end, on any machine.

Sizes, steps and images are few, the images are digits; whatever else a profile says, bfloat16
included, is its own. Without a GPU nothing is compiled. The weights that `paper` starts from are
made here, in the files that it looks for.
"""

import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import timm
import torch
from commands import invoke, one_line
from safetensors.torch import load_file, save_file
from test_committed_records import problems

from vitstudy import methods, models, profiles, study
from vitstudy.report import tables
from vitstudy.study import Cell

ROWS = [method.key for method in methods.METHODS]
PAPER = profiles.get("paper")
NAMES = {
    "vanilla": PAPER.architecture.timm_name,
    "deit-base": PAPER.distilled.base,
    "deit-tiny": PAPER.distilled.tiny,
}
"""timm's, of what the rows begin from."""
WIDTHS = dict(zip(NAMES.values(), (32, 32, 8), strict=True))
"""A quarter for DeiT tiny, as in its paper."""
AT_64 = {"image_size": 64, "patch_size": 8}  # 64 patches, as many as the landmarks of m = 64


def tiny(name: str, **shape) -> profiles.Profile:
    profile = profiles.get(name)
    return replace(
        profile,
        datasets=profiles.DIGITS,
        architecture=replace(profile.architecture, width=32, depth=2, heads=2, **shape),
        recipes=tuple(replace(each, steps=4, batch_size=16) for each in profile.recipes),
        teacher=replace(profile.teacher, channels=(4, 8, 8)),
        seeds=(0,),
        threads=1,
        limit=(48, 16, 16, 32),
    )


TINY = {
    "cifar": tiny("cifar", stem=((8, 3, 1), (16, 3, 2), (32, 3, 2))),
    "cifar224": tiny("cifar224", **AT_64),
    "paper": tiny("paper", **AT_64),
}


ORIGINAL = timm.create_model


def in_small(name: str, **options) -> torch.nn.Module:
    """`timm.create_model`, with the networks of `WIDTHS` in the size of `TINY`."""
    if width := WIDTHS.get(name):
        shape = {"embed_dim": width, "num_heads": max(1, width // 16), "depth": 2}
        options = {**options, **shape, "img_size": 64, "patch_size": 8}
    return ORIGINAL(name, **options)


def set_up(patch: pytest.MonkeyPatch, home, name: str) -> None:
    """Compute in `home`, with the tiny form of the profile, and the weights that lie there."""
    patch.setenv("VITSTUDY_HOME", str(home))
    patch.setenv("VITSTUDY_WEIGHTS", "weights")
    patch.setitem(profiles.PROFILES, name, TINY[name])
    patch.setattr(timm, "create_model", in_small)


@pytest.fixture(scope="module")
def gpu_home(tmp_path_factory):
    """Weights of each of the names, of 1,000 classes and for colours as timm's are, and what the
    tiny profiles computed from the command line."""
    folder = tmp_path_factory.mktemp("gpu")
    (folder / "weights").mkdir()
    for name in WIDTHS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(len(name))
            weights = in_small(name, num_classes=1_000).state_dict()
        save_file(weights, folder / "weights" / f"{name}.safetensors")
    for name in TINY:
        with pytest.MonkeyPatch.context() as patch:
            set_up(patch, folder, name)
            rows = [f"{name}/digits/{key}" for key in ROWS]
            done = invoke("run", *rows, f"{name}/digit-pairs/dynamic")
        assert done.code == 0, done.err
    return folder


@pytest.fixture(params=TINY)
def profile(request, gpu_home, monkeypatch) -> profiles.Profile:
    """Each of the profiles, where it was computed."""
    set_up(monkeypatch, gpu_home, request.param)
    return profiles.get(request.param)


@pytest.fixture
def paper(gpu_home, monkeypatch) -> profiles.Profile:
    set_up(monkeypatch, gpu_home, "paper")
    return profiles.get("paper")


def cell(profile: profiles.Profile, key: str, dataset: str = "digits") -> Cell:
    return Cell(profile.name, dataset, key, 0)


def test_all_thirteen_rows_are_computed_and_their_records_are_sound(profile):
    for key in ROWS:
        record = study.read(cell(profile, key))
        assert record.status == "done", record.error
        assert problems(cell(profile, key).record_path) == []
        assert study.why_not(cell(profile, key)) is None
        assert record.options["recipe"] == asdict(profile.recipes[0])
        assert record.options["recipe"]["bf16"]
        assert record.options["architecture"]["timm_name"] == profile.architecture.timm_name
        assert record.test_images == 32 and record.threads == 1
        assert len(record.per_class_accuracy) == 10


def test_trained_rows_took_the_recipes_steps_and_the_others_none(profile):
    whole, short = profile.recipes[0].steps, 1  # a tenth of so few
    steps = {key: study.read(cell(profile, key)).steps for key in ROWS}
    assert steps == {
        **dict.fromkeys(("vanilla", "diffq", "deit-base", "deit-tiny"), whole),
        **dict.fromkeys(("dynamic", "fq-vit", "deit-base+dynamic"), 0),
        **{key: short for key in ROWS if key.startswith(("lsq", "vtp", "nystrom"))},
    }


def test_the_100_class_set_has_its_own_records_and_a_head_of_100(profile):
    record = study.read(cell(profile, "dynamic", "digit-pairs"))
    assert record.status == "done"
    assert problems(cell(profile, "dynamic", "digit-pairs").record_path) == []
    model = models.load(cell(profile, "vanilla", "digit-pairs").artifact_path)
    assert model.head.weight.shape == (100, 32)
    assert len(record.per_class_accuracy) == 100


def test_images_are_brought_to_the_profiles_size(profile):
    model = models.load(cell(profile, "vanilla").artifact_path)
    size = {"cifar": 32, "cifar224": 64, "paper": 64}[profile.name]
    assert profile.architecture.image_size == size
    assert model.patch_embed.num_patches == 64
    assert model(torch.zeros(1, 1, size, size)).shape == (1, 10)


def test_tables_have_every_row_and_say_that_gpu_speed_is_not_measured(profile):
    frame = tables.table(profile.name, 1).set_index("key")
    assert list(frame.index) == ROWS
    assert frame["accuracy"].notna().all() and frame["size_mib"].notna().all()
    assert frame["gpu_speed"].isna().all()
    for key, row in frame.iterrows():
        method = methods.get(key)
        if method.simulated:
            assert "simulated: no speed" in row["note"]
        elif method.device == "cpu":
            assert "no GPU speed: this arithmetic is the CPU's only" in row["note"]
        else:
            assert "GPU speed not measured" in row["note"]


def test_from_scratch_only_the_students_need_the_teacher(profile):
    taught = {key for key in ROWS if "teacher" in study.read(cell(profile, key)).parents}
    pretrained = bool(profile.architecture.timm_name)
    assert taught == (set() if pretrained else {"deit-base", "deit-tiny"})
    assert cell(profile, "teacher").record_path.exists() is not pretrained


# Pretrained weights


@pytest.mark.parametrize("key", NAMES)
def test_a_pretrained_row_is_its_own_names_weights_fine_tuned(paper, gpu_home, key):
    given = load_file(gpu_home / "weights" / f"{NAMES[key]}.safetensors")
    found = load_file(cell(paper, key).artifact_path)
    assert found.keys() == given.keys()
    recipe, far = paper.recipes[0], 0.0
    for name, tensor in found.items():
        if name.startswith("head"):  # of 10 classes in the place of 1,000
            assert tensor.shape[0] == 10
        elif name == "patch_embed.proj.weight":  # grey in the place of colours
            torch.testing.assert_close(tensor, given[name].sum(1, keepdim=True), atol=1e-3, rtol=0)
        else:
            far = max(far, (tensor - given[name]).abs().max().item())
    # Adam moves a weight by about the learning rate a step, so by less than all of them together.
    assert 0 < far < 2 * recipe.steps * recipe.learning_rate


def test_what_follows_from_vanilla_begins_from_its_artifact(paper):
    for key in ("dynamic", "fq-vit", "lsq-w4", "nystrom-m24"):
        parents = study.read(cell(paper, key)).parents
        assert parents == {"vanilla": study.read(cell(paper, "vanilla")).artifact_sha256}


def test_figure_1_says_which_weights_it_lacks(paper):
    with np.load(cell(paper, "fq-vit").analysis_path) as found:
        absent = {name: str(found[name]) for name in found if name.startswith("absent__")}
    assert len(absent) == 2
    assert all("VITSTUDY_WEIGHTS=weights holds no" in reason for reason in absent.values())


@pytest.mark.parametrize("key", NAMES)
def test_weights_that_are_absent_are_one_line_and_leave_no_record(gpu_home, home, monkeypatch, key):
    for part in ("weights", "artifacts/data"):
        shutil.copytree(gpu_home / part, home / part)
    (home / "weights" / f"{NAMES[key]}.safetensors").unlink()
    set_up(monkeypatch, home, "paper")
    said = one_line(invoke("run", f"paper/digits/{key}"))
    assert said == f"VITSTUDY_WEIGHTS=weights holds no {NAMES[key]}.safetensors"
    wanted = cell(TINY["paper"], key)
    assert not wanted.record_path.exists() and not wanted.artifact_path.exists()
