"""The jacobian of a complex-valued function lost the imaginary part, and that of one that is not holomorphic half of it."""

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import NotDifferentiableError

X = np.array([1.0, -2.0, 0.5])
Z = np.array([1.0 + 2.0j, -0.5 + 0.25j])


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_complex_result_of_real_arguments_has_both_parts(mode):
    expected = np.fft.fft(np.eye(3), axis=0)
    np.testing.assert_allclose(ag.jacobian(np.fft.fft, mode=mode)(X), expected, atol=1e-12)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_holomorphic_function_has_its_complex_derivative(mode):
    np.testing.assert_allclose(ag.jacobian(lambda z: z**3, mode=mode)(Z), np.diag(3 * Z**2))
    np.testing.assert_allclose(ag.derivative(np.exp)(Z), np.exp(Z))


@pytest.mark.parametrize(
    "f", [np.conjugate, lambda z: z * np.abs(z), lambda z: np.real(z) + 0j], ids=["conj", "abs", "real"]
)
def test_a_function_that_is_not_holomorphic_is_refused(f):
    for transform in (ag.jacobian(f), ag.jacobian(f, mode="forward"), ag.derivative(f)):
        with pytest.raises(NotDifferentiableError, match="complex-differentiable"):
            transform(Z)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_real_result_of_complex_arguments_follows_the_convention_of_grad(mode):
    f = lambda z: np.abs(z) ** 2  # noqa: E731
    np.testing.assert_allclose(ag.jacobian(f, mode=mode)(Z), np.diag(2 * np.conjugate(Z)), atol=1e-12)
    np.testing.assert_allclose(ag.derivative(f)(Z), 2 * np.conjugate(Z))
    np.testing.assert_allclose(ag.grad(lambda z: np.sum(f(z)))(Z), 2 * np.conjugate(Z))


def test_a_hessian_that_is_not_holomorphic_is_refused_and_one_that_is_is_right():
    with pytest.raises(NotDifferentiableError, match="complex-differentiable"):
        ag.hessian(lambda z: np.sum(np.abs(z) ** 2))(Z)
    np.testing.assert_allclose(ag.hessian(lambda z: np.real(np.sum(z**3)))(Z), np.diag(6 * Z))


def test_the_check_works_inside_another_transform():
    def f(a):
        return np.real(np.sum(ag.jacobian(lambda z: a * z**2)(Z)))

    ag.check_grads(f, 1.5, order=1)
