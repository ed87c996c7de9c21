"""Every kernel test runs over both sets of kernels and both dtypes."""

import importlib
import importlib.util

import numpy as np
import pytest

SETS = ["numpy", "numba"] if importlib.util.find_spec("numba") else ["numpy"]


@pytest.fixture(params=SETS)
def kernels(request):
    return importlib.import_module(f"allgrad.kernels.{request.param}_kernels").kernels


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def close(dtype):
    """Assert equality to the accuracy of the dtype, measured against the largest entry."""

    def check(got, expected, ulps=32, size=0.0):
        got, expected = np.asarray(got), np.asarray(expected, np.float64)
        assert got.dtype == dtype
        assert got.shape == expected.shape
        unit = ulps * np.finfo(dtype).eps
        np.testing.assert_allclose(got, expected, rtol=unit, atol=unit * max(size, np.abs(expected).max(initial=0)))

    return check


@pytest.fixture
def rng():
    return np.random.default_rng(20261123)


@pytest.fixture
def shifted():
    """A copy of an array that starts some elements past an aligned address: same values, another address."""

    def copy(array, elements):
        room = np.zeros(array.size + 64, array.dtype)
        view = room[elements : elements + array.size].reshape(array.shape)
        view[...] = array
        return view

    return copy
