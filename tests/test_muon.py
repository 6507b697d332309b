"""Muon: the iteration against the singular values, and a step against PyTorch's own."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitstudy import muon


def test_orthogonalize_keeps_the_singular_vectors_and_moves_the_values_near_one():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 6, 9, generator=generator, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    values = u.mT @ muon.orthogonalize(matrices) @ vh.mT  # diagonal, if the vectors are kept
    diagonal = values.diagonal(dim1=-2, dim2=-1)
    assert torch.allclose(values, torch.diag_embed(diagonal), atol=1e-10)
    assert diagonal.min() > 0.3 and diagonal.max() < 1.3


def test_orthogonalize_is_the_quintic_polynomial_of_each_singular_value():
    values = torch.tensor([0.8, 0.5, 0.3], dtype=torch.float64)
    expected = values / values.norm()
    a, b, c = muon.COEFFICIENTS
    for _ in range(muon.ITERATIONS):
        expected = a * expected + b * expected**3 + c * expected**5
    found = muon.orthogonalize(torch.diag(values)[None])[0]
    assert torch.allclose(found, torch.diag(expected), atol=1e-12)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1_000))
def test_a_tall_matrix_is_the_transpose_of_a_wide_one_and_none_depends_on_the_others(
    rows, columns, seed
):
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(3, rows, columns, generator=generator, dtype=torch.float64)
    found = muon.orthogonalize(matrices)
    assert torch.allclose(found.mT, muon.orthogonalize(matrices.mT.contiguous()), atol=1e-10)
    assert torch.allclose(found[:1], muon.orthogonalize(matrices[:1]), atol=1e-10)


def test_steps_are_those_of_pytorchs_muon_up_to_its_bfloat16():
    generator = torch.Generator().manual_seed(1)
    shapes = [(8, 4), (4, 8), (8, 4), (6, 6)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    settings = {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.9}
    steps = []
    for optimiser in (muon.Muon, torch.optim.Muon):
        parameters = [torch.nn.Parameter(each.clone()) for each in start]
        made = optimiser(parameters, **settings)
        noise = torch.Generator().manual_seed(2)
        for _ in range(3):
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=noise)
            made.step()
        steps.append(torch.cat([p.detach().flatten() for p in parameters]))
    moved = (steps[1] - torch.cat([each.flatten() for each in start])).norm()
    assert (steps[0] - steps[1]).norm() < 0.02 * moved


def test_a_state_that_is_loaded_goes_on_to_the_same_weights():
    def step(optimiser, parameter, times):
        for _ in range(times):
            parameter.grad = parameter.detach().sin()
            optimiser.step()

    first = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    one = muon.Muon([first], lr=0.1)
    step(one, first, 2)
    second = torch.nn.Parameter(first.detach().clone())
    two = muon.Muon([second], lr=0.5)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    step(one, first, 2)
    step(two, second, 2)
    assert torch.equal(first, second)


def test_a_parameter_that_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match=r"Muon takes matrices, not a shape \(3,\)"):
        muon.Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
