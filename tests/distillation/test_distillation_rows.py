"""The rows of distillation in the study: cells, records, controls, what a user may get wrong."""

import dataclasses

import numpy as np
import pytest
import smoke_study
import torch
from commands import invoke, one_line
from safetensors.torch import load_file, save_file

from vitstudy import data, measure, methods, models, profiles, study
from vitstudy.context import Context
from vitstudy.distillation import deit, soft
from vitstudy.small import narrowed
from vitstudy.study import Cell

SMOKE = profiles.get("smoke")
STUDENTS = ("deit-base", "deit-tiny", "soft", "hard", "token-labels", "tiny-labels")
TOKEN = ("deit-base", "deit-tiny", "token-labels")


def cell(key, dataset="digits"):
    return Cell("smoke", dataset, key, 0)


def context(key, home, profile=SMOKE, **settings):
    return Context(
        profile=profile,
        data=data.load("digits", SMOKE.limit),
        seed=0,
        name="test",
        config=dataclasses.replace(methods.get(key).config, **settings),
        artifacts={name: cell(name).artifact_path for name in ("teacher", "vanilla")},
        checkpoints=home / "checkpoints",
    )


@pytest.mark.parametrize(
    ("key", "dataset"), smoke_study.cells(*STUDENTS, "teacher", "deit-base+dynamic")
)
def test_a_cell_of_each_row_is_made_and_recorded(in_smoke, key, dataset):
    record, method = study.read(cell(key, dataset)), methods.get(key)
    assert record.status == "done", record.error
    assert record.simulated is False
    assert method.options.items() <= record.options.items()
    assert set(record.parents) == {*method.parents, "vanilla"}
    assert study.why_not(cell(key, dataset)) is None
    model = models.load(cell(key, dataset).artifact_path)
    assert record.macs == measure.count_macs(model, 32, 1)
    if key in STUDENTS:
        vanilla = study.read(cell("vanilla", dataset))
        assert (record.steps, record.images_seen) == (vanilla.steps, vanilla.images_seen)


def test_records_count_what_the_formulas_say(in_smoke):
    tiny = narrowed(SMOKE.architecture, round(SMOKE.architecture.width * methods.SMALL["width"]))
    shapes = {"deit-base": SMOKE.architecture, "deit-tiny": tiny, "deit-base+dynamic": None}
    for key, shape in shapes.items():
        record, given = study.read(cell(key)), (shape or SMOKE.architecture, 10, 1)
        assert (record.parameters, record.macs) == (deit.parameters(*given), deit.macs(*given))
    for key in ("soft", "hard"):
        record, vanilla = study.read(cell(key)), study.read(cell("vanilla"))
        assert (record.parameters, record.macs) == (vanilla.parameters, vanilla.macs)


def test_a_cell_depends_on_what_of_the_profile_it_reads_and_on_no_more(in_smoke, monkeypatch):
    before = {key: study.why_not(cell(key)) for key in ("vanilla", "teacher", "deit-base")}
    assert set(before.values()) == {None}
    assert "teacher" not in study.read(cell("vanilla")).options
    assert study.read(cell("teacher")).options["teacher"]["channels"] == [16, 32, 64]
    other = dataclasses.replace(SMOKE, teacher=dataclasses.replace(SMOKE.teacher, steps=0.5))
    monkeypatch.setitem(profiles.PROFILES, "smoke", other)
    assert study.why_not(cell("vanilla")) is study.why_not(cell("token-labels")) is None
    assert study.why_not(cell("teacher")) == "its options changed"
    assert study.why_not(cell("deit-tiny")) == "teacher: its options changed"


def test_a_weight_of_0_gives_the_vanilla_model_itself(in_smoke, home):
    vanilla = load_file(cell("vanilla").artifact_path)
    for module, key in ((soft, "soft"), (deit, "hard")):
        model = module.compress(context(key, home / key, weight=0.0))
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, vanilla[name], msg=f"{key} {name}")


def test_the_teacher_changes_what_a_student_learns(in_smoke):
    vanilla = load_file(cell("vanilla").artifact_path)
    for key in ("soft", "hard"):
        found = load_file(cell(key).artifact_path)
        assert found.keys() == vanilla.keys()
        assert not torch.equal(found["head.weight"], vanilla["head.weight"])
    a, b = (load_file(cell(key).artifact_path) for key in ("deit-base", "token-labels"))
    assert a.keys() == b.keys() and not torch.equal(a["head_dist.weight"], b["head_dist.weight"])


@pytest.mark.parametrize("key", TOKEN)
def test_the_analysis_file_has_each_heads_logits_and_their_mean(in_smoke, key):
    with np.load(cell(key).analysis_path) as found:
        arrays = {name: found[name].astype(np.float32) for name in found}
    mean = (arrays["class_logits"] + arrays["token_logits"]) / 2
    np.testing.assert_allclose(arrays["logits"], mean, atol=1e-2)  # half precision
    model = models.load(cell(key).artifact_path)
    split = data.load("digits", SMOKE.limit).validation
    with torch.no_grad():
        tokens = model.forward_features(data.load("digits", SMOKE.limit).normalise(split.images))
        alone = model.head_dist(tokens[:, 1])
    np.testing.assert_allclose(arrays["token_logits"], alone.numpy(), atol=1e-2)


def test_what_the_distilled_model_has_more_is_named_in_its_record(in_smoke):
    assert set(study.read(cell("deit-base")).layers_touched) == {"dist_token", "head_dist"}
    assert {"head", "head_dist"} <= set(study.read(cell("deit-base+dynamic")).layers_touched)
    skipped = study.read(cell("deit-base+dynamic")).layers_skipped
    assert {"(model)", "norm"} <= {each["layer"] for each in skipped}


def test_a_finished_student_gives_one_answer_in_training_too(in_smoke, home):
    model = deit.compress(context("deit-base", home))
    assert not model.distilled_training


# What a user may get wrong


@pytest.mark.parametrize(
    ("key", "wrong", "said"),
    [
        ("soft", {"temperature": 0.0}, "the temperature τ is 0.0; valid: a finite number above 0"),
        ("soft", {"weight": 1.5}, "the weight λ of distillation is 1.5; valid: 0"),
        ("soft", {"expectation": "both"}, "expectation='both' is unknown; valid: 'student'"),
        ("hard", {"weight": -1.0}, "the weight λ of distillation is -1.0; valid: 0"),
        ("hard", {"target": "harder"}, "target='harder' is unknown; valid: 'none', 'labels'"),
    ],
)
def test_wrong_settings_are_one_line_and_leave_what_was_there(
    with_cells, monkeypatch, key, wrong, said
):
    with_cells("vanilla", "teacher", key)

    def spoilt(method):
        return dataclasses.replace(method, config=dataclasses.replace(method.config, **wrong))

    changed = [spoilt(each) if each.key == key else each for each in methods.VARIANTS]
    monkeypatch.setattr(methods, "VARIANTS", tuple(changed))
    before = cell(key).record_path.read_bytes()
    assert one_line(invoke("run", f"smoke/digits/{key}")).startswith(said)
    assert cell(key).record_path.read_bytes() == before


def test_what_is_of_pretrained_profiles_alone_is_refused_elsewhere(with_cells):
    with_cells("vanilla", "teacher")
    said = one_line(invoke("run", "smoke/digits/deit-again"))
    assert "the profile smoke starts from none; valid: profiles with pretrained weights" in said


# Pretrained profiles


def test_in_the_papers_setting_its_rows_need_no_teacher():
    def parents(profile, key):
        return {each.method for each in Cell(profile, "cifar10", key, 0).parents()}

    for key in ("deit-base", "deit-tiny"):
        assert parents("paper", key) == {"vanilla"}
        assert parents("cifar", key) == {"teacher", "vanilla"}
    for key in ("deit-again", "soft", "hard"):
        assert parents("paper", key) == {"teacher", "vanilla"}
    assert parents("paper", "deit-base+dynamic") == {"deit-base", "vanilla"}
    paper = {each.method for each in study.cells("paper", left_out=True)}
    assert "deit-again" in paper and "teacher" in paper
    assert not any("deit-again" == each.method for each in study.cells("cifar"))


def test_timms_distilled_models_are_fine_tuned_plainly_and_distilled_again_by_name(
    with_data, monkeypatch
):
    import timm

    paper, fitted = profiles.get("paper"), []
    original = timm.create_model(paper.distilled.tiny, num_classes=1000)
    (with_data / "weights").mkdir()
    weights = original.state_dict()
    save_file(weights, with_data / "weights" / f"{paper.distilled.tiny}.safetensors")
    monkeypatch.setenv("VITSTUDY_WEIGHTS", "weights")
    monkeypatch.setattr(deit, "TeacherLogits", lambda context: None)

    def fit(self, model, recipe=None, loss=None):
        fitted.append((model.distilled_training, loss))
        return model

    monkeypatch.setattr(Context, "fit", fit)
    for again in (False, True):
        given = context("deit-tiny", with_data, paper, again=again)
        given.data = dataclasses.replace(given.data, spec=data.spec("cifar10"))
        model = deit.compress(given)
        found = model.state_dict()
        assert all(
            torch.equal(found[name], tensor)
            for name, tensor in weights.items()
            if not name.startswith("head")
        )
        assert model.head_dist.weight.shape == (10, 192)
    plainly, taught = fitted
    assert plainly == (False, None)
    assert taught[0] is True and taught[1] is not None
