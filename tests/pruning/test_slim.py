"""Masks, what they weigh, which dimensions go, and the slim model against the masked one."""

import copy

import foreign_models
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitstudy import measure, models
from vitstudy.errors import UserError
from vitstudy.pruning import gates, importance, slim
from vitstudy.pruning.slim import KINDS, Shape, SlimAttention, SlimMlp
from vitstudy.quantization import dynamic, fq_vit, lsq

# The model is only read, so one for all examples will do.
few = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TINY = Shape(width=4, depth=2, heads=2, head_dim=2, hidden=4, fixed=100)


def formula(width, a, qk, v, m, f):
    """Parameters of a block, layer by layer."""
    norms = 2 * 2 * width
    return norms + (2 * qk + v) * (a + 1) + width * (v + 1) + f * (m + 1) + width * (f + 1)


# What a model has, and what a mask leaves


def test_parameters_by_hand():
    masks = slim.full(TINY)
    whole = 100 + 2 * formula(4, 4, 4, 4, 4, 4)
    assert slim.parameters(masks, TINY) == whole
    masks["blocks.1.hidden"][:3] = False
    masks["blocks.1.attention_input"][0] = False
    less = 100 + formula(4, 4, 4, 4, 4, 4) + formula(4, 3, 4, 4, 4, 1)
    assert slim.parameters(masks, TINY) == less
    assert slim.removed(masks, TINY) == 1 - less / whole


def test_a_head_without_values_loses_its_queries_and_keys():
    masks = slim.full(TINY)
    masks["blocks.0.value"][:2] = False
    assert slim.tidy(masks, TINY)["blocks.0.query_key"].tolist() == [False, False, True, True]
    expected = 100 + formula(4, 4, 2, 2, 4, 4) + formula(4, 4, 4, 4, 4, 4)
    assert slim.parameters(masks, TINY) == expected
    assert masks["blocks.0.query_key"].all()  # what was given is left alone


def test_a_block_that_goes_takes_all_its_parameters_along():
    masks = {"blocks.1": torch.tensor([False])}
    assert slim.parameters(masks, TINY) == 100 + formula(4, 4, 4, 4, 4, 4)


@given(seed=st.integers(0, 10_000), keep=st.sampled_from([0.2, 0.6, 0.95]))
@few
def test_the_slim_model_has_the_masked_models_logits_and_the_parameters_of_the_formula(
    vit, images, cut_at_random, seed, keep
):
    shape = slim.shape_of(vit)
    masks = cut_at_random(shape, seed, keep)
    small = slim.slim(vit, masks)
    with torch.no_grad():
        difference = small(images) - gates.masked(vit, masks)(images)
    assert difference.abs().max() < 1e-10
    assert measure.count_parameters(small) == slim.parameters(masks, shape)


def test_whole_heads_and_whole_blocks_go(vit, images):
    shape, masks = slim.shape_of(vit), {}
    masks |= slim.full(shape)
    masks["blocks.0.value"][:8] = False  # the first head
    masks["blocks.2"] = torch.tensor([False])
    small = slim.slim(vit, masks)
    assert len(small.blocks) == 2
    assert small.blocks[0].attn.num_heads == 1
    assert small.blocks[0].attn.qkv.out_features == 3 * 8
    with torch.no_grad():
        difference = small(images) - gates.masked(vit, masks)(images)
        assert (small(images) - vit(images)).abs().max() > 1e-3
    assert difference.abs().max() < 1e-10


def test_heads_keep_the_scale_that_they_were_trained_with(vit):
    masks = slim.uniform(slim.shape_of(vit), 0.5, ("query_key", "value"))
    attention = slim.slim(vit, masks).blocks[0].attn
    assert attention.head_dim == 4
    assert attention.scale == 8**-0.5
    x = torch.randn(1, 5, 16, dtype=torch.float64)
    q, k, v = (each.view(1, 5, 2, 4).transpose(1, 2) for each in attention.qkv(x).chunk(3, -1))
    maps = (q @ k.mT / 8**0.5).softmax(-1)
    expected = attention.proj((maps @ v).transpose(1, 2).reshape(1, 5, 8))
    torch.testing.assert_close(attention(x), expected, atol=1e-12, rtol=0)


def test_nothing_cut_is_the_model_itself(vit, images):
    shape = slim.shape_of(vit)
    scores = {name: torch.rand(len(mask)) for name, mask in slim.full(shape).items()}
    masks = slim.select(scores, shape, 0.0)
    same = slim.slim(vit, masks)
    assert same is not vit and same.description == vit.description
    assert torch.equal(same(images), vit(images))
    assert not any(isinstance(module, SlimAttention | SlimMlp) for module in same.modules())


def test_the_model_that_is_cut_is_left_alone(vit, cut_at_random):
    before, described = copy.deepcopy(vit.state_dict()), copy.deepcopy(vit.description)
    small = slim.slim(vit.train(), cut_at_random(slim.shape_of(vit), 3))
    assert small.training and vit.training and vit.description == described
    for parameter in small.parameters():
        parameter.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())


def test_every_weight_of_a_slim_model_learns(vit, images, cut_at_random):
    small = slim.slim(vit, cut_at_random(slim.shape_of(vit), 5)).train()
    small(images).square().sum().backward()
    for name, parameter in small.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_macs_are_those_of_what_is_left(vit):
    shape = slim.shape_of(vit)
    small = slim.slim(vit.float(), slim.uniform(shape, 0.5))
    tokens, width = 17, 16
    block = tokens * (8 * 3 * 8 + 8 * width + 8 * 16 + 16 * width) + 2 * tokens**2 * 8
    whole = measure.count_macs(vit, 16, 3)
    blocks = 3 * (tokens * (4 * width**2 + 2 * width * 32) + 2 * tokens**2 * width)
    assert measure.count_macs(small, 16, 3) == whole - blocks + 3 * block


# Its file, and what comes after it


def test_the_file_gives_the_same_logits_and_is_smaller_by_what_was_removed(
    vit, images, cut_at_random, tmp_path
):
    model, images = vit.float(), images.float()
    masks = cut_at_random(slim.shape_of(model), 7, 0.8)
    small = slim.slim(model, masks)
    models.save(small, tmp_path / "slim")
    again = models.load(tmp_path / "slim")
    assert torch.equal(again(images), small(images))
    tensors, _ = models.pack(small)
    values = sum(tensor.nbytes for tensor in tensors.values())
    assert values / sum(t.nbytes for t in models.pack(model)[0].values()) == pytest.approx(
        1 - slim.removed(masks, slim.shape_of(model)), abs=0.02
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_quantizers_take_a_slim_model(vit, images, cut_at_random, tmp_path, seed):
    images = images.float()
    small = slim.slim(vit.float(), cut_at_random(slim.shape_of(vit), seed)).eval()
    learned, _ = lsq.prepare(small, 16, 16, images=images, start="max")
    assert isinstance(learned.blocks[0].attn.qkv, lsq.LsqLinear)
    integers = dynamic.quantize(small)
    post, skipped = fq_vit.quantize_model(small, images)
    assert "blocks.0.attn" in dict(skipped)
    logits = small(images)
    assert (learned(images) - logits).norm() < 2e-3 * logits.norm()
    for model, packer in ((learned, lsq), (integers, dynamic), (post, fq_vit)):
        path = tmp_path / packer.__name__
        models.save(model, path, packer.__name__)
        with torch.no_grad():
            assert torch.isfinite(model(images)).all()
            assert torch.equal(models.load(path)(images), model(images))


# Which dimensions go


def ranked(shape=TINY):
    """Scores 0, 1, 2, ... in the order of the names."""
    names = slim.full(shape)
    start, scores = 0, {}
    for name, mask in names.items():
        scores[name] = torch.arange(start, start + len(mask)).float()
        start += len(mask)
    return scores


def test_the_lowest_scores_go_until_r_is_reached_and_no_further():
    assert slim.parameters(slim.full(TINY), TINY) == 372
    masks = slim.select(ranked(), TINY, 24 / 372)  # an input of attention is read by 12 weights
    assert masks["blocks.0.attention_input"].tolist() == [False, False, True, True]
    assert all(mask.all() for name, mask in masks.items() if name != "blocks.0.attention_input")


@given(seed=st.integers(0, 1_000), r=st.floats(0.01, 0.25))
@few
def test_what_goes_scores_no_higher_than_what_stays_and_reaches_r(seed, r):
    shape = Shape(width=24, depth=2, heads=3, head_dim=8, hidden=48, fixed=20_000)
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: torch.rand(len(mask), generator=generator) for name, mask in slim.full(shape).items()
    }
    masks = slim.select(scores, shape, r)
    share = slim.removed(masks, shape)
    biggest = max(3 * 24, 2 * 25, 49, 48) / slim.parameters(slim.full(shape), shape)
    assert r <= share <= r + biggest < r + slim.SLACK
    gone, stays = [], []
    for name, values in scores.items():
        if "query_key" in name:  # may go with their head
            continue
        gone += values[~masks[name]].tolist()
        # the best of a layer stays whatever it scores
        stays += [v for v in values[masks[name]].tolist() if v < values.max()]
    assert max(gone) <= min(stays)


def test_a_unit_too_large_is_passed_over_for_the_next():
    # heads of 24 parameters and more, hidden dimensions of 9: the head scores lower than the last
    shape = Shape(width=4, depth=1, heads=2, head_dim=2, hidden=64, fixed=1_000)
    hidden = torch.arange(64).float() + 10
    scores = {"blocks.0.value": torch.tensor([11.5, 999.0]), "blocks.0.hidden": hidden}
    everything = slim.parameters(slim.full(shape), shape)
    r = 3 * 9 / everything
    masks = slim.select(scores, shape, r)
    assert masks["blocks.0.value"].all()
    assert masks["blocks.0.hidden"].tolist() == [False] * 3 + [True] * 61
    assert slim.removed(masks, shape) == pytest.approx(r)


def test_in_the_place_of_a_unit_too_large_as_many_go_as_r_needs():
    shape = Shape(width=4, depth=1, heads=2, head_dim=2, hidden=32)
    hidden = torch.arange(32).float() + 10
    scores = {"blocks.0.value": torch.tensor([11.5, 999.0]), "blocks.0.hidden": hidden}
    everything = slim.parameters(slim.full(shape), shape)
    masks = slim.select(scores, shape, 5 * 9 / everything)  # two before the head, three after it
    assert masks["blocks.0.value"].all()
    assert masks["blocks.0.hidden"].tolist() == [False] * 5 + [True] * 27


def test_a_unit_that_goes_less_far_beyond_r_is_given_up_for_one_that_goes_hardly_beyond_it():
    # in the order of the scores: two hidden dimensions of 9 parameters, a head of 38, an input of
    # attention of 12, hidden dimensions; of 26.5 parameters the input takes 3.5 too many
    shape = Shape(width=4, depth=1, heads=2, head_dim=2, hidden=32)
    scores = {
        "blocks.0.value": torch.tensor([11.5, 999.0]),
        "blocks.0.attention_input": torch.tensor([11.7, 500.0, 600.0, 999.0]),
        "blocks.0.hidden": torch.arange(32).float() + 10,
    }
    everything = slim.parameters(slim.full(shape), shape)
    r = 26.5 / everything
    assert 0.5 / everything < slim.SLACK < 3.5 / everything
    masks = slim.select(scores, shape, r)
    assert masks["blocks.0.value"].all() and masks["blocks.0.attention_input"].all()
    assert masks["blocks.0.hidden"].tolist() == [False] * 3 + [True] * 29
    # where no hidden dimension is left to go, the input is the nearest
    whole = {**scores, "blocks.0.hidden": torch.tensor([10.0, 11.0, 999.0])}
    third = Shape(width=4, depth=1, heads=2, head_dim=2, hidden=3)
    masks = slim.select(whole, third, 26.5 / slim.parameters(slim.full(third), third))
    assert masks["blocks.0.value"].all()
    assert masks["blocks.0.attention_input"].tolist() == [False, True, True, True]


def test_units_are_runs_of_dimensions():
    shape = Shape(width=4, depth=1, heads=2, head_dim=2, hidden=8)
    scores = {"blocks.0.value": torch.tensor([5.0, 1.0]), "blocks.0.hidden": torch.arange(4.0) + 9}
    head = 6 * (4 + 1) + 2 * 4
    masks = slim.select(scores, shape, head / slim.parameters(slim.full(shape), shape))
    assert masks["blocks.0.value"].tolist() == [True, True, False, False]
    assert masks["blocks.0.query_key"].tolist() == [True, True, False, False]
    assert masks["blocks.0.attention_input"].all()


def test_one_unit_of_each_layer_stays_and_the_best_block():
    scores = ranked() | {"blocks.0": torch.tensor([0.0]), "blocks.1": torch.tensor([1.0])}
    most = slim.select(scores, TINY, 0.6)
    assert not most["blocks.0"].any() and most["blocks.1"].all()
    for kind in KINDS:
        assert most[f"blocks.1.{kind}"].any()


# Bad input


@pytest.mark.parametrize("r", [-0.1, 1.0, 2.0, float("nan")])
def test_r_that_is_no_share_is_one_line(r):
    with pytest.raises(UserError, match=r"is no share of the parameters.*0 <= r < 1"):
        slim.select(ranked(), TINY, r)


def test_r_that_empties_a_layer_is_one_line():
    with pytest.raises(UserError, match=r"r=0\.9 would empty a layer: .* 0\.\d+ of the param"):
        slim.select(ranked(), TINY, 0.9)


def test_scores_that_are_no_numbers_or_do_not_fit_are_one_line():
    scores = ranked()
    scores["blocks.1.hidden"][2] = float("nan")
    with pytest.raises(UserError, match=r"scores of blocks\.1\.hidden hold NaN"):
        slim.select(scores, TINY, 0.1)
    scores["blocks.1.hidden"] = torch.ones(3)
    with pytest.raises(UserError, match="3 units do not divide 4 dimensions"):
        slim.select(scores, TINY, 0.1)


def test_masks_that_empty_a_layer_are_one_line(vit):
    for kind in ("value", "hidden", "mlp_input", "attention_input"):
        masks = slim.full(slim.shape_of(vit))
        masks[f"blocks.1.{kind}"][:] = False
        with pytest.raises(UserError, match=rf"blocks\.1 would keep no dimension of {kind}"):
            slim.slim(vit, masks)


def test_keep_ratio_by_hand_and_out_of_range():
    masks = slim.uniform(TINY, 0.5)
    assert masks["blocks.1.value"].tolist() == [True, False, True, False]
    assert masks["blocks.1.hidden"].tolist() == [True, True, False, False]
    assert all(mask.all() for mask in slim.uniform(TINY, 1.0).values())
    assert slim.uniform(TINY, 0.5, ("hidden",))["blocks.0.value"].all()
    for keep in (0, -1, 1.2, float("nan")):
        with pytest.raises(UserError, match="valid: 0 < keep <= 1"):
            slim.uniform(TINY, keep)
    with pytest.raises(UserError, match=r"keep=0\.2 leaves blocks\.0\.query_key none of 2 dim"):
        slim.uniform(TINY, 0.2, ("query_key",))


def test_a_model_without_the_attention_that_is_cut_is_one_line(vit, cut_at_random):
    masks = cut_at_random(slim.shape_of(vit), 2)
    small = slim.slim(vit, masks)
    for function in (slim.shape_of, gates.rebuild, lambda model: slim.slim(model, masks)):
        with pytest.raises(UserError, match=r"blocks\.0\.attn is SlimAttention: only timm's plain"):
            function(small)
    quantized, _ = lsq.prepare(vit.float(), 4)
    with pytest.raises(UserError, match="prune before quantizing"):
        slim.shape_of(quantized)


# Models that the study did not build


@pytest.mark.parametrize("variant", foreign_models.VARIANTS)
def test_a_foreign_model_is_cut_and_counted_rightly_or_refused_by_the_layers_name(variant):
    model = foreign_models.build(variant)
    if foreign_models.check_refused("pruning", variant, lambda: slim.shape_of(model)):
        return
    images, shape, block = foreign_models.images_for(model), slim.shape_of(model), "blocks.0"
    whole, some = slim.full(shape), {}
    generator = torch.Generator().manual_seed(3)
    for name, mask in whole.items():
        some[name] = torch.rand(len(mask), generator=generator) < 0.6
    cuts = (some, {**some, block: torch.tensor([False])}, {block: torch.tensor([False])})
    with torch.no_grad():
        for masks in (whole, {**whole, block: torch.tensor([True])}):
            foreign_models.assert_close(gates.masked(model, masks)(images), model(images))
        for masks in cuts:
            small = slim.slim(model, masks)
            foreign_models.assert_close(small(images), gates.masked(model, masks)(images))
            left = measure.count_parameters(small)
            assert slim.parameters(masks, shape) == left
            assert slim.removed(masks, shape) == 1 - left / measure.count_parameters(model)


@pytest.mark.parametrize(
    "variant", ["dropout", "attention dropout", "drop path", "patch drop", "layer scale"]
)
def test_what_a_model_has_for_its_training_stays_behind_gates_and_in_a_slim_model(variant):
    model = foreign_models.build(variant).train()
    images, shape = foreign_models.images_for(model), slim.shape_of(model)
    masks = slim.uniform(shape, 0.5, ("attention_input", "mlp_input"))

    def trained(model):  # with the same random numbers
        torch.manual_seed(0)
        return model(images)

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        open_gates = gates.masked(model, {**slim.full(shape), "blocks.1": torch.tensor([True])})
        foreign_models.assert_close(trained(open_gates), trained(model))
        small, masked = slim.slim(model, masks), gates.masked(model, masks)
        foreign_models.assert_close(trained(small), trained(masked))
        if "drop" in variant:
            assert not torch.allclose(trained(small), small.eval()(images))


def test_a_foreign_model_gets_its_own_weights_back_from_behind_gates():
    model = foreign_models.build("layer scale")
    plain = gates.without(gates.masked(model, {"blocks.0": torch.tensor([True])}))
    assert [type(module) for module in plain.modules()] == [type(m) for m in model.modules()]
    for name, parameter in model.named_parameters():
        assert torch.equal(plain.get_parameter(name), parameter), name


@pytest.mark.parametrize("variant", ["no classes", "all tokens"])
def test_scores_by_the_outputs_of_a_model_without_logits_are_one_line(variant):
    model = foreign_models.build(variant)
    images = foreign_models.images_for(model)
    for call in (
        lambda: importance.taylor_scores(model, images, torch.arange(4)),
        lambda: importance.kl_scores(model, images, 2),
    ):
        with pytest.raises(UserError, match=r"head is .*need one vector of logits an image"):
            call()
    assert set(importance.magnitude_scores(model)) == set(slim.full(slim.shape_of(model)))


def test_a_share_of_a_foreign_model_that_is_asked_for_really_goes():
    model = foreign_models.build("no qkv bias")
    shape = slim.shape_of(model)
    masks = slim.select(importance.magnitude_scores(model), shape, 0.3)
    left = measure.count_parameters(slim.slim(model, masks))
    assert 0.3 <= 1 - left / measure.count_parameters(model) <= 0.3 + slim.SLACK


def test_a_model_without_a_description_is_not_written_to_a_file(tmp_path):
    with pytest.raises(UserError, match="VisionTransformer has no description that a file"):
        models.save(foreign_models.build("plain"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_macs_of_a_rectangle_are_those_of_its_tokens():
    model = foreign_models.build("rectangle")
    tokens, width = 4 * 2 + 1, 32
    blocks = 2 * (tokens * (4 * width**2 + 8 * width**2) + 2 * tokens**2 * width)
    assert measure.count_macs(model, (32, 16), 3) == blocks + 8 * 3 * 8**2 * width + width * 5
