"""Calls at the borders that ended in tracebacks: objects that decline ufuncs, divmod from the left, containers in jacobian."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.uint64])
@pytest.mark.parametrize("rows", [3, 256, 300])
def test_the_gradient_of_rows_picked_with_small_integers(dtype: Any, rows: int) -> None:
    picked = np.array([1, 2, 1], dtype)
    gradient = ag.grad(lambda w: np.sum(w[picked]))(np.ones((rows, 2)))
    np.testing.assert_array_equal(gradient[:4, 0], [0, 2, 1, 0][: min(4, rows)])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    "call",
    [
        lambda w, i: np.take(w, i, axis=0),
        lambda w, i: np.take(w, i, axis=1, mode="wrap"),
        lambda w, i: np.take(w, i, axis=0, mode="clip"),
        lambda w, i: w[:, i],
        lambda w, i: w[i, i],
        lambda w, i: np.take_along_axis(w, i[:, None] + np.zeros((1, 5), i.dtype), 0),
        lambda w, i: np.delete(w, i, 0),
        lambda w, i: np.choose(i % 2, [w[0, :3], w[1, :3]]),
        lambda w, i: np.repeat(w, i[:1], axis=0),
    ],
)
def test_small_integers_elsewhere(call: Any, dtype: Any) -> None:
    i = np.array([1, 2, 1], dtype)
    ag.check_grads(lambda v: call(v, i), np.random.default_rng(0).random((5, 5)), order=1)


def test_i0_of_nan_and_infinity() -> None:
    x = np.array([np.nan, 1.0, 30.0])
    gradient = ag.grad(lambda v: np.sum(np.i0(v)))(x)
    assert np.isnan(gradient[0])
    np.testing.assert_allclose(gradient[1:], ag.grad(lambda v: np.sum(np.i0(v)))(x[1:]))


@pytest.mark.parametrize("x", [0.5, 1.5, np.array(0.5), np.array([0.5, 1.5])])
def test_piecewise(x: Any) -> None:
    def f(v: Any) -> Any:
        return np.piecewise(v, [v < 1, v >= 1], [lambda u: 3 * u, lambda u: u**2])

    np.testing.assert_allclose(f(ag.tensor(x)).numpy(), f(np.asarray(x)))
    np.testing.assert_allclose(ag.grad(lambda v: np.sum(f(v)))(x), np.where(np.asarray(x) < 1, 3, 2 * np.asarray(x)))


def test_piecewise_with_single_conditions() -> None:
    x = np.array([0.5, 1.5])
    for condition in (x < 1, [True, False], [x < 1], True):
        want = np.piecewise(x, condition, [lambda v: -v, 7.0])
        np.testing.assert_array_equal(np.piecewise(ag.tensor(x), condition, [lambda v: -v, 7.0]).numpy(), want)


@pytest.mark.parametrize("function", [np.cumulative_sum, np.cumulative_prod])
@pytest.mark.parametrize("include_initial", [False, True])
def test_running_sums_of_a_number(function: Any, include_initial: bool) -> None:
    got = function(ag.tensor(2.0), include_initial=include_initial)
    np.testing.assert_array_equal(got.numpy(), function(np.array(2.0), include_initial=include_initial))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((0, 2), 0), ((2, 0), 0), ((2, 0), 1)])
@pytest.mark.parametrize("function", [np.median, np.nanmedian])
def test_the_median_of_nothing(function: Any, shape: Any, axis: Any) -> None:
    x = np.zeros(shape)
    np.testing.assert_array_equal(function(ag.tensor(x), axis=axis).numpy(), function(x, axis=axis))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("shape", [(1, 3), (3,), (3, 1), (2, 3)])
@pytest.mark.parametrize("rowvar", [True, False])
@pytest.mark.parametrize("function", [np.cov, np.corrcoef])
def test_covariances_of_one_row(function: Any, shape: Any, rowvar: bool) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(function(ag.tensor(x), rowvar=rowvar).numpy(), function(x, rowvar=rowvar))


def test_divmod() -> None:
    q, r = np.divmod(7.0, ag.tensor([2.0, 4.0], requires_grad=True))
    np.testing.assert_array_equal([q.numpy(), r.numpy()], [[3, 1], [1, 3]])
