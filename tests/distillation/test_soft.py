"""Soft distillation: Eq. 4 by hand, both directions, temperature, the survey's form."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from vitstudy.distillation.soft import divergence, soft_loss, soft_targets, survey_loss


def logits(seed, images=5, classes=7, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(images, classes, generator=generator, dtype=torch.float64)


def kl(p, q):
    """Σ p log(p / q), by Python alone."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_equation_4_by_hand():
    # softmax of (0, ln 4) is (1/5, 4/5); at τ = 2 it is that of (0, ln 2): (1/3, 2/3)
    student = torch.tensor([[0.0, math.log(4)]], dtype=torch.float64)
    teacher = torch.tensor([[math.log(9), 0.0]], dtype=torch.float64)  # at τ = 2: (3/4, 1/4)
    value = soft_loss(student, teacher, torch.tensor([1]), temperature=2.0, weight=0.25)
    by_labels, by_teacher = -math.log(4 / 5), kl((1 / 3, 2 / 3), (3 / 4, 1 / 4))
    assert value.item() == pytest.approx(0.75 * by_labels + 0.25 * 4 * by_teacher, rel=1e-12)
    usual = soft_loss(
        student, teacher, torch.tensor([1]), temperature=2.0, weight=0.25, expectation="teacher"
    )
    by_teacher = kl((3 / 4, 1 / 4), (1 / 3, 2 / 3))
    assert usual.item() == pytest.approx(0.75 * by_labels + 0.25 * 4 * by_teacher, rel=1e-12)


@given(st.integers(0, 10_000), st.floats(0.1, 20))
def test_the_directions_are_the_two_arguments_exchanged_and_pytorchs_own(seed, temperature):
    student, teacher = logits(seed), logits(seed + 1)
    log_s, log_t = ((z / temperature).log_softmax(-1) for z in (student, teacher))
    usual = temperature**2 * F.kl_div(log_s, log_t, log_target=True, reduction="batchmean")
    found = divergence(student, teacher, temperature, expectation="teacher")
    torch.testing.assert_close(found, usual)
    torch.testing.assert_close(found, divergence(teacher, student, temperature))
    elements = divergence(student, teacher, temperature, expectation="teacher", per_class=True)
    torch.testing.assert_close(elements * student.shape[1], usual)


@given(st.integers(0, 10_000), st.sampled_from(["student", "teacher"]))
def test_a_student_that_is_its_teacher_has_no_divergence_and_no_gradient(seed, expectation):
    student = logits(seed).requires_grad_()
    value = divergence(student, student.detach() + 5.0, 3.0, expectation=expectation)
    value.backward()
    assert abs(value.item()) < 1e-12 and student.grad.abs().max() < 1e-12
    other = divergence(student, logits(seed + 1), 3.0, expectation=expectation)
    assert other > 0


def test_weight_0_is_training_without_a_teacher_and_weight_1_without_labels():
    student, teacher, labels = logits(0), logits(1), torch.arange(5)
    given = {"temperature": 4.0, "label_smoothing": 0.1}
    alone = F.cross_entropy(student, labels, label_smoothing=0.1)
    assert torch.equal(soft_loss(student, teacher, labels, weight=0.0, **given), alone)
    taught = soft_loss(student, teacher, labels, weight=1.0, **given)
    assert torch.equal(taught, divergence(student, teacher, 4.0))


def test_the_square_of_the_temperature_keeps_the_gradients_size():
    # For hot targets the gradient by Z_s tends to (Z_s - Z_t) / C, both centred (Hinton, Eq. 4).
    student, teacher = logits(0, images=1).requires_grad_(), logits(1, images=1)
    centred = (student - student.mean()) - (teacher - teacher.mean())
    for expectation in ("student", "teacher"):
        for temperature in (1e3, 1e4):
            value = divergence(student, teacher, temperature, expectation=expectation)
            (gradient,) = torch.autograd.grad(value, student)
            torch.testing.assert_close(gradient, (centred / 7).detach(), rtol=0.02, atol=1e-2)


def test_temperature_makes_targets_alike_and_keeps_their_order():
    z = logits(3)
    assert torch.equal(soft_targets(z, 1.0), z.softmax(-1))
    previous = torch.full((5,), -1.0, dtype=torch.float64)
    for temperature in (0.5, 1, 2, 4, 8):
        p = soft_targets(z, temperature)
        entropy = -(p * p.log()).sum(-1)
        assert (entropy > previous).all()
        assert torch.equal(p.argsort(-1), z.argsort(-1))
        previous = entropy
    torch.testing.assert_close(soft_targets(z, 1e9), torch.full_like(z, 1 / 7))


def test_the_surveys_loss_is_hintons_at_temperature_1_plus_a_constant():
    student, teacher, labels = logits(0).requires_grad_(), logits(1), torch.arange(5)
    p = teacher.softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean()
    usual = F.cross_entropy(student, labels) + divergence(student, teacher, expectation="teacher")
    value = survey_loss(student, teacher, labels)
    torch.testing.assert_close(value, usual + entropy)
    gradients = [torch.autograd.grad(each, student)[0] for each in (value, usual)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_not_above_0_is_refused(temperature):
    with pytest.raises(ValueError, match=r"temperature τ is .*valid: a finite number above 0"):
        divergence(logits(0), logits(1), temperature)
    with pytest.raises(ValueError, match="temperature τ"):
        soft_targets(logits(0), temperature)
    with pytest.raises(ValueError, match="temperature τ"):
        soft_loss(logits(0), logits(1), torch.arange(5), temperature=temperature, weight=0.5)


@pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
def test_a_weight_outside_0_to_1_is_refused(weight):
    with pytest.raises(ValueError, match=r"weight λ of distillation is .*valid: 0"):
        soft_loss(logits(0), logits(1), torch.arange(5), temperature=1.0, weight=weight)


def test_other_classes_and_other_directions_are_refused():
    with pytest.raises(ValueError, match="teacher tells 9 classes apart, the student 7"):
        divergence(logits(0), logits(1, classes=9))
    with pytest.raises(ValueError, match="teacher tells 9 classes apart"):
        survey_loss(logits(0), logits(1, classes=9), torch.arange(5))
    with pytest.raises(ValueError, match="of 5 images, the teacher's of 4"):
        divergence(logits(0), logits(1, images=4))
    with pytest.raises(ValueError, match="'both' is unknown; valid: 'student', 'teacher'"):
        divergence(logits(0), logits(1), expectation="both")
