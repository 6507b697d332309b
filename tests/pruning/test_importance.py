"""Eq. 7 and Eq. 8 by hand, against autograd and against the masked model; the controls."""

import math

import pytest
import torch
import torch.nn.functional as F

from vitstudy import models
from vitstudy.errors import UserError
from vitstudy.pruning import gates, importance, slim


@pytest.fixture
def labels():
    return torch.tensor([0, 1, 2, 3, 4, 0])


def test_eq_7_by_hand_has_its_square_outside_the_sum():
    weights = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    gradients = torch.tensor([[0.5, -1.0], [1.0, 1.0]])
    found = importance.taylor_importance(weights, gradients)
    assert found.tolist() == [2.25, 4.0]  # (0.5 - 2)^2 and (3 - 1)^2, not 0.25 + 4 and 9 + 1


def test_eq_7_of_a_model_is_the_squared_derivative_by_gates_that_are_open(vit, images, labels):
    found = importance.taylor_scores(vit, images, labels, batch_size=4)
    copy = models.unpack(*models.pack(vit)).double()
    model = models.changed(copy, gates.__name__).eval()
    F.cross_entropy(model(images), labels).backward()
    wanted = {name: gate.offset.grad.square() for name, gate in gates.gates_of(model).items()}
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        torch.testing.assert_close(found[name], values, atol=1e-12, rtol=1e-8)
        assert values.max() > 0
    assert all(parameter.grad is None for parameter in vit.parameters())


def test_eq_7_by_batches_is_the_mean_of_their_squares_and_no_less_than_that_of_the_set(
    vit, images, labels
):
    def scores(chosen, batch_size=4, gradient_of="batches"):
        given = images[chosen], labels[chosen]
        return importance.taylor_scores(vit, *given, batch_size, gradient_of=gradient_of)

    whole, first, second = (scores(part) for part in (slice(None), slice(4), slice(4, None)))
    of_set = scores(slice(None), gradient_of="set")
    once = scores(slice(None), batch_size=len(images))
    for name, values in whole.items():
        share = 4 / len(images)
        wanted = share * first[name] + (1 - share) * second[name]
        torch.testing.assert_close(values, wanted, rtol=1e-8, atol=1e-14)
        torch.testing.assert_close(once[name], of_set[name], rtol=1e-8, atol=1e-14)
        assert (values >= of_set[name] * (1 - 1e-9)).all()  # the mean of squares is no less
    with pytest.raises(ValueError, match="gradient_of='image' is unknown; valid: set, batches"):
        scores(slice(None), gradient_of="image")


def test_eq_8_by_hand_is_the_divergence_of_the_pruned_from_the_full():
    pruned, full = torch.tensor([[0.8, 0.2], [0.5, 0.5]]), torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    expected = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    expected += 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    found = importance.kl_importance(pruned.log(), full.log())
    assert found.item() == pytest.approx(expected, abs=1e-6)
    other = importance.kl_importance(full.log(), pruned.log()).item()
    assert other != pytest.approx(expected, abs=1e-3)
    assert importance.kl_importance(full.log(), full.log() + 3).item() == pytest.approx(0, abs=1e-6)


def test_eq_8_of_a_model_is_that_of_masking_each_head_and_group(vit, images):
    shape = slim.shape_of(vit)
    found = importance.kl_scores(vit, images, groups=4, batch_size=4)
    assert {name: len(each) for name, each in found.items()} == {
        f"blocks.{index}.{kind}": units
        for index in range(3)
        for kind, units in (("value", 2), ("hidden", 4))
    }
    with torch.no_grad():
        q = vit(images).log_softmax(1)
        for name, values in found.items():
            run = 8  # dimensions of a head, and 32 / 4
            for unit, value in enumerate(values):
                masks = slim.full(shape)
                masks[name][unit * run : (unit + 1) * run] = False
                p = gates.masked(vit, masks)(images).log_softmax(1)
                assert value.item() == pytest.approx((p.exp() * (p - q)).sum().item(), rel=1e-4)


def test_scoring_leaves_the_model_alone(vit, images, labels):
    before = vit(images)
    importance.taylor_scores(vit, images, labels)
    importance.kl_scores(vit, images, groups=2)
    importance.magnitude_scores(vit)
    assert torch.equal(vit(images), before)
    assert not vit.blocks[0]._forward_pre_hooks and not vit.blocks[0].mlp.fc2._forward_pre_hooks


def test_magnitude_is_the_mean_size_of_what_reads_a_dimension(vit):
    found = importance.magnitude_scores(vit)
    attention, mlp = vit.blocks[1].attn, vit.blocks[1].mlp
    qkv, row = attention.qkv.weight, attention.qkv.weight[3].abs().sum()
    wanted = {
        ("attention_input", 5): qkv[:, 5].abs().mean(),
        ("query_key", 3): (row + attention.qkv.bias[3].abs()) / 17,
        ("value", 9): attention.proj.weight[:, 9].abs().mean(),
        ("mlp_input", 0): mlp.fc1.weight[:, 0].abs().mean(),
        ("hidden", 31): mlp.fc2.weight[:, 31].abs().mean(),
    }
    for (kind, dimension), value in wanted.items():
        assert found[f"blocks.1.{kind}"][dimension].item() == pytest.approx(value.item())


def test_chance_is_the_seeds(vit):
    shape = slim.shape_of(vit)
    one, same, other = (importance.random_scores(shape, seed) for seed in (1, 1, 2))
    assert {name: len(each) for name, each in one.items()} == {
        name: len(mask) for name, mask in slim.full(shape).items()
    }
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("groups", [0, 3, 33])
def test_groups_that_do_not_divide_the_hidden_dimensions_are_one_line(vit, images, groups):
    with pytest.raises(UserError, match=f"{groups} groups do not divide the 32 hidden dimensions"):
        importance.kl_scores(vit, images, groups)
