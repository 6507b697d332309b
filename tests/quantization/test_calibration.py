"""How much the calibration images matter: which sets are drawn, and what is measured of each."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitstudy.data import Split
from vitstudy.quantization import calibration


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        (2_048, [32, 64, 128, 256, 512, 1_024]),  # CIFAR: up to 1,024, as FQ-ViT takes
        (200, [32, 64, 100]),
        (128, [32, 64]),
        (64, [32]),
        (20, [10]),
        (1, [1]),
    ],
)
def test_sizes_double_from_32_to_half_of_what_there_is(available, expected):
    assert calibration.sizes(available) == expected


@given(st.integers(2, 10_000))
def test_no_size_is_more_than_half_and_none_comes_twice(available):
    found = calibration.sizes(available)
    assert found == sorted(set(found)) and found[-1] == available // 2


def context(count: int = 12, validation: int = 4):
    """Images that are their own number; a model is a function of the validation images."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1)
    labels = torch.tensor([0, 1, 0, 1])[:validation]
    splits = {
        "calibration": Split(images, torch.zeros(count, dtype=torch.int64), None),
        "validation": Split(images[:validation], labels, None),
    }
    data = SimpleNamespace(**splits, normalise=lambda images, size: images.float())
    profile = SimpleNamespace(architecture=SimpleNamespace(image_size=1))
    return SimpleNamespace(
        data=data, profile=profile, evaluate=lambda model, split: model(split.images)
    )


def test_a_model_is_measured_against_the_float_logits_and_the_labels():
    logits = torch.tensor([[3.0, 0], [0, 4], [0, 1], [0, 2]])  # right, right, wrong, right
    mine = torch.tensor([[3.0, 0], [1, 0], [1, 0], [0, 2]])  # right, wrong, right, right
    found = calibration.on_validation(context(), logits, lambda images: mine)
    assert found["validation_images"] == 4
    assert found["validation_accuracy_float"] == 0.75
    assert found["validation_accuracy"] == 0.75
    assert found["agreement"] == 0.5
    assert found["logit_sqnr"] == pytest.approx(10 * np.log10(30 / (1 + 16 + 1 + 1)))


def test_a_draws_smaller_sets_begin_its_larger_ones_and_draws_differ(monkeypatch):
    monkeypatch.setattr(calibration, "SMALLEST", 2)
    seen = []

    def quantized(images):
        seen.append(images.flatten().int().tolist())
        return lambda images: torch.eye(2)[[0, 1, 0, 1]]

    logits = torch.eye(2)[[0, 1, 0, 1]]
    found = calibration.by_size(context(), logits, quantized, draws=3)
    assert found["calibration_sizes"].tolist() == [2, 4, 6]
    assert [len(each) for each in seen] == [2, 4, 6] * 3
    for start in (0, 3, 6):
        two, four, six = seen[start : start + 3]
        assert six[:4] == four and four[:2] == two and len(set(six)) == 6
    assert len({tuple(seen[position]) for position in (2, 5, 8)}) == 3
    assert (found["calibration_validation_accuracy"] == np.ones((3, 3))).all()
    assert np.isinf(found["calibration_logit_sqnr"]).all()
