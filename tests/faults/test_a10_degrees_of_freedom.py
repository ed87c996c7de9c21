"""Variances without degrees of freedom are NaN, as in NumPy, not negative or a ZeroDivisionError."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag

X = np.array([[1.0, 5.0, np.nan], [2.0, np.nan, np.nan]])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", [np.nanvar, np.nanstd, np.var, np.std])
@pytest.mark.parametrize("ddof", [0, 1, 2, 3])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_values_are_numpys(function: Any, ddof: int, axis: Any) -> None:
    got = function(ag.tensor(X, requires_grad=True), axis=axis, ddof=ddof)
    np.testing.assert_allclose(got.numpy(), function(X, axis=axis, ddof=ddof))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("function", [np.var, np.std])
@pytest.mark.parametrize("ddof", [1, 2])
def test_the_derivative_of_one_entry_is_nan(function: Any, ddof: int) -> None:
    x = np.array([3.0])
    assert np.isnan(ag.grad(lambda v: function(v, ddof=ddof))(x)).all()
    assert np.isnan(ag.jvp(lambda v: function(v, ddof=ddof), (x,), (np.ones(1),))[1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_mask_that_leaves_too_few() -> None:
    where = np.array([[True, False, False], [True, True, False]])
    x = np.array([[1.0, 5.0, 2.0], [2.0, 7.0, 3.0]])
    for function in (np.var, np.std, np.nanvar):
        got = function(ag.tensor(x), axis=1, ddof=2, where=where)
        np.testing.assert_array_equal(got.numpy(), function(x, axis=1, ddof=2, where=where))
