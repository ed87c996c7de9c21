"""Wrong results that no test noticed: extrema with NaN, a row of NaNs, quantiles beside infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag


@pytest.mark.parametrize("function", [np.max, np.min])
def test_a_nan_is_the_extremum_and_takes_the_gradient(function: Any) -> None:
    x = np.array([[1.0, np.nan, 3.0], [4.0, 2.0, 0.0]])
    picked = [0, 0] if function is np.max else [0, 2]
    want = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    want[1, picked[1]] = 1
    np.testing.assert_array_equal(ag.grad(lambda v: np.sum(function(v, axis=1)))(x), want)
    _, tangent = ag.jvp(lambda v: function(v, axis=1), (x,), (np.arange(6.0).reshape(2, 3),))
    np.testing.assert_array_equal(tangent, [1, 3 + picked[1]])


@pytest.mark.parametrize("function", [np.max, np.min])
def test_two_nans_share(function: Any) -> None:
    gradient = ag.grad(function)(np.array([np.nan, 1.0, np.nan]))
    np.testing.assert_array_equal(gradient, [0.5, 0.0, 0.5])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", [np.nanmax, np.nanmin, np.nanmean, np.nanmedian])
def test_a_row_of_nans_is_nan_and_has_no_gradient(function: Any) -> None:
    x = np.array([[np.nan, np.nan], [1.0, 2.0]])
    got = function(ag.tensor(x, requires_grad=True), axis=1)
    np.testing.assert_array_equal(got.numpy(), function(x, axis=1))
    gradient = ag.grad(lambda v: function(v, axis=1)[1])(x)
    assert (gradient[0] == 0).all()
    np.testing.assert_allclose(gradient[1].sum(), 1)


@pytest.mark.parametrize("q", [0.0, 0.25, 0.5, 0.75])
def test_a_quantile_beside_infinity(q: float) -> None:
    x = np.array([2.0, np.inf, 1.0, 3.0, 4.0])
    got = np.quantile(ag.tensor(x, requires_grad=True), q)
    assert got.item() == q * 4 + 1
    want = np.zeros(5)
    want[np.argsort(x)[int(q * 4)]] = 1
    np.testing.assert_array_equal(ag.grad(lambda v: np.quantile(v, q))(x), want)
    assert ag.jvp(lambda v: np.quantile(v, q), (x,), (np.arange(5.0),))[1] == np.argsort(x)[int(q * 4)]
