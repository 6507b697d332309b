"""The rows of pruning in the study: cells, budgets, files, analysis, bad input."""

from dataclasses import replace

import numpy as np
import pytest
import smoke_study
import torch
import torch.nn.functional as F
from commands import invoke, one_line
from safetensors.torch import load_file

from vitstudy import data, measure, methods, models, profiles, study
from vitstudy.pruning import cut, gates, slim
from vitstudy.study import Cell

SMOKE = profiles.get("smoke")
PAIRS = {each.key for each in methods.COMBINED}  # they start from other models than vanilla
ROWS = [
    each
    for each in methods.available()
    if each.module.startswith("vitstudy.pruning") and each.key not in PAIRS
]
HERE = [
    key for key, dataset in smoke_study.cells(*(each.key for each in ROWS)) if dataset == "digits"
]
CUT = [key for key in HERE if methods.get(key).module == "vitstudy.pruning.cut"]
SLIM = [key for key in HERE if "-r0." in key]


def cell(key, dataset="digits"):
    return Cell("smoke", dataset, key, 0)


def analysis(key):
    with np.load(cell(key).analysis_path, allow_pickle=False) as found:
        return dict(found)


def test_the_papers_rows_and_their_scores_and_controls_are_there():
    keys = {each.key for each in ROWS}
    for r in ("r0.1", "r0.2"):
        for score in ("vtp", "taylor", "kl", "magnitude", "random"):
            assert {f"{score}-{r}", f"{score}-{r}-cut"} <= keys
            assert methods.get(f"{score}-{r}-cut").options["r"] == float(r[1:])
            assert methods.get(f"{score}-{r}").parents == (f"{score}-{r}-cut",)
    scores = {each.options["score"] for each in ROWS if "score" in each.options}
    assert scores == set(cut.SCORES)


@pytest.mark.parametrize(("key", "dataset"), smoke_study.cells(*HERE, "continued-twice"))
def test_a_cell_of_each_row_is_made_and_recorded(in_smoke, key, dataset):
    record, path = study.read(cell(key, dataset)), cell(key, dataset).artifact_path
    assert record.status == "done", record.error
    assert not record.simulated and record.weight_bits == 32
    assert record.macs == measure.count_macs(models.load(path), 32, 1)
    assert record.parameters == measure.count_parameters(models.load(path))
    assert study.why_not(cell(key, dataset)) is None


def total_steps(key):
    """Steps from the baseline on, over all that a row starts from."""
    if key == "vanilla":
        return 0
    method = methods.get(key)
    return study.read(cell(key)).steps + total_steps(method.parents[0])


def test_every_row_and_its_controls_train_as_long(in_smoke):
    tuned = [key for key in SLIM if not key.endswith("-cut")]
    assert {total_steps(key) for key in [*tuned, "continued-twice"]} == {6}
    assert {total_steps(key) for key in [*CUT, "vtp-gates", "vtp-gates-slow", "continued"]} == {3}
    assert all(study.read(cell(key)).steps == 0 for key in CUT)


@pytest.mark.parametrize("key", SLIM)
def test_r_of_the_parameters_are_gone_and_the_file_is_as_much_smaller(in_smoke, key):
    r = 0.1 if "r0.1" in key else 0.2
    dense, record = study.read(cell("vanilla")), study.read(cell(key))
    share = 1 - record.parameters / dense.parameters
    head = 3 * 16 * 33 + 16 * 32  # the largest unit there is
    assert r <= share <= r + head / dense.parameters
    if "kl" not in key and "skip" not in key:
        assert share <= r + slim.SLACK
    # the header of a few KB aside, which weighs nothing in a file of MB
    sizes = [
        sum(tensor.nbytes for tensor in load_file(cell(each).artifact_path).values())
        for each in (key, "vanilla")
    ]
    assert 1 - sizes[0] / sizes[1] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("key", CUT)
def test_what_is_cut_gives_the_logits_of_its_parent_with_hard_gates(in_smoke, key):
    found, parent = analysis(key), models.load(cell(methods.get(key).parents[0]).artifact_path)
    whole, small = cut.before_the_cut(parent).double().eval(), models.load(cell(key).artifact_path)
    masks = slim.full(slim.shape_of(whole))
    for block, kind in {*zip(found["block"].tolist(), found["kind"].tolist(), strict=True)}:
        name = f"blocks.{block}.{slim.KINDS[kind]}"
        stays = found["stays"][(found["block"] == block) & (found["kind"] == kind)]
        masks[name] = torch.from_numpy(stays).repeat_interleave(len(masks[name]) // len(stays))
    images = data.load("digits", SMOKE.limit)
    images = images.normalise(images.validation.images[:8]).double()
    with torch.no_grad():
        wanted = gates.masked(whole, masks)(images)
        assert (small.double()(images) - wanted).abs().max() < 1e-10
        assert (whole(images) - wanted).abs().max() > 1e-6


def test_gates_and_weights_were_trained_together(in_smoke):
    before, after = (models.load(cell(key).artifact_path) for key in ("vanilla", "vtp-gates"))
    assert not torch.equal(before.blocks[0].mlp.fc1.weight, after.blocks[0].mlp.fc1.weight)
    fast, slow = (
        torch.cat(list(gates.scores(models.load(cell(key).artifact_path)).values()))
        for key in ("vtp-gates", "vtp-gates-slow")
    )
    assert (fast - 1).abs().median() > 10 * (slow - 1).abs().median() > 0


@pytest.mark.parametrize("key", CUT)
def test_every_parameter_is_of_a_layer_touched_or_skipped_with_a_reason(in_smoke, key):
    record = study.read(cell(key))
    touched = set(record.layers_touched)
    skipped = {each["layer"]: each for each in record.layers_skipped}
    assert touched and not touched & set(skipped)
    assert all(each["reason"] and each["type"] for each in skipped.values())
    for name, _ in models.load(cell("vanilla").artifact_path).named_parameters():
        assert {name, name.rpartition(".")[0]} & (touched | set(skipped)), name
    dense, small = (models.load(cell(k).artifact_path) for k in ("vanilla", key))
    for name, module in dense.named_modules():
        if isinstance(module, torch.nn.Linear):
            fewer = module.weight.shape != small.get_submodule(name).weight.shape
            assert fewer is (name in touched), name


@pytest.mark.parametrize("key", ["vtp-r0.2-cut", "kl-r0.2-cut"])
def test_the_analysis_holds_scores_and_the_losses_of_eq_6(in_smoke, key):
    found, images = analysis(key), data.load("digits", SMOKE.limit)
    images = images.normalise(images.calibration.images), images.calibration.labels
    model = models.load(cell(key).artifact_path)
    with torch.no_grad():
        after = F.cross_entropy(model(images[0]), images[1]).item()
    assert found["loss_after"] == pytest.approx(after, abs=1e-5)
    assert found["delta_layers"].shape == (2, 2) and np.isfinite(found["delta_layers"]).all()
    units = [found[name] for name in ("score", "block", "kind", "parameters", "stays")]
    assert len({len(each) for each in units}) == 1
    assert not found["stays"].all() and (found["parameters"] > 0).all()
    if key == "vtp-r0.2-cut":  # every dimension is a unit: none of those that go scores higher
        free = found["kind"] != slim.KINDS.index("query_key")
        gone = found["score"][free & ~found["stays"]]
        best = [
            found["score"][(found["block"] == block) & (found["kind"] == kind)].max()
            for block in range(2)
            for kind in range(len(slim.KINDS))
        ]
        stays = found["score"][free & found["stays"] & ~np.isin(found["score"], best)]
        assert gone.max() <= stays.min()


def test_the_analysis_of_what_is_tuned_is_its_loss(in_smoke):
    found, images = analysis("vtp-r0.2"), data.load("digits", SMOKE.limit)
    model = models.load(cell("vtp-r0.2").artifact_path)
    with torch.no_grad():
        logits = model(images.normalise(images.calibration.images))
    loss = F.cross_entropy(logits, images.calibration.labels).item()
    assert found["loss"] == pytest.approx(loss, abs=1e-5)


def test_the_skip_dimension_model_scores_blocks_too(in_smoke):
    found = analysis("skip-r0.2")
    assert (found["kind"] == len(slim.KINDS)).sum() == 2
    assert found["parameters"][found["kind"] == len(slim.KINDS)].min() > 3 * 32 * 32


def test_the_scores_stay_of_no_use_once_the_cell_is_done(in_smoke):
    assert not cell("kl-r0.2-cut").checkpoints.exists()


@pytest.mark.parametrize(
    ("key", "settings", "told"),
    [
        ("random-r0.2-cut", {"r": 0.95}, "r=0.95 would empty a layer"),
        ("random-r0.2-cut", {"r": 1.5}, "r=1.5 is no share of the parameters"),
        ("random-r0.2-cut", {"score": "taste"}, "unknown score 'taste'; valid: gate, taylor, kl"),
        ("kl-r0.2-cut", {"groups": 7}, "7 groups do not divide the 64 hidden dimensions"),
    ],
)
def test_bad_settings_end_the_run_with_one_line(with_cells, monkeypatch, key, settings, told):
    with_cells("vanilla", "vtp-gates")
    changed = [
        replace(each, config=replace(each.config, **settings)) if each.key == key else each
        for each in methods.VARIANTS
    ]
    monkeypatch.setattr(methods, "VARIANTS", tuple(changed))
    assert told in one_line(invoke("run", f"smoke/digits/{key}"))


def test_a_model_without_the_attention_that_is_cut_ends_the_run_with_one_line(
    with_cells, monkeypatch
):
    with_cells("vanilla", "vtp-gates", "vtp-r0.2-cut", "vtp-r0.2")
    changed = [
        replace(each, parents=("vtp-r0.2",)) if each.key == "random-r0.2-cut" else each
        for each in methods.VARIANTS
    ]
    monkeypatch.setattr(methods, "VARIANTS", tuple(changed))
    told = one_line(invoke("run", "smoke/digits/random-r0.2-cut"))
    assert "blocks.0.attn is SlimAttention: only timm's plain Attention can be pruned" in told
