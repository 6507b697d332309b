"""What a stranger does with a model's file: read what it takes, give it odd images, copy it."""

import copy
import io
import json

import pytest
import smoke_study
import torch
from safetensors import safe_open

from vitstudy import data, models, profiles, study
from vitstudy.quantization import onnx_runtime

SMOKE = profiles.get("smoke")
KINDS = ("vanilla", "dynamic", "onnx", "onnx-int8", "torchao-int8", "lsq-w4-onnx")
KINDS += ("fq-vit", "lsq-w4", "diffq", "vtp-r0.2", "nystrom-m32", "deit-base", "teacher")
CELLS = [study.Cell("smoke", name, key, 0) for key, name in smoke_study.cells(*KINDS)]
CELLS = [cell for cell in CELLS if cell.dataset == "digits"]


@pytest.fixture(params=CELLS, ids=lambda each: each.method)
def cell(request, in_smoke):
    return request.param


@pytest.fixture
def images(in_smoke):
    given = data.load("digits", SMOKE.limit)
    return given.normalise(given.test.images[:4])


def test_the_header_says_what_the_model_takes_and_what_its_answers_mean(cell):
    with safe_open(cell.artifact_path, framework="pt") as file:
        told = json.loads(file.metadata()["vitstudy"])["preprocessing"]
    assert told == models.load(cell.artifact_path).preprocessing
    assert told == {
        "data": "digits",
        "image_size": 32,
        "mean": [0.304],
        "std": [0.3228],
        "classes": list("0123456789"),
    }


@pytest.mark.parametrize("key", ["onnx", "onnx-int8", "lsq-w4-onnx"])
def test_an_onnx_file_says_the_same_in_its_metadata(in_smoke, key):
    model = models.load(study.Cell("smoke", "digits", key, 0).artifact_path)
    session = onnx_runtime._session(model.content, 1)
    told = session.get_modelmeta().custom_metadata_map
    assert told["data"] == "digits" and json.loads(told["classes"]) == list("0123456789")
    assert json.loads(told["mean"]) == [0.304] and told["image_size"] == "32"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "digits", "digit-pairs"])
def test_every_class_has_a_name_of_its_own(name):
    names = data.class_names(name)
    assert len(set(names)) == len(names) == data.spec(name).num_classes
    assert data.preprocessing(name, 224)["image_size"] == 224


@torch.inference_mode()
def test_no_images_give_no_logits(cell, images):
    model = models.load(cell.artifact_path)
    assert model(images[:0]).shape == (0, model(images).shape[1])


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.float16, torch.float64], ids=str)
def test_another_kind_of_float_gives_the_same_logits_or_an_error(cell, images, kind):
    model = models.load(cell.artifact_path)
    expected = model(images)
    try:
        found = model(images.to(kind))
    except (RuntimeError, ValueError, TypeError) as error:
        assert str(error)
    else:
        assert torch.allclose(found.float(), expected, atol=0.05)


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(1, 31, 31), (1, 30, 32), (1, 40, 40), (1, 64, 64), (3, 32, 32)])
def test_images_of_another_shape_are_an_error_and_never_other_numbers(cell, shape):
    if cell.method == "teacher" and shape[0] == 1:
        return  # it pools whatever comes to its own size, as its docstring says
    model = models.load(cell.artifact_path)
    with pytest.raises((RuntimeError, ValueError, AssertionError)) as raised:
        model(torch.zeros(2, *shape))
    assert str(raised.value)


@torch.inference_mode()
def test_a_copy_and_a_pickle_give_the_same_logits(cell, images):
    model = models.load(cell.artifact_path)
    expected = model(images)
    assert torch.equal(copy.deepcopy(model)(images), expected)
    content = io.BytesIO()
    torch.save(model, content)
    content.seek(0)
    again = torch.load(content, weights_only=False)  # what was written a line above
    assert torch.equal(again(images), expected)
