"""Trap 17: what NumPy's protocols cannot see raises instead of dropping the gradient; methods and functions agree."""

import math

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import LostGradientError


@pytest.fixture
def t():
    return ag.tensor(0.5, requires_grad=True) * 1.0


def assign(t):
    np.zeros(3)[0] = t


LOSSES = {
    "math.sin": math.sin,
    "float": float,
    "int": int,
    "complex": complex,
    "a[0] = t": assign,
    "np.full": lambda t: np.full(3, t),
    "np.asarray": np.asarray,
    "np.array of a list": lambda t: np.array([t, t]),
    "an rng": lambda t: np.random.default_rng(0).normal(t),
    "an index": lambda t: [1, 2, 3][t],
}


@pytest.mark.parametrize("use", LOSSES.values(), ids=LOSSES.keys())
def test_a_tracked_tensor_raises_and_names_detach(use, t):
    with pytest.raises((LostGradientError, ValueError)) as caught:
        use(t)
    told = (
        caught.value if isinstance(caught.value, LostGradientError) else caught.value.__cause__
    )  # NumPy wraps a[0] = t
    assert "detach()" in str(told)


@pytest.mark.parametrize("name", ["math.sin", "float", "np.asarray", "an rng", "a[0] = t"])
def test_inside_forward_mode_too(name):
    with pytest.raises((LostGradientError, ValueError)):
        ag.jvp(LOSSES[name], (0.5,), (1.0,))


def test_a_detached_one_passes(t):
    assert math.sin(t.detach()) == math.sin(0.5)
    assert np.asarray(t.detach()) == 0.5


def test_methods_and_functions_agree():
    x = ag.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    pairs = [
        (x.sum(0), np.sum(x, 0)),
        (x.sum(axis=1, keepdims=True), np.sum(x, 1, keepdims=True)),
        (x.reshape(3, 2), np.reshape(x, (3, 2))),
        (x.reshape((3, 2)), np.reshape(x, (3, 2))),
        (x.reshape(-1), np.ravel(x)),
        (x.transpose(1, 0), np.transpose(x, (1, 0))),
        (x.T, np.transpose(x)),
        (x.astype(np.float32), np.astype(x, np.float32)),
    ]
    for method, function in pairs:
        assert method.dtype == function.dtype
        assert np.array_equal(method.value, function.value)
