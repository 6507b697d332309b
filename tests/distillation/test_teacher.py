"""The teacher: its network and file, and how it tells the student."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from vitstudy import data, measure, models, profiles, training
from vitstudy.configs import Config
from vitstudy.context import Context
from vitstudy.distillation import teacher
from vitstudy.distillation.teacher import MatrixConv2d, ResidualNetwork, TeacherLogits
from vitstudy.errors import UserError
from vitstudy.profiles import Recipe

SMOKE = profiles.get("smoke")


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ResidualNetwork((4, 8), 1, 2, 10, 1).eval()


@pytest.fixture
def images():
    return torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def context(path, dataset="digits", **spec):
    loaded = data.load(dataset, SMOKE.limit)
    loaded = dataclasses.replace(loaded, spec=dataclasses.replace(loaded.spec, **spec))
    return Context(SMOKE, loaded, 0, "test", Config(), {"teacher": path}, path.parent)


@pytest.fixture
def path(network, tmp_path):
    models.save(network, tmp_path / "model.safetensors", "vitstudy.distillation.teacher")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_kept_as_a_matrix_is_a_convolution(stride):
    conv = MatrixConv2d(3, 5, stride)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    weight = torch.empty(5, 3, 3, 3)
    for channel in range(3):
        for place in range(9):
            weight[:, channel, place // 3, place % 3] = conv.weight[:, 3 * place + channel]
    torch.testing.assert_close(conv(x), F.conv2d(x, weight, stride=stride, padding=1))


def test_muon_trains_every_convolution_but_the_first(network):
    muon = training.optimisers(network, Recipe(steps=1, batch_size=1))[1]
    matrices = {id(each) for group in muon.param_groups for each in group["params"]}
    expected = {id(m.weight) for m in network.modules() if isinstance(m, MatrixConv2d)}
    assert matrices == expected and len(expected) == 5


def test_the_head_tells_left_from_right(network, images):
    mirrored = network(images.flip(3))
    assert (mirrored - network(images)).abs().max() > 1e-3
    one_side = torch.zeros(1, 1, 32, 32)
    one_side[..., :16] = 3.0
    x = network.blocks(network.stem(one_side))
    quarters = F.adaptive_avg_pool2d(x, 2)
    assert quarters.shape == (1, 8, 2, 2)
    torch.testing.assert_close(network(one_side), network.head(quarters.flatten(1)))


def test_larger_images_are_seen_at_the_size_they_had(network, images):
    larger = images.repeat_interleave(7, dim=2).repeat_interleave(7, dim=3)
    torch.testing.assert_close(network(larger), network(images))


def test_its_file_gives_the_same_logits(network, images, path):
    state = torch.random.get_rng_state()
    again = models.load(path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(again(images), network(images))
    assert again.description == network.description


@pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda each: each.name)
def test_every_profile_has_a_teacher_whose_macs_are_those_of_its_layers(profile):
    given = profile.teacher
    model = ResidualNetwork(given.channels, given.blocks, given.stem_stride, 100, 3)
    side, expected = (
        32 // given.stem_stride,
        27 * given.channels[0] * (32 // given.stem_stride) ** 2,
    )
    for stage, width in enumerate(given.channels):
        if stage:
            side //= 2
            expected += 9 * given.channels[stage - 1] * width * side**2
        expected += given.blocks * 2 * 9 * width * width * side**2
    expected += 4 * given.channels[-1] * 100
    assert measure.count_macs(model, profile.architecture.image_size, 3) == expected


def test_the_recipe_is_the_baselines_but_for_what_the_teacher_names(path):
    given = context(path)
    found, whole = teacher.recipe(given), SMOKE.recipe("digits")
    assert found.steps == whole.steps and found.batch_size == whole.batch_size
    assert found.label_smoothing == 0 != whole.label_smoothing
    half = dataclasses.replace(SMOKE, teacher=dataclasses.replace(SMOKE.teacher, steps=0.5))
    assert teacher.recipe(dataclasses.replace(given, profile=half)).steps == whole.steps / 2


# Teaching


def test_the_teacher_tells_of_the_batch_as_the_student_sees_it(network, path, images):
    told = TeacherLogits(context(path))
    found = told(images, torch.tensor([5, 6, 7]))
    torch.testing.assert_close(found, network(images))
    assert not found.requires_grad and not told.model.training


def test_teaching_leaves_the_teacher_as_it_is(path, images):
    told = TeacherLogits(context(path))
    before = copy.deepcopy(told.model.state_dict())
    told.model.train()  # as a careless caller leaves it: BatchNorm would take the student's batches
    told(images, torch.tensor([0, 1, 2]))
    assert all(torch.equal(before[name], t) for name, t in told.model.state_dict().items())


def test_without_augmentation_its_logits_are_computed_once(path, monkeypatch):
    given = context(path, shift=0, flip=False)
    told = TeacherLogits(given)
    indices = torch.tensor([200, 3, 77])
    images = given.data.normalise(given.data.train.images[indices])
    expected = told.model(images)

    def forbidden(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(told.model, "forward", forbidden)
    torch.testing.assert_close(told(images, indices), expected.detach())


def test_a_teacher_of_other_classes_is_one_line(path):
    with pytest.raises(
        UserError, match="tells 10 classes apart where digit-pairs has 100"
    ) as raised:
        TeacherLogits(context(path, "digit-pairs"))
    assert "python -m vitstudy run smoke/digit-pairs/teacher" in str(raised.value)
    assert "\n" not in str(raised.value)
