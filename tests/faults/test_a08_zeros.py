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


@pytest.mark.parametrize("f", [lambda x: np.sqrt(x**2), lambda x: np.sqrt(x * x * x * x)])
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


def first_and_second(f: Any, x: Any) -> tuple[list[Any], list[Any]]:
    """The first and the second derivatives of f at x, in every mix of modes."""
    x = np.asarray(x, float)
    leaf = ag.tensor(x, requires_grad=True)
    f(leaf).backward()
    first = [leaf.grad, ag.grad(f)(x), ag.jacobian(f, mode="forward")(x)]
    second = [
        ag.jacobian(inner, mode=mode)(x)
        for inner in (ag.grad(f), ag.jacobian(f, mode="forward"))
        for mode in ("reverse", "forward")
    ]
    return first, second


LIMITS = {  # function, point, first derivative, second derivative
    "(2 norm)**2": (lambda w: (2 * np.linalg.norm(w)) ** 2, [0, 0], [0, 0], 8 * np.eye(2)),
    "norm * norm": (lambda w: np.multiply(np.linalg.norm(w), 1.0 * np.linalg.norm(w)), [0, 0], [0, 0], 2 * np.eye(2)),
    "cos(norm)": (lambda w: np.cos(np.linalg.norm(w)), [0, 0], [0, 0], -np.eye(2)),
    "cos(hypot)": (lambda w: np.cos(np.hypot(w[0], w[1])), [0, 0], [0, 0], -np.eye(2)),
    "cos(std)": (lambda w: np.cos(np.std(w)), [1, 1], [0, 0], [[-0.25, 0.25], [0.25, -0.25]]),
    "cos(sqrt(sum))": (lambda w: np.cos(np.sqrt(np.sum(w * w))), [0, 0], [0, 0], -np.eye(2)),
    "sinc(norm)": (lambda w: np.sinc(np.linalg.norm(w)), [0, 0], [0, 0], -(np.pi**2) / 3 * np.eye(2)),
    "sqrt(sum**2)": (lambda w: np.sqrt(np.sum(w * w) ** 2), [0, 0], [0, 0], 2 * np.eye(2)),
    "sqrt(x4)": (lambda x: np.sqrt(x**4), 0, 0, 2),
    "sqrt * sqrt": (lambda x: np.sqrt(x) * np.sqrt(x), 0, 1, 0),
    "sqrt @ sqrt": (lambda x: np.sqrt(x) @ np.sqrt(x), [0, 1], [1, 1], np.zeros((2, 2))),
    "einsum of sqrt": (lambda x: np.einsum("i,i", np.sqrt(x), np.sqrt(x)), [0, 1], [1, 1], np.zeros((2, 2))),
    "cos(sqrt)": (lambda x: np.cos(np.sqrt(x)), 0, -0.5, 1 / 12),
    "sinc(sqrt)": (lambda x: np.sinc(np.sqrt(x)), 0, -(np.pi**2) / 6, np.pi**4 / 60),
    "fourth power of a fourth root": (lambda x: (x**0.25) ** 4, 0, 1, 0),
    "cube of cbrt": (lambda x: np.cbrt(x) ** 3, 0, 1, 0),
    "cbrt of cube": (lambda x: np.cbrt(x**3), 0, 1, 0),
    "cbrt of product": (lambda x: np.cbrt(x * x * x), 0, 1, 0),
    "arccos squared": (lambda x: np.arccos(x) ** 2, 1, -2, 2 / 3),
    "cos(arccos)": (lambda x: np.cos(np.arccos(x)), 1, 1, 0),
    "cosh(arccosh)": (lambda x: np.cosh(np.arccosh(x)), 1, 1, 0),
    "exp(log)": (lambda x: np.exp(np.log(x)), 0, 1, 0),
    "exp(2 log)": (lambda x: np.exp(2 * np.log(x)), 0, 0, 2),
    "log-sum of logs": (lambda x: np.logaddexp(np.log(x), np.log(2 + x)), 0, 1, -1),
    "exp(log1p)": (lambda x: np.exp(np.log1p(x)), -1, 1, 0),
    "a shifted root": (lambda x: (np.sqrt(x) + 1 - 1) ** 2, 0, 1, 0),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_right_or_not_finite_and_never_another_number(name: str) -> None:
    f, x, *want = LIMITS[name]
    for computed, right in zip(first_and_second(f, x), want, strict=True):
        for got in map(np.asarray, computed):
            finite = np.isfinite(got)
            np.testing.assert_allclose(got[finite], np.asarray(right, float)[finite], atol=1e-12)


MASKED = {  # zeros that stay zeros around the point: function, point, first derivative, diagonal of the second
    "where": (lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)), [0, 4], [0, 0.25], [0, -1 / 32]),
    "where, squared": (lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0) ** 2), [0, 4], [0, 1], [0, 0]),
    "where, x log x": (lambda x: np.sum(np.where(x > 0, x * np.log(x), 0.0)), [0, 1], [0, 1], [0, 1]),
    "a constant factor": (lambda x: np.sum(np.sqrt(x) * np.array([0.0, 1.0])), [0, 4], [0, 0.25], [0, -1 / 32]),
    "a constant factor inside": (lambda x: np.sum(np.sqrt(x * np.array([0.0, 1.0]))), [3, 4], [0, 0.25], [0, -1 / 32]),
    "an index": (lambda x: np.sum(np.sqrt(x)[1:] ** 2), [0, 4], [0, 1], [0, 0]),
    "relu": (lambda x: np.sum(np.sqrt(np.maximum(x, 0.0))), [-1, 4], [0, 0.25], [0, -1 / 32]),
    "a number": (lambda x: np.sum(np.sqrt(x) * 0.0), [0, 4], [0, 0], [0, 0]),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("name", MASKED)
def test_an_exact_zero_hides_an_infinite_derivative_at_every_order(name: str) -> None:
    f, x, *want = MASKED[name]
    first, second = first_and_second(f, x)
    for got in first:
        np.testing.assert_allclose(got, want[0])
    for got in second:
        np.testing.assert_allclose(got, np.diag(want[1]), atol=1e-15)


def test_zeros_come_out_as_zeros() -> None:
    """Inside, zeros that may be limits are subnormal numbers; nobody sees them."""

    def f(x: Any) -> Any:
        return np.sum((np.sqrt(x) * 2) ** 4 * x**2 + x**3)

    x = np.array([0.0, 1.0])
    derivatives = [ag.hessian(f)(x), ag.jacobian(ag.grad(f))(x), ag.jvp(lambda v: v**3, (x,), (x + 1,))[1]]
    for d in derivatives:
        d = d[np.isfinite(d)]
        assert ((d == 0) | (np.abs(d) > 1e-300)).all()
