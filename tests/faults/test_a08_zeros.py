"""A zero that meets an infinite derivative: squares of roots at 0, zeros that are limits or underflow, and needless warnings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import allgrad as ag

ZEROS = np.zeros(2)


@pytest.mark.parametrize(
    ("function", "hessian"),
    [
        (lambda w: np.linalg.norm(w) ** 2, 2 * np.eye(2)),
        (lambda w: np.square(np.linalg.norm(w)), 2 * np.eye(2)),
        (lambda w: np.linalg.norm(w) ** 4, np.zeros((2, 2))),
        (lambda w: np.sum(np.linalg.norm(w, axis=0, keepdims=True) ** 2), 2 * np.eye(2)),
        (lambda w: np.linalg.vector_norm(w) ** 2, 2 * np.eye(2)),
        (lambda w: np.sqrt(np.sum(w * w)) ** 2, 2 * np.eye(2)),
        (lambda w: (n := np.linalg.norm(w)) * n, 2 * np.eye(2)),
        (lambda w: np.hypot(w[0], w[1]) ** 2, 2 * np.eye(2)),
        (lambda w: np.sum(np.abs(w) ** 2), 2 * np.eye(2)),
        (lambda w: np.abs(w[0] + 1j * w[1]) ** 2, 2 * np.eye(2)),
        (lambda w: np.std(w) ** 2, np.array([[0.5, -0.5], [-0.5, 0.5]])),
    ],
)
@pytest.mark.parametrize("mode", ["forward over reverse", "reverse over reverse", "forward over forward"])
def test_the_square_of_a_root_has_a_second_derivative_at_zero(function: Any, hessian: Any, mode: str) -> None:
    compute = {
        "forward over reverse": ag.hessian(function),
        "reverse over reverse": ag.jacobian(ag.grad(function)),
        "forward over forward": ag.jacobian(ag.jacobian(function, mode="forward"), mode="forward"),
    }[mode]
    np.testing.assert_allclose(compute(ZEROS), hessian, atol=1e-12)


def test_a_newton_step_with_an_l2_penalty() -> None:
    def loss(w: Any) -> Any:
        return np.sum(w) + 0.5 * np.linalg.norm(w) ** 2

    step = np.linalg.solve(ag.hessian(loss)(ZEROS), ag.grad(loss)(ZEROS))
    np.testing.assert_allclose(ZEROS - step, [-1.0, -1.0])


def test_the_square_of_a_root_that_was_written_to_is_its_new_square() -> None:
    def f(w: Any) -> Any:
        n = np.sqrt(w)
        n[0] = 3.0 * w[0]
        return np.sum(n**2)

    np.testing.assert_allclose(ag.grad(f)(np.array([0.0, 4.0])), [0.0, 1.0])


@pytest.mark.parametrize("f", [lambda x: np.cbrt(x**3), lambda x: np.sqrt(x**2), lambda x: np.sqrt(x * x * x * x)])
def test_both_modes_agree_where_a_zero_is_a_limit(f: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ag.grad(f)(0.0) == ag.derivative(f)(0.0)


@pytest.mark.parametrize(
    ("dtype", "size"), [(np.float64, 1e-200), (np.float64, 1e200), (np.float32, 1e-30), (np.float32, 1e30)]
)
@pytest.mark.parametrize("order", [2, 3])
def test_the_slope_of_a_norm_whose_squares_vanish_or_overflow(dtype: Any, size: float, order: int) -> None:
    x = np.array([3.0, 4.0], dtype)
    expected = ag.grad(lambda v: np.linalg.norm(v, order))(x)
    with np.errstate(over="ignore", under="ignore"):
        got = ag.grad(lambda v: np.linalg.norm(v, order))(x * dtype(size))
        _, tangent = ag.jvp(lambda v: np.linalg.norm(v, order), (x * dtype(size),), (np.array([1.0, 0.0], dtype),))
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(tangent, expected[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: np.sum(np.where(x > 0, np.sqrt(np.abs(x)), 0.0)), np.array([0.0, 4.0])),
        (lambda x: np.sum(np.arctan(x)), np.array([1e200, 1.0])),
        (lambda x: np.sum(x**0.5 * 0.0), np.array([0.0, 1.0])),
        (lambda x: np.sum(np.arctanh(np.where(np.abs(x) < 1, x, 0.0))), np.array([0.5, 1.0])),
    ],
)
def test_right_results_raise_no_warning(f: Any, x: Any) -> None:
    with np.errstate(all="raise"):
        assert np.isfinite(ag.grad(f)(x)).all()
        assert np.isfinite(ag.jvp(f, (x,), (np.ones_like(x),))[1])
        assert np.isfinite(ag.grad(lambda v: np.sum(ag.grad(f)(v)))(x)).all()


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: np.linalg.norm(x), np.zeros(3)),
        (lambda x: np.sum(np.sqrt(x * x)), np.array([0.0, 2.0])),
        (lambda x: np.sum(np.hypot(x, 0.0)), np.array([0.0, 1.0])),
        (lambda x: np.std(x), np.ones(3)),
    ],
)
def test_a_root_at_zero_raises_no_warning_and_has_slope_zero(f: Any, x: Any) -> None:
    with np.errstate(all="raise"):
        gradient = ag.grad(f)(x)
        assert ag.jvp(f, (x,), (np.ones_like(x),))[1] == gradient.sum()
    assert gradient[0] == 0


def test_the_square_of_a_root_that_was_written_through_a_view() -> None:
    def f(w: Any) -> Any:
        n = np.sqrt(w)
        head = n[:1]
        head[0] = 3.0 * w[0]
        return np.sum(n**2) + np.sum(n * n)

    np.testing.assert_allclose(ag.grad(f)(np.array([0.0, 4.0])), [0.0, 2.0])
    np.testing.assert_allclose(ag.jvp(f, (np.array([0.0, 4.0]),), (np.array([1.0, 3.0]),))[1], 6.0)
    np.testing.assert_allclose(ag.hessian(f)(np.array([0.0, 4.0])), [[36.0, 0.0], [0.0, 0.0]], atol=1e-12)
