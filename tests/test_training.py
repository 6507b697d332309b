"""Training: what it does to images, its schedule, and that a killed one ends as an undisturbed."""

import dataclasses
import logging
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from vitstudy import data, measure, models, profiles, training
from vitstudy.errors import TrainingFailed
from vitstudy.profiles import Recipe

SMOKE = profiles.get("smoke")


class Draws:
    """What `augment` draws, put in its hands."""

    def __init__(self, monkeypatch, rows, columns, mirrored=()):
        shifts = torch.tensor([rows, columns])[..., None]
        monkeypatch.setattr(torch, "randint", lambda *a, **k: shifts)
        coins = torch.tensor([0.0 if each else 0.9 for each in mirrored])[:, None]
        monkeypatch.setattr(torch, "rand", lambda *a, **k: coins)


def image() -> torch.Tensor:
    return torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3)


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        (1, 1, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
        (0, 1, [[0, 0, 0], [1, 2, 3], [4, 5, 6]]),
        (2, 1, [[4, 5, 6], [7, 8, 9], [0, 0, 0]]),
        (1, 2, [[2, 3, 0], [5, 6, 0], [8, 9, 0]]),
        (0, 0, [[0, 0, 0], [0, 1, 2], [0, 4, 5]]),
    ],
)
def test_augment_shifts_and_fills_with_black(monkeypatch, row, column, expected):
    Draws(monkeypatch, [row], [column])
    found = training.augment(image(), 1, False, None)
    assert found.dtype == torch.uint8
    assert found[0, 0].tolist() == expected


def test_augment_mirrors_what_it_shifted(monkeypatch):
    Draws(monkeypatch, [1, 1, 1], [1, 1, 2], [True, False, True])
    found = training.augment(image().repeat(3, 1, 1, 1), 1, True, None)[:, 0]
    assert found[0].tolist() == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    assert found[1].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert found[2].tolist() == [[0, 3, 2], [0, 6, 5], [0, 9, 8]]


@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.booleans(), st.integers(0, 2**31)
)
def test_each_augmented_image_is_a_shift_of_its_own_possibly_mirrored(
    batch, channels, shift, flip, seed
):
    images = torch.randint(1, 255, (batch, channels, 6, 5)).byte()
    generator = torch.Generator().manual_seed(seed)
    found = training.augment(images, shift, flip, generator)
    assert found.shape == images.shape
    padded = F.pad(images, (shift,) * 4)
    for before, after in zip(padded, found, strict=True):
        possible = [
            before[:, row : row + 6, column : column + 5]
            for row in range(2 * shift + 1)
            for column in range(2 * shift + 1)
        ]
        possible += [each.flip(2) for each in possible] if flip else []
        assert any(torch.equal(after, each) for each in possible)


def test_augment_draws_every_shift_and_mirrors_half():
    images = torch.zeros(4_000, 1, 5, 7, dtype=torch.uint8)
    images[:, :, 2, 2:4] = torch.tensor([1, 2], dtype=torch.uint8)
    found = training.augment(images, 1, True, torch.Generator().manual_seed(0))
    where = {tuple(each) for each in (found == 1).nonzero()[:, 2:].tolist()}
    assert where == {(r, c) for r in (1, 2, 3) for c in (1, 2, 3, 4, 5) if c != 3} | {
        (r, 3) for r in (1, 2, 3)
    }
    mirrored = (found[..., :-1].eq(2) & found[..., 1:].eq(1)).flatten(1).any(1).float().mean()
    assert mirrored == pytest.approx(0.5, abs=0.03)


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 5))
def test_an_epoch_of_batches_has_no_image_twice_and_the_next_another_order(length, size, seed):
    per_epoch = max(1, length // size)
    found = list(training.batches(length, size, seed, 0, 2 * per_epoch))
    for epoch in (found[:per_epoch], found[per_epoch:]):
        shown = torch.cat(epoch)
        assert len(shown.unique()) == len(shown) == per_epoch * min(size, length)
        assert shown.max() < length
    assert all(len(each) == min(size, length) for each in found)
    if length >= 20 and length >= size:
        assert not torch.equal(torch.cat(found[:per_epoch]), torch.cat(found[per_epoch:]))


@given(st.integers(1, 50), st.integers(1, 16), st.integers(0, 30), st.integers(0, 30))
def test_batches_from_a_later_step_are_those_that_would_have_come(length, size, first, more):
    whole = list(training.batches(length, size, 3, 0, first + more))
    rest = list(training.batches(length, size, 3, first, first + more))
    assert [each.tolist() for each in rest] == [each.tolist() for each in whole[first:]]


def test_schedule_rises_to_one_and_falls_to_its_last_step():
    recipe = Recipe(steps=100, batch_size=1, warmup=0.2)
    factor = training.warmup_then_linear(recipe)
    values = [factor(step) for step in range(100)]
    assert values[0] == pytest.approx(1 / 20)
    assert values[19] == pytest.approx(1) == pytest.approx(values[20])
    assert values[60] == pytest.approx(0.5)
    assert values[99] == pytest.approx(1 / 80)
    assert factor(100) == 0
    assert values[:20] == sorted(values[:20]) and values[20:] == sorted(values[20:], reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_schedule_too(steps):
    factor = training.warmup_then_linear(Recipe(steps=steps, batch_size=1))
    assert all(0 < factor(step) <= 1 for step in range(steps))


def names_of(model, groups) -> list[list[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names[id(each)] for each in group["params"]] for group in groups]


def test_optimisers_have_every_parameter_once_and_muon_the_blocks_matrices():
    model = models.build(SMOKE.architecture, 10, 1)
    model.norm.bias.requires_grad_(False)
    adam, muon = training.optimisers(model, SMOKE.recipes[0])
    decayed, others = names_of(model, adam.param_groups)
    (matrices,) = names_of(model, muon.param_groups)
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert sorted([*decayed, *others, *matrices]) == sorted(trained)
    kinds = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert set(matrices) == {f"blocks.{n}.{kind}.weight" for n in (0, 1) for kind in kinds}
    assert {"cls_token", "pos_embed", "head.bias", "blocks.0.norm1.weight"} <= set(others)
    assert "head.weight" in decayed and "patch_embed.layers.0.weight" in decayed
    assert [group["weight_decay"] for group in adam.param_groups] == [0.05, 0]


def test_without_a_matrix_learning_rate_adam_has_them_all():
    model = models.build(SMOKE.architecture, 10, 1)
    recipe = dataclasses.replace(SMOKE.recipes[0], matrix_learning_rate=0)
    (adam,) = training.optimisers(model, recipe)
    decayed, others = names_of(model, adam.param_groups)
    assert sorted([*decayed, *others]) == sorted(name for name, _ in model.named_parameters())
    assert "blocks.1.mlp.fc2.weight" in decayed


# -- fit ------------------------------------------------------------------------------------------


@pytest.fixture
def digits(in_smoke):
    return data.load("digits", SMOKE.limit)


RECIPE = dataclasses.replace(SMOKE.recipes[0], steps=20, batch_size=8)


def noisy(model, images, labels, indices):
    """A loss that draws random numbers, as dropout does."""
    return F.cross_entropy(model(images), labels) * (1 + 0.1 * torch.rand(()))


def fitted(digits, *, seed=0, **options):
    torch.manual_seed(7)
    model = models.build(SMOKE.architecture, 10, 1)
    options = {"recipe": RECIPE, "loss": noisy, **options}
    took = training.fit(model, digits, seed=seed, name="test", **options)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, took


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_training_lowers_the_loss_and_says_what_it_took(digits):
    torch.manual_seed(7)
    model = models.build(SMOKE.architecture, 10, 1)
    loss = training.cross_entropy(0)
    images = digits.normalise(digits.train.images)
    before = loss(model, images, digits.train.labels, None).item()
    recipe = dataclasses.replace(RECIPE, steps=80, batch_size=16)
    took = training.fit(model, digits, recipe, seed=0, name="test")
    assert not model.training
    assert loss(model, images, digits.train.labels, None).item() < before - 0.5
    assert took["steps"] == 80 and took["images_seen"] == 1_280 and took["seconds"] > 0


def test_the_same_seed_trains_the_same_model_and_another_seed_another(digits):
    torch.rand(3)
    one, _ = fitted(digits)
    assert same(one, fitted(digits)[0])
    assert not same(one, fitted(digits, seed=1)[0])


def test_cutmix_mixes_its_share_of_the_batches_and_labels_by_area(digits):
    # Each image is filled with its class, so the share of a class's pixels is known.
    classes = torch.arange(len(digits.train)) % 10
    images = classes[:, None, None, None].expand(digits.train.images.shape).byte().contiguous()
    train = dataclasses.replace(digits.train, images=images, labels=classes)
    spec = dataclasses.replace(digits.spec, shift=0, mean=(0.0,), std=(1 / 255,))
    filled = dataclasses.replace(digits, train=train, spec=spec)
    mixed = []

    def loss(model, images, labels, indices):
        known = F.one_hot(images.round().long().flatten(1), 10).float().mean(1)
        if labels.ndim == 1:
            assert torch.equal(known, F.one_hot(labels, 10).float())
            assert torch.equal(labels, classes[indices])
        else:
            torch.testing.assert_close(labels, known)
        mixed.append(labels.ndim == 2)
        return F.cross_entropy(model(images), labels)

    for share, steps, least, most in ((0.0, 10, 0, 0), (0.5, 60, 18, 42), (1.0, 10, 10, 10)):
        mixed.clear()
        fitted(filled, recipe=dataclasses.replace(RECIPE, steps=steps, cutmix=share), loss=loss)
        assert least <= sum(mixed) <= most


@pytest.mark.parametrize(
    ("killed_at", "bf16", "cutmix"),
    [(1, False, 0), (7, False, 0.5), (19, False, 0), (7, True, 0)],
)
def test_a_killed_training_goes_on_to_the_weights_of_an_undisturbed_one(
    digits, tmp_path, monkeypatch, killed_at, bf16, cutmix
):
    given = {"recipe": dataclasses.replace(RECIPE, bf16=bf16, cutmix=cutmix)}
    undisturbed, _ = fitted(digits, **given)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    seen = []

    def killed(*arguments):
        seen.append(1)
        if len(seen) > killed_at:
            raise KeyboardInterrupt
        return noisy(*arguments)

    checkpoint = tmp_path / "stage0.pt"
    with pytest.raises(KeyboardInterrupt):
        fitted(digits, loss=killed, checkpoint=checkpoint, **given)
    assert checkpoint.exists()
    steps = []

    def counted(*arguments):
        steps.append(1)
        return noisy(*arguments)

    resumed, took = fitted(digits, loss=counted, checkpoint=checkpoint, **given)
    assert len(steps) == 20 - killed_at
    assert same(resumed, undisturbed)
    assert took["images_seen"] == 160
    # Killed after its end, before the result was safe: nothing is trained, the weights are there.
    again, _ = fitted(digits, loss=None, checkpoint=checkpoint, **given)
    assert same(again, undisturbed)


def test_bf16_on_a_cpu_computes_attention_as_plain_products_and_only_while_it_trains(digits):
    model = models.build(SMOKE.architecture, 10, 1)
    settings = []

    def watched(model, images, labels, indices):
        settings.append([block.attn.fused_attn for block in model.blocks])
        if len(settings) == 2:
            raise KeyboardInterrupt
        return F.cross_entropy(model(images), labels)

    before = [block.attn.fused_attn for block in model.blocks]
    recipe = dataclasses.replace(RECIPE, bf16=True)
    with pytest.raises(KeyboardInterrupt):
        training.fit(model, digits, recipe, seed=0, name="test", loss=watched)
    assert before == [True] * len(before)
    assert settings == [[False] * len(before)] * 2
    assert [block.attn.fused_attn for block in model.blocks] == before


def test_bf16_on_a_cpu_learns_what_float32_learns(digits):
    recipe = dataclasses.replace(RECIPE, steps=3)
    exact, _ = fitted(digits, recipe=recipe)
    rounded, _ = fitted(digits, recipe=dataclasses.replace(recipe, bf16=True))
    torch.manual_seed(7)
    start = models.build(SMOKE.architecture, 10, 1).state_dict()
    weights = [name for name in start if "weight" in name]
    one, two = (
        torch.cat([(found[name] - start[name]).flatten() for name in weights])
        for found in (exact, rounded)
    )
    assert not torch.equal(one, two)
    # Muon and Adam both scale small gradients up, rounding errors with them.
    assert F.cosine_similarity(one, two, dim=0) > 0.9


@pytest.mark.parametrize("content", [b"", b"half a checkpoint", None])
def test_a_damaged_checkpoint_starts_the_training_again(digits, tmp_path, content):
    checkpoint = tmp_path / "stage0.pt"
    undisturbed, _ = fitted(digits, checkpoint=checkpoint)
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2] if content is None else content)
    again, _ = fitted(digits, checkpoint=checkpoint)
    assert same(again, undisturbed)


def test_a_checkpoint_is_never_unpickled_into_anything_but_tensors(digits, tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    checkpoint = tmp_path / "stage0.pt"
    checkpoint.write_bytes(pickle.dumps({"step": Evil()}, 2))
    fitted(digits, checkpoint=checkpoint)


def test_a_loss_that_is_no_number_fails_the_training(digits):
    def broken(model, images, labels, indices):
        return model(images).sum() * float("nan")

    with pytest.raises(TrainingFailed, match=r"the loss of test is nan at step 10"):
        fitted(digits, loss=broken)


def test_training_leaves_torchs_random_numbers_and_threads(digits):
    torch.manual_seed(7)
    model = models.build(SMOKE.architecture, 10, 1)
    expected, count = torch.get_rng_state(), torch.get_num_threads()
    training.fit(model, digits, RECIPE, seed=0, name="test")
    assert torch.equal(torch.get_rng_state(), expected)
    assert torch.get_num_threads() == count


def test_threads_are_set_within_and_restored_even_by_an_error():
    before = torch.get_num_threads()

    def fail_within() -> None:
        with training.threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert torch.get_num_threads() == before
    with training.threads(0):
        assert torch.get_num_threads() == before


def test_evaluate_gives_every_image_in_its_order_whatever_the_batch(digits):
    model = models.build(SMOKE.architecture, 10, 1)
    torch.nn.init.normal_(model.head.weight)
    model.train()
    logits = training.evaluate(model, digits, digits.test)
    assert logits.shape == (128, 10) and logits.dtype == torch.float32
    assert not model.training
    few = training.evaluate(model, digits, digits.test, batch_size=50)
    assert torch.allclose(logits, few, atol=1e-5)
    last = training.evaluate(model, digits, data.Split(*_last(digits.test)))
    assert torch.allclose(logits[-1:], last, atol=1e-5)


def _last(split):
    return split.images[-1:], split.labels[-1:], np.asarray(split.sources[-1:])


def test_label_smoothing_by_hand():
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    loss = training.cross_entropy(0.3)(lambda images: logits, None, torch.tensor([0]), None)
    log_sum = math.log(math.exp(2) + 2)
    assert loss.item() == pytest.approx(log_sum - (0.7 + 0.1) * 2)


@pytest.mark.parametrize("sets", [["avx2"], ["avx2", "avx512_bf16"]])
def test_bfloat16_is_never_imitated_in_silence(digits, monkeypatch, caplog, sets):
    monkeypatch.setattr(measure, "instruction_sets", lambda: sets)
    logging.getLogger("vitstudy").propagate = True
    fitted(digits, recipe=dataclasses.replace(RECIPE, steps=1, bf16=True))
    said = "test: this CPU imitates bfloat16, many times slower than float32"
    assert (said in caplog.messages) == (len(sets) == 1)
    caplog.clear()
    fitted(digits, recipe=dataclasses.replace(RECIPE, steps=1))
    assert caplog.messages == []
