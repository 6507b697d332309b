"""Soft gates: identity, penalty, hardening, and what a gate multiplies."""

import pytest
import torch
from torch import nn

from vitstudy import models
from vitstudy.errors import UserError
from vitstudy.pruning import gates, slim


def gated(model, blocks=False):
    return models.changed(
        models.unpack(*models.pack(model)).double(), gates.__name__, blocks=blocks
    )


@pytest.mark.parametrize("blocks", [False, True])
def test_gates_of_one_leave_the_logits_alone(vit, images, blocks):
    model = gated(vit, blocks).eval()
    torch.testing.assert_close(model(images), vit(images), atol=1e-12, rtol=0)
    assert all(torch.equal(v, torch.ones_like(v)) for v in gates.scores(model).values())


def test_there_is_a_gate_for_every_dimension_that_can_go(vit):
    shape = slim.shape_of(vit)
    sizes = {name: len(gate.offset) for name, gate in gates.gates_of(gated(vit)).items()}
    assert sizes == {name: len(mask) for name, mask in slim.full(shape).items()}
    with_blocks = gates.gates_of(gated(vit, blocks=True))
    assert set(with_blocks) - set(sizes) == {"blocks.0", "blocks.1", "blocks.2"}


def test_hard_gates_multiply_the_dimensions_from_the_right(vit):
    """The survey's Eq. 16 for the values of one block, A diag(p), written out."""
    masks = slim.full(slim.shape_of(vit))
    masks["blocks.0.value"][[1, 6, 9]] = False
    attention, x = vit.blocks[0].attn, torch.randn(2, 5, 16, dtype=torch.float64)
    q, k, v = (e.view(2, 5, 2, 8).transpose(1, 2) for e in attention.qkv(x).chunk(3, -1))
    output = (q @ k.mT / 8**0.5).softmax(-1) @ v
    output = output.transpose(1, 2).flatten(2) @ torch.diag(masks["blocks.0.value"].double())
    found = gates.masked(vit, masks).blocks[0].attn(x)
    torch.testing.assert_close(found, attention.proj(output), atol=1e-12, rtol=0)


def test_a_soft_gate_scales_what_it_stands_before(vit, images):
    model, twice = gated(vit).eval(), gated(vit).eval()
    model.blocks[1].mlp.mlp_input.offset.data.fill_(0.5)
    model.blocks[2].attn.query_key.offset.data.fill_(-0.25)
    twice.blocks[1].mlp.fc1.weight.data.mul_(1.5)
    twice.blocks[2].attn.qkv.weight.data[:16].mul_(0.75)
    twice.blocks[2].attn.qkv.bias.data[:16].mul_(0.75)
    torch.testing.assert_close(model(images), twice(images), atol=1e-12, rtol=0)


def test_a_closed_gate_around_a_block_lets_its_input_past(vit, images):
    model = gated(vit, blocks=True).eval()
    model.blocks[1].block.offset.data.fill_(-1)
    del vit.blocks[1]
    torch.testing.assert_close(model(images), vit(images), atol=1e-12, rtol=0)


def test_penalty_by_hand_and_its_weights(vit):
    model = gated(vit, blocks=True)
    assert gates.penalty(model).item() == 3 * (16 + 16 + 16 + 16 + 32) + 3
    model.blocks[0].mlp.hidden.offset.data[:2] = torch.tensor([-1.5, -3.0])  # |g|: 0.5, 2
    assert gates.penalty(model).item() == 3 * 96 + 3 + 0.5
    weights = gates.weights_by_cost(model, slim.shape_of(vit))
    costs = {"attention_input": 48, "query_key": 34, "value": 33, "mlp_input": 32, "hidden": 33}
    whole = 16 * (48 + 34 + 33 + 32) + 32 * 33
    assert weights["blocks.1"] == pytest.approx(96)  # as many as it has dimensions
    for kind, cost in costs.items():
        assert weights[f"blocks.2.{kind}"] == pytest.approx(cost * 96 / whole)


def test_gates_that_were_hard_reload_and_a_faster_gate_is_as_hard(vit, images, tmp_path):
    model = gated(vit).eval()
    gates.set_speed(model, 7.0)
    assert torch.equal(gates.scores(model)["blocks.0.value"], torch.ones(16).double())
    masks = slim.uniform(slim.shape_of(vit), 0.5)
    gates.harden(model, masks)
    for name, value in gates.scores(model).items():
        torch.testing.assert_close(value, masks[name].double())
    torch.testing.assert_close(model(images), gates.masked(vit, masks)(images), atol=1e-10, rtol=0)
    model.float()
    models.save(model, tmp_path / "gated")
    again = models.load(tmp_path / "gated")
    assert torch.equal(again(images.float()), model(images.float()))


def test_speed_is_how_much_further_a_step_moves_a_gate(vit, images):
    moved = []
    for speed in (1.0, 20.0):
        model = gated(vit)
        gates.set_speed(model, speed)
        step = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
        model(images).square().mean().backward()
        step.step()
        values = torch.cat(list(gates.scores(model).values()))
        moved.append((values - 1).abs())
    assert (moved[0] <= 1.001e-3).all() and moved[0].median() > 0.9e-3
    torch.testing.assert_close(moved[1], 20 * moved[0], rtol=1e-3, atol=1e-6)


def test_without_its_gates_a_model_has_the_weights_that_it_learned(vit, images):
    model = gated(vit, blocks=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    plain = gates.without(model.eval())
    assert plain.description == vit.description
    assert not any(isinstance(module, gates.Gate) for module in plain.modules())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, vit.get_parameter(name) + 0.01), name
    assert isinstance(plain.blocks[0].attn.qkv, nn.Linear) and not plain.training


def test_the_model_that_is_masked_is_left_alone(vit, images):
    before = vit(images)
    masks = slim.uniform(slim.shape_of(vit), 0.5)
    assert not torch.equal(gates.masked(vit, masks)(images), before)
    assert torch.equal(vit(images), before)


def test_a_model_that_has_gates_takes_no_second_ones(vit):
    with pytest.raises(UserError, match=r"blocks\.0\.attn is GatedAttention"):
        gates.rebuild(gated(vit))
