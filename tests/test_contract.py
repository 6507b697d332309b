"""What every method keeps to, whatever it does: its record, its file and its model.

A new method needs no line here: the cells of `smoke` are looked at, whichever they are.
"""

import copy
from importlib import import_module

import pytest
import torch

from vitstudy import data, measure, methods, models, profiles, protocol, study

SMOKE = profiles.get("smoke")
CELLS = [cell for cell in study.cells("smoke") if cell.dataset == "digits"]


@pytest.fixture(params=CELLS, ids=lambda each: each.method)
def cell(request, smoke_home, monkeypatch):
    monkeypatch.setenv("VITSTUDY_HOME", str(smoke_home))
    return request.param


@pytest.fixture
def images(cell):
    given = data.load(cell.dataset, SMOKE.limit)
    return given.normalise(given.test.images[:12], SMOKE.architecture.image_size)


def test_logits_depend_on_the_images_beside_as_the_method_says(cell, images):
    model = models.load(cell.artifact_path)
    with torch.inference_mode():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    difference = (together - alone).abs().max()
    record = study.read(cell)
    if methods.get(cell.method).batch_dependent:
        assert difference > 1e-3
        assert 0 <= record.accuracy_alone <= 1
        assert 0 <= record.flips_alone <= record.test_images
    else:
        assert difference < 1e-4
        assert record.accuracy_alone is None
    assert record.evaluation_batch == profiles.EVALUATION_BATCH


@torch.inference_mode()
def test_what_was_loaded_is_saved_and_copied_to_the_same_logits(cell, images, tmp_path):
    model = models.load(cell.artifact_path)
    expected = model(images)
    models.save(model, tmp_path / "again.safetensors", methods.get(cell.method).packer)
    assert torch.equal(models.load(tmp_path / "again.safetensors")(images), expected)
    assert torch.equal(copy.deepcopy(model)(images), expected)
    assert torch.equal(model(images), expected)


def test_parameters_and_macs_of_the_record_are_those_counted_in_the_file(cell, images):
    model, record = models.load(cell.artifact_path), study.read(cell)
    if methods.get(cell.method).requires:
        return  # its engine is a runtime of its own: `facts` counts, and its tests hold it to torch
    assert record.parameters == measure.count_parameters(model)
    assert record.macs == measure.count_macs(model, images.shape[-1], images.shape[1])


def test_layers_that_are_touched_and_skipped_are_the_models_own(cell):
    record = study.read(cell)
    if methods.get(cell.method).requires:
        return  # the names are of the network that was given to the engine
    model = models.load(cell.artifact_path)
    names = {*dict(model.named_modules()), *model.state_dict(), "(model)"}
    skipped = [each["layer"] for each in record.layers_skipped]
    for name in (*record.layers_touched, *skipped):
        assert name in names or name.rpartition(".")[0] in names  # a gate is within a block
    assert all(each["type"] and each["reason"] for each in record.layers_skipped)
    assert not set(record.layers_touched) & set(skipped)


@torch.inference_mode()
def test_it_computes_in_float64_or_says_why_not(cell, images):
    model = models.load(cell.artifact_path)
    expected = model(images)
    try:
        found = copy.deepcopy(model).double()(images.double())
    except (RuntimeError, ValueError, TypeError) as error:
        assert str(error)
    else:
        assert torch.allclose(found.float(), expected, atol=0.05)


@torch.no_grad()
def test_torch_export_gives_the_same_logits_or_its_packer_says_why_not(cell, images):
    model, packer = models.load(cell.artifact_path), import_module(methods.get(cell.method).packer)
    excused = isinstance(packer, protocol.NotExported) and packer.why_not_exported(model)
    try:
        found = torch.export.export(model, (images,)).module()(images)
    except Exception as error:
        assert excused, error
    else:
        assert not excused
        assert torch.allclose(found, model(images), atol=1e-5)
