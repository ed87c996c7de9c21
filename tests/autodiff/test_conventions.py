"""The statements of docs/derivatives.md that no other file tests."""

import numpy as np
import pytest

import allgrad as ag


def test_a_step_against_the_conjugate_descends():
    def f(z):
        return np.abs(z - (1.0 + 2.0j)) ** 2

    z = 3.0 - 1.0j
    assert f(z - 0.1 * np.conj(ag.grad(f)(z))) < f(z)
    z = 0.3 + 0.7j
    assert ag.grad(lambda z: np.real(z**3))(z) == pytest.approx(3 * z**2)


def test_a_vjp_is_the_transpose_of_the_jvp_without_conjugation():
    rng = np.random.default_rng(0)
    z, t, c = (rng.standard_normal(3) + 1j * rng.standard_normal(3) for _ in range(3))
    f = lambda z: np.conj(z) * np.abs(z)  # noqa: E731
    pulled = ag.vjp(f, z)[1](c)[0]
    assert np.real(np.sum(c * ag.jvp(f, (z,), (t,))[1])) == pytest.approx(np.real(np.sum(pulled * t)))


def test_ties():
    assert ag.grad(np.max)(np.array([1.0, 1.0, 0.0])).tolist() == [0.5, 0.5, 0.0]
    assert ag.grad(lambda x: np.sum(np.maximum(x, 1.0)))(np.ones(2)).tolist() == [0.5, 0.5]
    assert ag.grad(lambda x: np.sum(np.clip(x, 1, 2)))(np.ones(1)).tolist() == [0.5]
    assert ag.grad(np.abs)(0.0) == 0.0
    assert ag.grad(lambda x: np.sort(x)[0])(np.ones(2)).tolist() == [1.0, 0.0]


def test_singular_points():
    x = np.array([0.0, 4.0])
    assert ag.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))(x).tolist() == [0.0, 0.25]
    assert ag.grad(np.linalg.norm)(np.zeros(2)).tolist() == [0.0, 0.0]
    assert ag.grad(np.sqrt)(0.0) == np.inf
    assert ag.grad(np.prod)(np.array([0.0, 2.0, 3.0])).tolist() == [6.0, 0.0, 0.0]
    assert ag.grad(lambda x: x**0)(0.0) == 0.0


@pytest.mark.parametrize("f", [np.linalg.cholesky, np.linalg.eigvalsh, lambda a: np.linalg.eigh(a).eigenvalues])
def test_one_triangle_stands_for_a_symmetric_matrix(f):
    a = np.array([[2.0, 0.5], [0.5, 3.0]])
    lopsided = a + np.triu(np.ones((2, 2)), 1)
    weights = np.arange(1.0, 1.0 + f(a).size).reshape(f(a).shape)
    gradient = ag.grad(lambda a: np.sum(f(a) * weights))
    np.testing.assert_allclose(gradient(lopsided), gradient(a))
    np.testing.assert_allclose(gradient(a), gradient(a).T)


def test_views_and_copies_are_numpys_choice():
    def f(x):
        y = x * 1.0
        np.einsum("ii->i", y)[0] = 7.0
        np.einsum("ij->ji", y)[1] *= 2.0
        y[[0]][0] = 100.0
        return y

    x = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(ag.vjp(f, x)[0], f(x))
    ag.check_grads(f, x)
