"""`check_grads` passed 0 for a true derivative of 1e-6, checked nothing with `modes=()`, and failed right ones in float16."""

import numpy as np
import pytest

import allgrad as ag


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("wrong", [0.0, 1.01, -1.0])
def test_a_wrong_derivative_of_any_size_is_found(scale, wrong):
    @ag.custom_vjp(x=lambda g, x: g * scale * wrong * np.cos(x))
    def f(x):
        return scale * np.sin(x)

    f.defjvp(x=lambda t, x: t * scale * wrong * np.cos(x))
    x = np.array([0.3, -0.7])
    for mode in ("forward", "reverse"):
        with pytest.raises(AssertionError, match="differs"):
            ag.check_grads(f, x, modes=(mode,), order=1)
    ag.check_grads(lambda x: scale * np.sin(x), x)


@pytest.mark.parametrize("bad", [(), ("backward",), ("forward", "sideways")])
def test_modes_that_check_nothing_are_refused(bad):
    with pytest.raises(ValueError, match="modes"):
        ag.check_grads(np.sin, 1.0, modes=bad)
    with pytest.raises(ValueError, match="order"):
        ag.check_grads(np.sin, 1.0, order=0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
def test_right_derivatives_pass_in_every_dtype(dtype):
    x = np.array([0.3, -0.7, 1.5]).astype(dtype)
    ag.check_grads(lambda x: np.sin(x) * np.exp(x), x, order=2)
    ag.check_grads(lambda x: np.tanh(x @ x), x, order=1)


def test_wrong_ones_fail_in_float16():
    f = ag.custom_vjp(x=lambda g, x: g * np.sin(x))(lambda x: np.sin(x))
    f.defjvp(x=lambda t, x: t * np.cos(x))
    with pytest.raises(AssertionError, match="vjp"):
        ag.check_grads(f, np.array([0.3, -0.7], np.float16), order=1, seed=1)
