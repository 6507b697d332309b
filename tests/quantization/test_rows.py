"""The rows of the quantization papers in the study: cells, records, files, controls."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import smoke_study
import torch
from commands import invoke, one_line
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from vitstudy import data, files, finetuning, measure, methods, models, narrow, profiles, study
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.quantization import diffq, fq_vit, lsq
from vitstudy.quantization.packing import payload_size
from vitstudy.report import sweep, tables
from vitstudy.study import Cell

SMOKE = profiles.get("smoke")
QUANTIZED = (
    *("fq-vit", "fq-vit-minmax", "fq-vit-w6m3-ptf"),
    *("lsq-w4", "lsq-w8", "lsq-w4a4", "rounded-w4", "rounded-w4-mse"),
    *("diffq", "diffq-finetuned", "diffq-gaussian"),
)
CONTROLS = ("continued", "small", "small-as-diffq", "small-as-diffq-finetuned")
WEIGHTS = [
    *("patch_embed.layers.0", "patch_embed.layers.3", "patch_embed.layers.6"),
    *(f"blocks.{n}.{kind}" for n in (0, 1) for kind in ("attn.qkv", "attn.proj")),
    *(f"blocks.{n}.{kind}" for n in (0, 1) for kind in ("mlp.fc1", "mlp.fc2")),
    "head",
]


def cell(key, dataset="digits"):
    return Cell("smoke", dataset, key, 0)


def context(key, home, **options):
    return Context(
        profile=SMOKE,
        data=data.load("digits", SMOKE.limit),
        seed=0,
        name="test",
        options={**methods.get(key).options, **options},
        artifacts={name: cell(name).artifact_path for name in ("vanilla", "diffq")},
        checkpoints=home / "checkpoints",
    )


@pytest.mark.parametrize(("key", "dataset"), smoke_study.cells(*QUANTIZED, *CONTROLS))
def test_a_cell_of_each_row_is_made_and_recorded(in_smoke, key, dataset):
    record, method = study.read(cell(key, dataset)), methods.get(key)
    assert record.status == "done", record.error
    assert record.simulated is (key in QUANTIZED)
    assert record.activation_bits == method.activation_bits
    assert record.options["recipe"] and method.options.items() <= record.options.items()
    assert set(record.parents) == {*method.parents, "vanilla"}
    assert record.macs == measure.count_macs(models.load(cell(key, dataset).artifact_path), 32, 1)
    assert study.why_not(cell(key, dataset)) is None


@pytest.mark.parametrize("key", QUANTIZED)
def test_the_record_is_of_the_file_and_the_file_gives_the_same_logits_again(
    in_smoke, home, key, tmp_path
):
    path, images = cell(key).artifact_path, data.load("digits", SMOKE.limit)
    model, again = models.load(path), tmp_path / "again.safetensors"
    models.save(model, again, methods.get(key).packer)
    same = context(key, home).evaluate(models.load(again), images.test)
    logits = context(key, home).evaluate(model, images.test)
    assert torch.equal(logits, same)
    predicted = study.predictions(cell(key))["classes"][:, 0]
    assert (logits.argmax(1).numpy() == predicted).all()


@pytest.mark.parametrize(
    ("module", "key"), [(fq_vit, "fq-vit"), (lsq, "lsq-w4a4"), (diffq, "diffq-finetuned")]
)
def test_what_is_made_and_what_is_reloaded_give_the_same_logits(
    in_smoke, home, module, key, tmp_path
):
    given = context(key, home)
    made = module.compress(given).eval()
    models.save(made, tmp_path / "model", methods.get(key).packer)
    loaded = models.load(tmp_path / "model")
    test = given.data.test
    assert torch.equal(given.evaluate(made, test), given.evaluate(loaded, test))


@pytest.mark.parametrize("key", QUANTIZED)
def test_every_parameter_is_of_a_layer_touched_or_skipped_with_a_reason(in_smoke, key):
    record = study.read(cell(key))
    touched = set(record.layers_touched)
    skipped = {each["layer"]: each for each in record.layers_skipped}
    assert len(touched) == len(record.layers_touched)
    assert len(skipped) == len(record.layers_skipped) and not touched & set(skipped)
    assert all(each["reason"] and each["type"] for each in skipped.values())
    folder = "diffq" if key == "diffq" else "vanilla"
    for name, _ in models.load(cell(folder).artifact_path).named_parameters():
        assert {name, name.rpartition(".")[0]} & (touched | set(skipped)), name


def test_fq_vit_leaves_nothing_in_float_and_looks_at_the_calibration_split_alone(in_smoke, home):
    assert study.read(cell("fq-vit")).layers_skipped == []
    given = context("fq-vit", home)
    model = fq_vit.compress(given)
    for split in (given.data.train, given.data.validation, given.data.test):
        split.images[:] = 0  # a copy in memory only: the map is opened for this process
    again = fq_vit.compress(given)
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("ending", ["-minmax", "-ptf", "-lis", ""])
@pytest.mark.parametrize("widths", ["fq-vit", "fq-vit-w6m3"])
def test_the_table_of_four_is_of_both_remedies_one_by_one_at_the_same_bits(
    in_smoke, widths, ending
):
    """Each model quantizes what its options say, and its analysis is of what it quantizes."""
    key, options = f"{widths}{ending}", methods.get(f"{widths}{ending}").options
    model, record = models.load(cell(key).artifact_path), study.read(cell(key))
    assert options["power_of_two"] is (ending in ("-ptf", ""))
    assert options["log_int_softmax"] is (ending in ("-lis", ""))
    for name in ("bits", "attention_bits"):
        assert options[name] == methods.get(widths).options[name]
    assert record.weight_bits == record.activation_bits == options["bits"]
    for block in model.blocks:
        assert block.attn.log_int is options["log_int_softmax"]
        assert block.attn.attention_bits == options["attention_bits"]
    with np.load(cell(key).analysis_path) as found:
        scale = found["norm_scale__norm"]
        assert np.array_equal(scale, model.norm.input_quantizer.scale)
        assert scale.shape == ((SMOKE.architecture.width,) if options["power_of_two"] else ())
        assert 0 <= found["agreement"] <= 1 and found["validation_images"] == SMOKE.limit[2]
        # Calibration and Figure 1 are the row's own: a variant does not repeat them.
        assert ("calibration_sizes" in found) is (key == "fq-vit")
        assert ("attention__vanilla" in found) is (key == "fq-vit")


def test_calibration_is_drawn_from_half_of_its_split_and_judged_on_validation(in_smoke, home):
    with np.load(cell("fq-vit").analysis_path) as found:
        before = {name: found[name] for name in found if name.startswith("calibration_")}
        accuracy = found["validation_accuracy"]
    draws = methods.get("fq-vit").options["calibration_draws"]
    assert before["calibration_sizes"].tolist() == [SMOKE.limit[1] // 2]
    assert before["calibration_validation_accuracy"].shape == (1, draws)
    assert len(np.unique(before["calibration_logit_sqnr"])) == draws
    given = context("fq-vit", home)
    model = models.load(cell("fq-vit").artifact_path)
    given.data.test.images[:] = 0
    again = fq_vit.analyse(given, model)
    assert all(np.array_equal(again[name], values) for name, values in before.items())
    predicted = given.evaluate(model, given.data.validation).argmax(1)
    assert accuracy == (predicted == given.data.validation.labels).double().mean()


def test_the_lsq_file_is_four_bits_a_weight_and_the_rest_of_the_float_file(in_smoke):
    for key, bits in (("lsq-w4", 4), ("lsq-w8", 8), ("rounded-w4", 4)):
        dense = load_file(cell("vanilla").artifact_path)
        packed = {f"{name}.weight" for name in WEIGHTS}
        weights = sum(dense[name].numel() for name in packed)
        rest = sum(tensor.nbytes for name, tensor in dense.items() if name not in packed)
        steps = 2 * 4 * len(packed)
        expected = weights * bits // 8 + rest + steps
        assert payload_size(cell(key).artifact_path) == expected
        assert set(study.read(cell(key)).layers_touched) == set(WEIGHTS)


def test_the_control_by_plain_rounding_is_not_trained_and_half_a_step_off_at_most(in_smoke):
    assert study.read(cell("rounded-w4")).steps == 0
    dense = models.load(cell("vanilla").artifact_path)
    rounded = models.load(cell("rounded-w4").artifact_path)
    for name in WEIGHTS:
        before, layer = dense.get_submodule(name).weight, rounded.get_submodule(name)
        # The step reaches the largest weight: 2^4 - 1 steps from -max to max.
        torch.testing.assert_close(layer.weight_step, before.abs().max() / 7.5)
        # 7.5 rounds to 8, which signed 4 bits do not reach: even the largest is half a step off.
        assert (layer.weight - before).abs().max() <= layer.weight_step * 0.5001


def test_the_controls_train_for_the_steps_of_what_they_control(in_smoke):
    steps = {key: study.read(cell(key)).steps for key in (*QUANTIZED, *CONTROLS)}
    assert steps["continued"] == steps["lsq-w4"] == steps["diffq-finetuned"] == 3
    assert steps["small"] == steps["small-as-diffq"] == steps["diffq"] == 30


def test_learned_bits_are_counted_in_the_file(in_smoke):
    for key in ("diffq", "diffq-finetuned"):
        model, record = models.load(cell(key).artifact_path), study.read(cell(key))
        levels = sum(levels.numel() for levels, _, _ in model.diffq.values())
        in_groups = sum((8 * bits).sum().item() for _, bits, _ in model.diffq.values())
        assert record.weight_bits == pytest.approx(in_groups / levels, abs=1e-4)
        assert 2 <= record.weight_bits <= 15


def test_parameters_are_counted_though_they_are_integers(in_smoke):
    dense = study.read(cell("vanilla")).parameters
    batch_norms = sum(channels for channels, _, _ in SMOKE.architecture.stem)
    assert study.read(cell("fq-vit")).parameters == dense - batch_norms  # scale and shift: a bias
    assert study.read(cell("lsq-w4")).parameters == dense + len(WEIGHTS)  # a step a layer


def test_small_networks_are_narrower_and_of_as_many_bytes(in_smoke, home):
    given = context("diffq", home)
    assert models.load(cell("small").artifact_path).embed_dim == SMOKE.architecture.width // 4
    size = payload_size(cell("diffq").artifact_path)
    width = narrow.width_for_bytes(given, size)
    model = models.load(cell("small-as-diffq").artifact_path)
    assert model.embed_dim == width
    assert 4 * measure.count_parameters(model) <= size
    wider = narrow.build(given, width + 1)
    assert 4 * measure.count_parameters(wider) > size
    assert narrow.width_for_bytes(given, 1) == 1
    assert narrow.narrowed(SMOKE.architecture, SMOKE.architecture.width) == SMOKE.architecture


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_has_a_small_network_and_a_fine_tuning(name):
    profile = profiles.get(name)
    width = round(profile.architecture.width * methods.SMALL["width"])
    model = models.build(narrow.narrowed(profile.architecture, width), 10, 3)
    attention = model.blocks[0].attn
    assert model.embed_dim == attention.head_dim * attention.num_heads == width
    named = SimpleNamespace(spec=SimpleNamespace(name=profile.datasets[0]))
    given = Context(profile, named, 0, "test", methods.FINE_TUNING, {}, files.root())
    recipe, whole = finetuning.recipe(given), profile.recipes[0]
    assert recipe.steps == max(1, round(whole.steps / 10))
    pretrained = bool(profile.architecture.timm_name)
    assert (recipe.learning_rate == whole.learning_rate) is pretrained
    assert finetuning.rate_to_travel(1.0, recipe) * recipe.learning_rate * recipe.steps == 2


def test_a_faster_step_moves_no_step(in_smoke):
    dense = models.load(cell("vanilla").artifact_path)
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    model, _ = lsq.prepare(dense, 4, 4, images=images)
    before = model.eval()(images)
    lsq.set_step_rate(model, 37.0)
    assert torch.equal(model(images), before)
    assert model.head.weight_ratio.item() == 1 / 32
    assert model.head.input_ratio.item() == 1 / 32


@pytest.mark.parametrize("key", ["fq-vit", "lsq-w4", "diffq"])
@pytest.mark.parametrize("harm", ["short", "absent", "layout", "architecture"])
def test_a_file_that_does_not_fit_its_header_is_one_line(in_smoke, tmp_path, key, harm):
    path = cell(key).artifact_path
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["vitstudy"])
    name = "blocks.0.attn.qkv.weight"
    if harm == "short":
        tensors[name] = tensors[name][:-1]
    elif harm == "absent":
        tensors.pop("norm.bias" if key != "fq-vit" else "norm.norm.bias")
    elif harm == "layout":
        header["packed"][name] = {}
    else:
        header["architecture"]["depth"] = 1
    harmed = tmp_path / "model.safetensors"
    harmed.write_bytes(to_bytes(tensors, {"vitstudy": json.dumps(header)}))
    with pytest.raises(UserError, match="does not hold what its header says") as raised:
        models.load(harmed)
    assert "\n" not in str(raised.value)


def test_a_profile_computes_what_it_leaves_out_only_by_name(with_cells):
    with_cells("vanilla")
    assert cell("lsq-w2a2") not in study.cells("smoke")
    assert study.select(["smoke/digits/lsq-w2a2"]) == [cell("lsq-w2a2")]
    assert cell("lsq-w2a2") not in study.select(["smoke/digits/lsq*"])
    done = invoke("run", "smoke/digits/lsq-w2a2")
    assert done.code == 0 and study.read(cell("lsq-w2a2")).weight_bits == 2
    assert "lsq-w2a2" in one_line(invoke("run", "smoke/digits/lsq-w1"))


def test_tables_show_variants_and_controls_apart_from_the_papers_rows(smoke):
    assert list(tables.table("smoke", 1)["key"]) == [row.key for row in methods.METHODS]
    frame = tables.beneath("smoke", 1).set_index("key")
    shown = methods.computed(SMOKE.tiers) | {key for key, _ in smoke_study.cells("lsq-w8", "hard")}
    keys = [each.key for each in methods.VARIANTS if each.key in shown]
    assert [key for key in frame.index if key in shown] == keys
    assert frame.at["lsq-w8", "weight_bits"] == 8 and frame.at["lsq-w8", "beneath"] == "lsq-w4"
    assert "lsq-w2a2" not in frame.index
    assert frame["accuracy_published"].isna().all()
    tables.write("smoke")
    page = (files.results("smoke") / "tables/table1.md").read_text()
    assert "| DIFFQ with LSQ | LSQ, W8 | [" in page
    assert "lsq-w2a2" in page.partition("Computed by name only")[2]


def analysis(key):
    with np.load(cell(key).analysis_path, allow_pickle=False) as found:
        return dict(found)


def test_the_analysis_of_lsq_tells_the_steps_and_what_they_clip(in_smoke):
    model, found = models.load(cell("lsq-w4").artifact_path), analysis("lsq-w4")
    dense, kinds = models.load(cell("vanilla").artifact_path), (torch.nn.Linear, torch.nn.Conv2d)
    assert list(found["layers"]) == [n for n, m in dense.named_modules() if isinstance(m, kinds)]
    layer = model.get_submodule(str(found["layers"][2]))
    codes = layer.codes()
    outermost = ((codes == -8) | (codes == 7)).float().mean()
    assert found["clipped"][2] == pytest.approx(float(outermost))
    untrained = analysis("rounded-w4")
    assert untrained["step"] == pytest.approx(np.ones(len(untrained["step"])))


@pytest.mark.parametrize("key", ["diffq", "diffq-finetuned", "diffq-gaussian"])
def test_the_analysis_of_diffq_tells_its_size_twice_and_its_bits(in_smoke, key):
    model, found = models.load(cell(key).artifact_path), analysis(key)
    bits = torch.cat([whole for _, whole, _ in model.diffq.values()])
    assert found["groups"].sum() == len(bits)
    mean = (found["groups"].sum(0) * np.arange(1, 16)).sum() / len(bits)
    assert study.read(cell(key)).weight_bits == pytest.approx(mean, abs=1e-4)
    # The network of the tests has so few weights that a byte a tensor of rounding up shows.
    assert found["payload_bytes"] == pytest.approx(int(found["formula_bytes"]), rel=0.02)
    assert found["payload_bytes"] < payload_size(cell(key).artifact_path)


def test_gaussian_noise_is_a_variant_that_differs_in_its_noise_alone():
    uniform, gaussian = methods.get("diffq-finetuned"), methods.get("diffq-gaussian")
    assert gaussian.options == {**uniform.options, "noise": "gaussian"}


def test_every_point_of_the_sweep_is_a_method_and_has_its_family():
    keys = [key for family in sweep.FAMILIES.values() for key in family]
    assert len(set(keys)) == len(keys)
    assert {method.key for method in methods.SWEEP} < set(keys)
    for key in keys:
        assert methods.get(key).key == key


@pytest.mark.parametrize("key", ["rounded-w3", "fq-vit-w2a2", "lsq-w3", "diffq-p10"])
def test_a_point_of_the_sweep_is_computed_by_name(with_cells, key):
    with_cells("vanilla", "rounded-w4")
    record = study.run(cell(key))
    assert record.status == "done" and record.simulated
    if key != "diffq-p10":
        assert record.weight_bits == int(key[-1])
        assert record.size_bytes < study.read(cell("rounded-w4")).size_bytes
