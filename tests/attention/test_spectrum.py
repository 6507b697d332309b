"""What is said of a matrix's rank, on matrices whose rank is known."""

import torch

from vitstudy.attention import nystrom, spectrum


def test_the_spectrum_of_a_diagonal_matrix_by_hand():
    matrix = torch.diag(torch.tensor([4.0, 0.0, 3.0], dtype=torch.float64))[None, None]
    values, best = spectrum.spectrum(matrix)
    torch.testing.assert_close(values, torch.tensor([1, 0.75, 0]).double())
    torch.testing.assert_close(best, torch.tensor([1, 0.6, 0, 0]).double())


def test_the_spectrum_is_a_mean_over_matrices():
    eye = torch.eye(2, dtype=torch.float64)
    one = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    values, best = spectrum.spectrum(torch.stack([eye, one]))
    torch.testing.assert_close(values, torch.tensor([1, 0.5]).double())
    torch.testing.assert_close(best[1], torch.tensor(0.5**0.5 / 2).double())


def test_shuffled_rows_have_the_same_entries_row_by_row_in_another_order():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, 20, 20, generator=generator).softmax(-1)
    shuffled = spectrum.shuffled_rows(matrix, generator)
    assert torch.equal(shuffled.sort(-1).values, matrix.sort(-1).values)
    assert not torch.equal(shuffled, matrix)


def test_residuals_are_those_of_the_iterative_inverse_step_by_step():
    q, k = torch.randn(2, 2, 3, 10, 4, generator=torch.Generator().manual_seed(0)).double()
    found = spectrum.residuals(q, k, 5, 0.5, 0)
    assert found.shape == (spectrum.ITERATIONS + 1,)
    a = nystrom.landmark_kernel(nystrom.landmarks(q, 5), nystrom.landmarks(k, 5), 0.5)
    for iterations in (0, 1, 6):
        z = nystrom.iterative_inverse(a, iterations)
        expected = ((a @ z @ a - a).norm(dim=(-2, -1)) / a.norm(dim=(-2, -1))).mean()
        torch.testing.assert_close(found[iterations], expected)


def test_numbers_of_landmarks_go_from_one_to_all_tokens():
    for tokens in (17, 65, 197):
        found = spectrum.numbers_of_landmarks(tokens)
        assert found == sorted(set(found)) and (found[0], found[-1]) == (1, tokens)
        assert {m for m in (24, 32, 64) if m <= tokens} <= set(found)
