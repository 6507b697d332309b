"""Real engines: ONNX Runtime and torchao give the study's numbers, and are not missed if absent."""

import json
import logging
import sys
import warnings

import jsonschema
import numpy as np
import pytest
import smoke_study
import torch
from commands import invoke, one_line
from safetensors.torch import save as to_bytes
from torch import nn

from vitstudy import files, formulas, measure, methods, models, profiles, study
from vitstudy.configs import Config
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.methods import method
from vitstudy.quantization import dynamic, lsq, onnx_four_bits, onnx_runtime, torchao_int8
from vitstudy.report import tables
from vitstudy.study import Cell, staleness
from vitstudy.study.cell import check_installed

SMOKE = profiles.get("smoke")
ENGINES = [each for each in methods.VARIANTS if each.requires]
KEYS = [each.key for each in ENGINES]
LINEAR = [
    *(f"blocks.0.{kind}" for kind in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")),
    "head",
]
STEM = [f"patch_embed.layers.{n}" for n in (0, 3)]


@pytest.fixture(scope="module")
def dense():
    """Width 24 fills no block of 4-bit weights; BatchNorm with gains of both signs."""
    architecture = profiles.Architecture(
        width=24, depth=1, heads=2, mlp_ratio=2, image_size=16, stem=((8, 3, 2), (24, 3, 2))
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(architecture, 5, 3).eval()
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                nn.init.normal_(module.weight, 0, 1)
                nn.init.normal_(module.bias, 0, 0.3)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.2)
                nn.init.normal_(module.bias, 0, 0.2)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.randn(7, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def exported(dense) -> bytes:
    return onnx_runtime.export(dense)


@pytest.fixture(scope="module")
def learned(dense):
    """An LSQ model of 4-bit weights whose steps are not those it started from."""
    model = lsq.prepare(dense, 4)[0].eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight_ratio"):
                parameter.mul_(-1.1)  # an optimizer may carry it through zero
    model.description = dense.description
    return model


@pytest.fixture(scope="module")
def four_bits(learned) -> bytes:
    return onnx_four_bits.convert(learned)


def graph_of(content):
    return onnx_runtime.engine("onnx").load_from_string(content).graph


def constants(content):
    to_array = onnx_runtime.engine("onnx").numpy_helper.to_array
    return {each.name: to_array(each) for each in graph_of(content).initializer}


def far(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


# -- the float file: the identity -----------------------------------------------------------------


def test_the_exported_model_gives_the_baselines_logits_for_any_batch(dense, exported, images):
    model = onnx_runtime.run(exported, dense)
    with torch.inference_mode():
        for count in (1, 2, 7):
            assert far(model(images[:count]), dense(images[:count])) < 1e-5


def test_exporting_and_quantizing_change_nothing_around_them(dense, exported, capfd):
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    handlers, disabled = logging.root.handlers[:], logging.root.manager.disable
    state = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        assert onnx_runtime.export(dense) == exported  # the same bytes each time
        onnx_runtime.quantize(exported)
    assert [str(each.message) for each in raised] == []
    assert capfd.readouterr() == ("", "")
    assert (logging.root.handlers, logging.root.manager.disable) == (handlers, disabled)
    after = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    assert torch.equal(after[0], state[0]) and after[1:] == state[1:]
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())
    assert isinstance(dense.patch_embed.layers[1], nn.BatchNorm2d)


def test_the_file_names_its_layers_and_opset_and_nothing_of_this_machine(exported):
    assert onnx_runtime.opset(exported) == onnx_runtime.OPSET
    assert b".py" not in exported and str(files.REPOSITORY).encode() not in exported
    named = [n.name for n in graph_of(exported).node if n.name in (*LINEAR, *STEM)]
    assert sorted(named) == sorted([*LINEAR, *STEM])
    assert not any(n.op_type in ("Gemm", "BatchNormalization") for n in graph_of(exported).node)


def test_a_model_without_biases_in_its_head_is_exported_too(images):
    architecture = profiles.Architecture(
        width=16, depth=1, heads=2, mlp_ratio=1, image_size=16, patch_size=8
    )
    model = models.build(architecture, 3, 3).eval()  # fresh biases are zeros: left away
    found = onnx_runtime.run(onnx_runtime.export(model), model)(images)
    assert far(found, model(images).detach()) < 1e-5


def test_products_are_counted_as_torch_and_the_formula_count_them(dense, exported, four_bits):
    image, given = torch.zeros(1, 3, 16, 16), dense.description
    architecture = profiles.Architecture(**given["architecture"])
    expected = formulas.vit_macs(architecture, 5, 3)
    assert measure.count_macs(dense, 16, 3) == expected
    for content in (exported, onnx_runtime.quantize(exported), four_bits):
        assert onnx_runtime.count_macs(content, image) == expected
    facts = onnx_runtime.facts(onnx_runtime.run(four_bits, dense), image)
    assert facts["parameters"] == measure.count_parameters(dense)
    assert facts["macs"] == expected and facts["engine"]["opset"] == onnx_runtime.OPSET


# -- int8 -----------------------------------------------------------------------------------------


def test_the_int8_product_is_the_formulas():
    """One product by hand: y = s_x s_w (X - z_x)(W - z_w), uint8 from the batch's range and from a
    channel's; on a processor without 8-bit dot products too."""
    onnx = onnx_runtime.engine("onnx")
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 4)).astype(np.float32)
    make, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["images", "w"], ["logits"], name="layer")],
        "one",
        [make("images", kind, ["batch", 6])],
        [make("logits", kind, ["batch", 4])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    opset = [onnx.helper.make_opsetid("", onnx_runtime.OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    content = model.SerializeToString()
    quantized = onnx_runtime.quantize(content)
    assert onnx_runtime.integer_layers(graph_of(quantized)) == ["layer"]
    x = rng.normal(1, 1, size=(5, 6)).astype(np.float32)
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / 255
    codes = np.clip(np.rint(x / scale) + np.rint(-low / scale), 0, 255)
    least, most = np.minimum(weight.min(0), 0), np.maximum(weight.max(0), 0)
    steps = (most - least) / 255
    zeros = np.rint(-least / steps)
    weights = np.clip(np.rint(weight / steps) + zeros, 0, 255) - zeros
    expected = scale * steps * ((codes - np.rint(-low / scale)) @ weights)
    session = onnx_runtime._session(quantized, 1)
    np.testing.assert_allclose(session.run(None, {"images": x})[0], expected, atol=1e-5)


def test_int8_takes_every_linear_layer_per_channel_and_stays_near(dense, exported, images):
    content = onnx_runtime.quantize(exported)
    assert sorted(onnx_runtime.integer_layers(graph_of(content))) == sorted(LINEAR)
    found = constants(content)
    weights = [name.removesuffix("_quantized") for name in found if name.endswith("_quantized")]
    shapes = [tuple(dense.get_submodule(name).weight.shape) for name in LINEAR]
    for name in weights:
        assert found[f"{name}_quantized"].dtype == np.uint8 and name not in found
        assert found[f"{name}_scale"].shape == found[f"{name}_quantized"].shape[1:]
    assert sorted(found[f"{name}_quantized"].shape[::-1] for name in weights) == sorted(shapes)
    expected = dense(images).detach()
    assert 0 < far(onnx_runtime.run(content, dense)(images), expected) < 0.1


def test_a_quantized_file_or_model_is_not_quantized_again(dense, exported, four_bits):
    for content in (onnx_runtime.quantize(exported), four_bits):
        with pytest.raises(UserError, match="quantized already"):
            onnx_runtime.quantize(content)
    with pytest.raises(ValueError, match="already quantized"):
        onnx_runtime.export(onnx_runtime.run(exported, dense))
    with pytest.raises(ValueError, match="already quantized"):
        onnx_runtime.export(dynamic.quantize(dense))


# -- 4 bits ---------------------------------------------------------------------------------------


def test_blocks_by_hand():
    codes = torch.tensor([[-8, 7, 0, 1, -1], [0, 0, 0, 0, 0]])
    found = onnx_four_bits.blocks(codes, 4)
    # 0 and 15, 8 and 9; then 7 and three times the zero point that fills up
    assert found.tolist() == [[[0xF0, 0x98], [0x87, 0x88]], [[0x88, 0x88], [0x88, 0x88]]]
    for outside in (-9, 8):
        with pytest.raises(ValueError, match="4 bits"):
            onnx_four_bits.blocks(torch.tensor([[outside]]), 16)


@pytest.mark.parametrize(
    ("columns", "size"), [(768, 256), (3072, 256), (192, 64), (96, 32), (64, 64), (24, 32), (5, 16)]
)
def test_the_block_size_is_the_one_that_makes_the_file_smallest(columns, size):
    assert onnx_four_bits.block_size(columns) == size
    row = {each: -(-columns // each) * (each // 2 + 4) for each in (16, 32, 64, 128, 256)}
    assert row[size] == min(row.values())


def test_four_bit_kernels_give_the_logits_of_the_simulation(learned, four_bits, images):
    found = onnx_runtime.run(four_bits, learned)(images)
    assert far(found, learned(images).detach()) < 1e-5
    assert far(found, onnx_four_bits.dense_of(learned)(images).detach()) < 1e-5


def test_the_four_bit_file_holds_lsqs_integers_and_one_scale_a_tensor(learned, four_bits):
    found, graph = constants(four_bits), graph_of(four_bits)
    assert sorted(onnx_runtime.integer_layers(graph)) == sorted(LINEAR)
    for name in LINEAR:
        layer = learned.get_submodule(name)
        packed = found[f"{name}.codes"]
        both = np.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1).astype(int) - 8
        assert (both[:, : layer.in_features] == layer.codes().numpy()).all()
        assert (both[:, layer.in_features :] == 0).all()
        assert set(found[f"{name}.scales"].ravel()) == {np.float32(layer.weight_step.item())}
    raw = {each.name: each for each in graph.initializer}
    for name in STEM:
        codes = learned.get_submodule(name).codes()
        assert len(raw[f"{name}.codes"].raw_data) == codes.numel() // 2
        assert (found[f"{name}.codes"].astype(int) == codes.numpy()).all()
    assert (found[f"{STEM[0]}.scales"] < 0).any()  # BatchNorm's gains are in them
    floats = {name for name, value in found.items() if value.dtype == np.float32 and value.ndim > 1}
    assert floats <= {"pos_embed", "cls_token", *(f"{name}.scales" for name in LINEAR)}


def test_int8_activations_of_the_kernels_cost_little_and_are_another_file(
    learned, four_bits, images
):
    content = onnx_four_bits.convert(learned, activation_bits=8)
    assert content != four_bits and len(content) == len(four_bits)
    assert far(onnx_runtime.run(content, learned)(images), learned(images).detach()) < 0.05


def test_what_the_kernels_do_not_run_is_refused(dense, images, four_bits):
    for model in (lsq.prepare(dense, 3)[0], lsq.prepare(dense, 4, 8, images=images)[0]):
        with pytest.raises(ValueError, match="the kernels take W4A32"):
            onnx_four_bits.convert(model)
    with pytest.raises(ValueError, match="no layers of LSQ"):
        onnx_four_bits.convert(dense)
    with pytest.raises(ValueError, match="valid: 32"):
        onnx_four_bits.convert(dense, activation_bits=4)
    layers = {"nowhere": (torch.zeros(1, 1), torch.ones(()))}
    with pytest.raises(ValueError, match="has no layer nowhere"):
        onnx_four_bits.rewrite(four_bits, layers, 32)


# -- the files ------------------------------------------------------------------------------------

PACKER = "vitstudy.quantization.onnx_runtime"


def test_an_onnx_artifact_is_the_file_and_gives_the_same_logits(
    dense, exported, images, tmp_path, monkeypatch
):
    model = onnx_runtime.run(onnx_runtime.quantize(exported), dense)
    models.save(model, tmp_path / "model", PACKER)
    loaded = models.load(tmp_path / "model")
    assert loaded.content == model.content
    assert torch.equal(loaded(images), model(images))
    header = (tmp_path / "model").stat().st_size - len(model.content)
    assert 0 < header < 1024
    # as many threads as torch has, when it was loaded and from then on
    for count in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        loaded(images)
        assert loaded.session.get_session_options().intra_op_num_threads == count


@pytest.mark.parametrize("harm", ["cut", "empty", "noise", "absent"])
def test_a_damaged_onnx_artifact_is_one_line(dense, exported, tmp_path, harm):
    contents = {"cut": exported[: len(exported) // 2], "empty": b"", "noise": b"\xff" * 999}
    content = np.frombuffer(contents.get(harm, exported), np.uint8).copy()
    name = "other" if harm == "absent" else "onnx"
    header = json.dumps({"packer": PACKER, **dense.description, "parameters": 1})
    held = to_bytes({name: torch.from_numpy(content)}, {"vitstudy": header})
    (tmp_path / "model").write_bytes(held)
    with pytest.raises(UserError) as raised:
        models.load(tmp_path / "model")
    assert "\n" not in str(raised.value)


def test_a_torchao_artifact_holds_integers_and_scales_and_gives_the_same_logits(
    dense, images, tmp_path
):
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    quantized = torchao_int8.quantize(dense)
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())
    models.save(quantized, tmp_path / "model", "vitstudy.quantization.torchao_int8")
    loaded = models.load(tmp_path / "model")
    tensors, _ = torchao_int8.pack(loaded)
    with torch.inference_mode():
        expected = quantized(images)
        assert torch.equal(loaded.to("cpu")(images), expected)
        assert 0 < far(expected, dense(images)) < 0.1
    assert set(tensors) == set(before) | {f"{name}.scale" for name in LINEAR}
    for name in LINEAR:
        weight = dense.get_submodule(name).weight.detach()
        integers, scale = tensors[f"{name}.weight"], tensors[f"{name}.scale"]
        assert integers.dtype == torch.int8 and scale.shape == (len(weight), 1)
        assert ((integers * scale - weight).abs() <= scale * (0.5 + 1e-3)).all()
    facts = torchao_int8.facts(loaded, torch.zeros(1, 3, 16, 16))
    assert facts["macs"] == measure.count_macs(dense, 16, 3)
    assert facts["parameters"] == measure.count_parameters(dense)


def test_a_torchao_model_stays_on_the_cpu_and_is_not_quantized_again(dense):
    quantized = torchao_int8.quantize(dense)
    for where in ("meta", torch.float16):
        with pytest.raises(ValueError, match="runs on the CPU"):
            quantized.to(where)
    with pytest.raises(ValueError, match="already quantized"):
        torchao_int8.quantize(quantized)


def test_a_damaged_torchao_artifact_is_one_line(dense, tmp_path):
    tensors, description = torchao_int8.pack(torchao_int8.quantize(dense))
    header = json.dumps({"packer": torchao_int8.__name__, **description})
    path = tmp_path / "model.safetensors"
    without = {name: value for name, value in tensors.items() if name != "head.scale"}
    for harmed in (without, {**tensors, "head.weight": torch.zeros(5, 23, dtype=torch.int8)}):
        path.write_bytes(to_bytes(harmed, {"vitstudy": header}))
        with pytest.raises(UserError, match="does not hold what its header says"):
            models.load(path)


# -- the rows of the study ------------------------------------------------------------------------


def cell(key, dataset="digits"):
    return Cell("smoke", dataset, key, 0)


@pytest.mark.parametrize(("key", "dataset"), smoke_study.cells(*KEYS))
def test_an_engines_cell_says_what_ran_it_and_counts_as_the_dense_model(smoke_home, key, dataset):
    record = recorded(smoke_home, cell(key, dataset))
    vanilla = recorded(smoke_home, cell("vanilla", dataset))
    assert (record["status"], record["simulated"]) == ("done", False)
    method, engine = methods.get(key), record["engine"]
    package = "torchao" if key.startswith("torchao") else "onnxruntime"
    assert engine["name"] == package and engine["version"] == record["versions"][package]
    assert engine["opset"] == (None if package == "torchao" else onnx_runtime.OPSET)
    assert engine["instruction_sets"] == measure.instruction_sets()
    assert set(method.requires) < set(record["versions"])
    assert (record["parameters"], record["macs"]) == (vanilla["parameters"], vanilla["macs"])
    assert vanilla["engine"] is None
    schema = json.loads((files.SOURCE / "record.schema.json").read_text())
    jsonschema.validate(record, schema)
    touched = set(record["layers_touched"])
    skipped = {each["layer"] for each in record["layers_skipped"]}
    assert not touched & skipped and (touched == set()) == (key == "onnx")
    path = smoke_home / cell("vanilla", dataset).artifact_path.relative_to(files.root())
    for name, _ in models.load(path).named_parameters():
        assert (name.rpartition(".")[0] or "(model)") in touched | skipped, name


def recorded(home, cell) -> dict:
    return json.loads((home / cell.record_path.relative_to(files.root())).read_text())


def test_the_float_engine_and_the_four_bit_kernels_flip_no_prediction(in_smoke):
    for one, other in (("vanilla", "onnx"), ("lsq-w4", "lsq-w4-onnx")):
        first, second = (study.predictions(cell(key))["classes"][:, 0] for key in (one, other))
        assert (first == second).all()
    assert study.read(cell("onnx")).flips == 0


def test_a_cell_is_stale_when_its_engine_changed(in_smoke, monkeypatch):
    known = staleness.version
    monkeypatch.setattr(staleness, "version", lambda n: "0.1" if n == "onnxruntime" else known(n))
    assert study.why_not(cell("onnx")) == "onnxruntime changed"
    assert study.why_not(cell("vanilla")) is None


# -- engines that are not there -------------------------------------------------------------------


@pytest.fixture
def absent(monkeypatch):
    """No engine is installed."""
    gone = {name for each in ENGINES for name in each.requires}
    found = method.find_spec
    monkeypatch.setattr(method, "find_spec", lambda name: None if name in gone else found(name))
    for name in gone:
        monkeypatch.setitem(sys.modules, name, None)


def test_absent_engines_leave_their_cells_out_and_the_others_as_they_were(in_smoke, absent):
    assert {each.method for each in study.cells("smoke")}.isdisjoint(KEYS)
    everything = study.cells("smoke", left_out=True, not_installed=True)
    assert {each.method for each in everything} >= set(KEYS)
    done = invoke("run", "smoke/digits")
    assert done.code == 0 and done.errors == []
    for key in set(KEYS) & methods.computed(SMOKE.tiers):
        lacking = ", ".join(methods.get(key).requires)
        assert f"vitstudy: not run: {key}: {lacking} " in done.err
    assert ": 0 computed, " in done.err


@pytest.mark.parametrize("pattern", ["onnx-int8", "onnx-*", "torchao-int8"])
def test_an_absent_engine_asked_for_by_name_is_one_line(in_smoke, absent, pattern):
    line = one_line(invoke("run", f"smoke/digits/{pattern}"))
    assert "not installed" in line and "pip install -c requirements.lock" in line
    with pytest.raises(UserError, match="not installed"):
        check_installed(cell("onnx"))


def test_lists_and_tables_say_that_an_engine_is_absent(home, absent):
    listed = {line.split()[0]: line for line in invoke("list", "methods").out.splitlines()}
    noted = tables.beneath("smoke", 1).set_index("key")["note"]
    assert "torchao is not installed" in listed["torchao-int8"]
    assert noted["onnx"] == "not run: onnx, onnxruntime, onnxscript are not installed"
    assert "not run" not in listed["dynamic"] and "not run" not in noted["continued"]


def test_an_artifact_of_an_absent_engine_is_one_line(dense, tmp_path, absent):
    class Kept(nn.Module):
        content, description = b"onnx", dense.description

    models.save(Kept(), tmp_path / "model", PACKER)
    with pytest.raises(UserError, match="onnxruntime is not installed: pip install"):
        models.load(tmp_path / "model")


def test_what_an_engines_row_starts_from_needs_no_other_engine():
    for each in ENGINES:
        parents = [methods.get(key) for key in each.parents]
        assert set(each.requires) >= {name for parent in parents for name in parent.requires}


def test_compressing_notes_every_layer_once(dense):
    context = Context(SMOKE, None, 0, "test", Config(), {}, files.root())
    onnx_runtime.note_layers(context, dense, ["head"], "why")
    names = [each["layer"] for each in context.layers_skipped]
    assert context.layers_touched == ["head"] and "head" not in names
    assert len(names) == len(set(names)) and "norm" in names and "(model)" in names
