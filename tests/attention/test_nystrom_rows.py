"""The rows of Nyström attention in the study: cells, records, controls, what users get wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import invoke, one_line

from vitstudy import data, formulas, methods, models, profiles, study
from vitstudy.attention import nystrom, spectrum
from vitstudy.attention import replace as attention
from vitstudy.study import Cell

SMOKE = profiles.get("smoke")
ROWS = ("nystrom-m24", "nystrom-m32", "nystrom-m64")
DROP_INS = tuple(
    method.key for row in ROWS for method in methods.beneath(row) if method.key != "nystrom-all"
)
TOKENS = 65


def cell(key, dataset="digits"):
    return Cell("smoke", dataset, key, 0)


def load(key):
    return models.load(cell(key).artifact_path)


def analysis(key):
    with np.load(cell(key).analysis_path, allow_pickle=False) as content:
        return dict(content)


@pytest.fixture(scope="module")
def home(smoke_home):
    """These tests read the study alone, so one copy of it serves them all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITSTUDY_HOME", str(smoke_home))
        yield smoke_home


@pytest.fixture(autouse=True)
def where(home, monkeypatch):
    monkeypatch.setenv("VITSTUDY_HOME", str(home))


@pytest.mark.parametrize("dataset", SMOKE.datasets)
@pytest.mark.parametrize("key", [*ROWS, *DROP_INS, "nystrom-all"])
def test_a_cell_of_each_row_is_made_and_recorded(key, dataset):
    record, dense = study.read(cell(key, dataset)), study.read(cell("vanilla", dataset))
    assert record.status == "done", record.error
    assert not record.simulated and record.parameters == dense.parameters
    assert record.layers_touched == ["blocks.0.attn", "blocks.1.attn"]
    assert study.why_not(cell(key, dataset)) is None
    number = record.options["num_landmarks"] or TOKENS
    shape = SMOKE.architecture
    layer = nystrom.nystrom_macs(TOKENS, number, shape.width, shape.heads, nystrom.ITERATIONS)
    assert record.macs == dense.macs + shape.depth * (layer - 2 * TOKENS**2 * shape.width)


def test_a_drop_in_has_the_baselines_weights_and_a_row_has_not():
    dense = load("vanilla").state_dict()
    for key in (*DROP_INS, "nystrom-all"):
        state = load(key).state_dict()
        assert all(torch.equal(tensor, dense[name]) for name, tensor in state.items())
        assert study.read(cell(key)).steps == 0
    for key in ROWS:
        state = load(key).state_dict()
        assert not torch.equal(state["blocks.0.attn.qkv.weight"], dense["blocks.0.attn.qkv.weight"])
        assert study.read(cell(key)).steps == study.read(cell("continued")).steps > 0


def test_every_token_a_landmark_answers_as_the_baseline_does():
    for dataset in SMOKE.datasets:
        record = study.read(cell("nystrom-all", dataset))
        assert record.flips == 0
        found, base = (study.predictions(cell(key, dataset)) for key in ("nystrom-all", "vanilla"))
        assert (found["probabilities"] == base["probabilities"]).all()
        assert record.accuracy == study.read(cell("vanilla", dataset)).accuracy


def test_the_class_token_is_a_landmark_of_its_own_where_the_row_says_so():
    assert load("nystrom-m8-class-dropin").blocks[0].attn.attend.mechanism.own(1) == 1
    assert load("nystrom-m8-dropin").blocks[0].attn.attend.mechanism.own(1) == 0


def test_what_a_row_left_of_its_error_is_that_of_its_own_matrices():
    images = data.load("digits", SMOKE.limit)
    x = images.normalise(images.calibration.head(nystrom.ANALYSED).images, 32)
    model = load("nystrom-m24")
    q, k, _ = model.blocks[0].attn.heads(model.blocks[0].norm1(_embedded(model, x)))
    scale = SMOKE.architecture.width // SMOKE.architecture.heads
    exact = (q @ k.mT * scale**-0.5).softmax(-1)
    eye = torch.eye(TOKENS).expand_as(exact)
    approximated = nystrom.nystrom_attention(q, k, eye, 24)
    error = ((approximated - exact).norm(dim=(-2, -1)) / exact.norm(dim=(-2, -1))).mean()
    found = analysis("nystrom-m24")
    assert found["error"].shape == found["residual"].shape == (2,)
    assert found["error"][0] == pytest.approx(error.item(), rel=1e-3)


def _embedded(model, images):
    with torch.no_grad():
        return model._pos_embed(model.patch_embed(images))


def test_what_the_control_left_holds_together():
    found = analysis("nystrom-all")
    numbers = found["landmarks"].tolist()
    assert numbers[0] == 1 and numbers[-1] == TOKENS and {24, 32, 64} <= set(numbers)
    layers, count = 2, len(numbers)
    for name in ("error", "error_exact", "error_class"):
        assert found[name].shape == (layers, count)
        assert (found[name][:, -1] < 1e-6).all()  # m = n
    assert np.isnan(found["error_class"][:, 0]).all()
    assert found["singular_values"].shape == (layers, TOKENS)
    assert (found["singular_values"][:, 0] == 1).all()
    assert (np.diff(found["singular_values"]) <= 0).all()
    assert found["residual"].shape == (layers, count, spectrum.ITERATIONS + 1)
    assert found["best_error"].shape == (layers, TOKENS + 1)
    assert (found["best_error"][:, 0] == 1).all() and (found["best_error"][:, -1] == 0).all()
    # no approximation of rank m is better than the best one
    for position, number in enumerate(numbers[:-1]):
        best = found["best_error"][:, number] - 1e-6
        assert (found["error"][:, position] >= best).all()
        assert (found["error_exact"][:, position] >= best).all()
    assert found["image"].shape == (1, 32, 32) and found["shown_q"].shape == (2, TOKENS, 16)


def test_every_profile_has_more_tokens_than_the_papers_landmarks():
    for profile in profiles.PROFILES.values():
        with torch.device("meta"):
            model = models.build(replace(profile.architecture, depth=1), 10, 3)
        assert attention.num_tokens(model) > 64
        assert formulas.vit_macs(profile.architecture, 10, 3) > 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"num_landmarks": 66}, "num_landmarks is 66, and an image has 65 tokens here; valid: 1"),
        ({"num_landmarks": 0}, "num_landmarks is 0, and an image has 65 tokens here; valid: 1 to"),
        ({"class_token": "last"}, "unknown class_token 'last'; valid: segment, own"),
        ({"again": True}, "blocks.0.attn attends by Nyström attention already"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_one_line_on_the_command_line(
    smoke_home, tmp_path, monkeypatch, given, told
):
    import shutil

    home = shutil.copytree(smoke_home, tmp_path / "home")
    monkeypatch.setenv("VITSTUDY_HOME", str(home))
    row = methods.get("nystrom-m24")
    if given.pop("again", False):  # a model whose attention is not softmax any more
        changed = replace(row, parents=("nystrom-m32-dropin",))
    else:
        changed = replace(row, config=replace(row.config, **given))
    rows = [changed if each.key == row.key else each for each in methods.METHODS]
    monkeypatch.setattr(methods, "METHODS", tuple(rows))
    before = cell("nystrom-m24").record_path.read_bytes()
    assert told in one_line(invoke("run", "smoke/digits/nystrom-m24"))
    assert cell("nystrom-m24").record_path.read_bytes() == before
