import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import CotangentError, ImplicitError


def kepler(e, m):
    """The eccentric anomaly E with E - e sin E = M."""
    return ag.custom_root(lambda x: x - e * np.sin(x) - m, np.zeros(np.shape(m)))


def test_the_derivatives_of_a_root_by_what_the_equation_captures():
    ag.check_grads(kepler, 0.3, np.array([0.5, 2.0]), order=3)


def test_a_system_of_equations_against_its_closed_form():
    a = np.array([[3.0, 1.0], [0.5, 2.0]])

    def solve(a, b):
        return ag.custom_root(lambda x: a @ x - b, np.zeros(2))

    b = np.array([1.0, -2.0])
    np.testing.assert_allclose(solve(a, b), np.linalg.solve(a, b))
    for argnum in (0, 1):
        got = ag.jacobian(solve, argnum)(a, b)
        np.testing.assert_allclose(got, ag.jacobian(np.linalg.solve, argnum)(a, b), rtol=1e-10, atol=1e-12)
    ag.check_grads(solve, a, b, order=2)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_every_order_is_exact(order, mode):
    f = lambda a: ag.custom_root(lambda x: x * x - a, 1.0)  # noqa: E731
    for _ in range(order):
        f = ag.grad(f) if mode == "reverse" else ag.derivative(f)
    expected = {1: 0.5, 2: -0.25, 3: 0.375, 4: -0.9375}[order] * 2.0 ** (0.5 - order)
    assert float(f(2.0)) == pytest.approx(expected, rel=1e-12)


def test_the_tape_reaches_a_captured_leaf_through_a_foreign_solver():
    optimize = pytest.importorskip("scipy.optimize", reason="the peer whose solver is called")
    a = ag.tensor(2.0, requires_grad=True)
    x = ag.custom_root(lambda x: np.exp(x) - a, 0.0, lambda f, x0: optimize.root(f, x0).x)
    (x * x).backward()
    assert float(a.grad) == pytest.approx(np.log(2.0))


def test_a_minimum_and_the_second_derivative_through_it():
    def best(theta):
        return ag.custom_root(ag.grad(lambda x: np.sum((x - theta) ** 2 + 0.1 * x**4)), np.zeros(2))

    ag.check_grads(best, np.array([1.0, -0.5]), order=2)


def test_errors_say_what_failed():
    with pytest.raises(ImplicitError, match="singular"):
        ag.custom_root(lambda x: x**2, 0.0)
    with pytest.raises(ImplicitError, match="converge"):
        ag.custom_root(lambda x: x * x + 1.0, 0.5)
    with pytest.raises(CotangentError, match="shape"):
        ag.custom_root(lambda x: np.sum(x), np.zeros(2))


def test_nothing_tracked_gives_an_array():
    assert isinstance(ag.custom_root(lambda x: x - 2.0, np.zeros(3)), np.ndarray)
