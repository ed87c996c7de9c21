"""Trap 9: what has a derivative at a singular point gets it; what has none is infinite or follows a documented convention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import allgrad as ag

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings(
    "ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning"
)

X = [0.0, 1.0, 4.0]

CASES: dict[str, tuple[Callable[[Any], Any], list[float], list[float]]] = {
    "where(x > 0, log x, 0)": (lambda x: np.sum(np.where(x > 0, np.log(x), 0)), X, [0, 1, 1 / 4]),
    "where(x > 0, sqrt x, 0)": (lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0)), X, [0, 1 / 2, 1 / 4]),
    "where(x > 0, 1 / x, 0)": (lambda x: np.sum(np.where(x > 0, 1 / x, 0)), X, [0, -1, -1 / 16]),
    "where(x > 0, x**-1, 0)": (lambda x: np.sum(np.where(x > 0, x**-1, 0)), X, [0, -1, -1 / 16]),
    "where(x > 0, x**-2, 0)": (lambda x: np.sum(np.where(x > 0, x**-2, 0)), X, [0, -2, -2 / 64]),
    "where(x > 0, x log x, 0)": (lambda x: np.sum(np.where(x > 0, x * np.log(x), 0)), X, [0, 1, 1 + np.log(4)]),
    "log(x, where=x > 0)": (lambda x: np.sum(np.log(x, where=x > 0)), X, [0, 1, 1 / 4]),
    "where(x < 1, arcsin x, 0)": (lambda x: np.sum(np.where(x < 1, np.arcsin(x), 0)), [0.0, 1.0], [1, 0]),
    "where(x < 100, exp x, 0)": (lambda x: np.sum(np.where(x < 100, np.exp(x), 0)), [0.0, 1e4], [1, 0]),
    "sqrt": (lambda x: np.sum(np.sqrt(x)), X, [np.inf, 1 / 2, 1 / 4]),
    "cbrt": (lambda x: np.sum(np.cbrt(x)), [0.0, 8.0], [np.inf, 1 / 12]),
    "log": (lambda x: np.sum(np.log(x)), X, [np.inf, 1, 1 / 4]),
    "x**0": (lambda x: np.sum(x**0), X, [0, 0, 0]),
    "x**0.": (lambda x: np.sum(x**0.0), X, [0, 0, 0]),
    "x**array of 0": (lambda x: np.sum(x ** np.array([0.0, 0.0, 0.0])), X, [0, 0, 0]),
    "x**1": (lambda x: np.sum(x**1), X, [1, 1, 1]),
    "x**2": (lambda x: np.sum(x**2), X, [0, 2, 8]),
    "x**array": (lambda x: np.sum(x ** np.array([2.0, 1.0, 0.5])), X, [0, 1, 1 / 4]),
    "x**3 of a negative": (lambda x: np.sum(x**3), [-2.0, 0.0], [12, 0]),
    "x**2. of a negative": (lambda x: np.sum(x**2.0), [-2.0, 0.0], [-4, 0]),
    "0**y": (lambda y: np.sum(0.0**y), X, [0, 0, 0]),
    "2**y": (lambda y: np.sum(2.0**y), X, [np.log(2), 2 * np.log(2), 16 * np.log(2)]),
    "prod, one zero": (np.prod, [0.0, 2.0, 3.0], [6, 0, 0]),
    "prod, two zeros": (np.prod, [0.0, 0.0, 3.0], [0, 0, 0]),
    "nanprod, one zero": (np.nanprod, [0.0, np.nan, 3.0], [3, 0, 0]),
    "cumprod, one zero": (lambda x: np.sum(np.cumprod(x)), [2.0, 0.0, 3.0], [1, 2 + 6, 0]),
    "multiply.reduce": (lambda x: np.multiply.reduce(x), [0.0, 2.0, 3.0], [6, 0, 0]),
    "std of a constant": (np.std, [2.0, 2.0, 2.0], [0, 0, 0]),
    "nanstd of a constant": (np.nanstd, [2.0, np.nan, 2.0], [0, 0, 0]),
    "var of a constant": (np.var, [2.0, 2.0, 2.0], [0, 0, 0]),
    "norm of zeros": (lambda x: np.hypot(x[0], x[1]), [0.0, 0.0], [0, 0]),
    "arctan2 at the origin": (lambda x: np.arctan2(x[0], x[1]), [0.0, 0.0], [0, 0]),
    "logaddexp of -inf twice": (lambda x: np.sum(np.logaddexp(x, [-np.inf, 0.0])), [-np.inf, 0.0], [0, 1 / 2]),
    "sinc": (lambda x: np.sum(np.sinc(x)), [0.0, 1.0], [0, -1]),
}


@pytest.mark.parametrize("name", CASES)
def test_both_modes(name: str) -> None:
    f, at, want = CASES[name]
    x = np.array(at)
    np.testing.assert_allclose(ag.grad(f)(x), want, atol=1e-15)
    forward = [ag.jvp(f, (x,), (direction,))[1] for direction in np.eye(len(x))]
    np.testing.assert_allclose(forward, want, atol=1e-15)


SECOND: dict[str, tuple[Callable[[Any], Any], list[float], Any]] = {
    "prod": (np.prod, [0.0, 0.0, 3.0], [[0, 3, 0], [3, 0, 0], [0, 0, 0]]),
    "cumprod": (lambda x: np.cumprod(x)[-1], [0.0, 0.0, 3.0], [[0, 3, 0], [3, 0, 0], [0, 0, 0]]),
    "sinc": (lambda x: np.sinc(x[0]), [0.0], [[-(np.pi**2) / 3]]),
    "i0": (lambda x: np.i0(x[0]), [0.0], [[0.5]]),
    "x**2": (lambda x: x[0] ** 2, [0.0], [[2.0]]),
    "x**3": (lambda x: x[0] ** 3, [0.0], [[0.0]]),
    "x**1": (lambda x: x[0] ** 1, [0.0], [[0.0]]),
    "where": (lambda x: np.sum(np.where(x > 0, np.log(x), 0)), [0.0, 2.0], [[0, 0], [0, -1 / 4]]),
    "where with sqrt": (lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0)), [0.0, 4.0], [[0, 0], [0, -1 / 32]]),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives(name: str) -> None:
    f, at, want = SECOND[name]
    np.testing.assert_allclose(ag.hessian(f)(np.array(at)), want, atol=1e-14)
    np.testing.assert_allclose(ag.jacobian(ag.grad(f))(np.array(at)), want, atol=1e-14)


def test_a_product_of_three_axes_with_zeros() -> None:
    x = np.arange(8.0).reshape(2, 2, 2)
    got = ag.grad(lambda x: np.sum(np.prod(x, axis=(0, 2))))(x)
    np.testing.assert_allclose(got, [[[1 * 4 * 5, 0], [3 * 6 * 7, 2 * 6 * 7]], [[0, 0], [2 * 3 * 7, 2 * 3 * 6]]])


def test_hips_autograd_is_silently_wrong_here() -> None:
    """Why this trap exists: the numerical derivative of prod at a zero is 6, and HIPS autograd gives NaN."""
    autograd = pytest.importorskip("autograd", reason="HIPS autograd is the peer that this test compares with")
    import autograd.numpy as anp

    x = np.array([0.0, 2.0, 3.0])
    assert not np.isfinite(autograd.grad(anp.prod)(x)[0])
    h = 1e-6
    step = np.array([h, 0.0, 0.0])
    numerical = (np.prod(x + step) - np.prod(x - step)) / (2 * h)
    np.testing.assert_allclose(ag.grad(np.prod)(x)[0], numerical)
