"""Derivatives that overflowed or vanished on the way although they are ordinary numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allgrad as ag


@pytest.mark.parametrize(
    ("function", "slope", "x", "dtype"),
    [
        (np.arcsinh, lambda x: 1 / x, 2e19, np.float32),
        (np.arcsinh, lambda x: -1 / x, -1e200, np.float64),
        (np.arcsinh, lambda x: 1 / x, 3e4, np.float16),
        (np.arctan, lambda x: 1 / x**2, 300.0, np.float16),
        (np.arctan, lambda x: 1 / x**2, 1e18, np.float32),
        (np.expm1, np.exp, -40.0, np.float64),
        (np.expm1, np.exp, -30.0, np.float32),
    ],
)
def test_far_from_zero(function: Any, slope: Any, x: float, dtype: Any) -> None:
    at, want = np.array([x], dtype), slope(x)
    rtol = 0.02 if dtype == np.float16 else 1e-5
    got = ag.derivative(function)(at)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, [want], rtol=rtol)
    np.testing.assert_allclose(ag.grad(lambda v: np.sum(function(v)))(at), [want], rtol=rtol)


@pytest.mark.parametrize(
    ("size", "dtype"), [(1e-25, np.float32), (1e25, np.float32), (1e-200, np.float64), (1e200, np.float64)]
)
def test_arctan2_and_angle_of_small_and_large_arguments(size: float, dtype: Any) -> None:
    y, x = (np.array(v * size, dtype) for v in (3.0, 4.0))
    along_y, along_x = ag.grad(np.arctan2, (0, 1))(y, x)
    np.testing.assert_allclose([along_y, along_x], np.array([4.0, -3.0]) / 25 / size, rtol=1e-5)
    _, tangent = ag.jvp(np.arctan2, (y, x), (dtype(size), dtype(0)))
    np.testing.assert_allclose(tangent, 4 / 25, rtol=1e-5)
    z = np.array(x + 1j * y)
    np.testing.assert_allclose(ag.grad(np.angle)(z), np.array(-3.0 - 4.0j) / 25 / size, rtol=1e-5)
