"""Dropout: its mask is a function of its name."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn

X = np.ones((50, 40), np.float32)


def masks(model: nn.Module, **name: int) -> np.ndarray:
    with nn.random_stream(**{"seed": 0} | name):
        return model(X).value if isinstance(model(X), ag.Tensor) else model(X)


def test_drops_and_scales() -> None:
    y = nn.Dropout(0.25)(np.ones((1000, 100), np.float32))
    assert y.dtype == np.float32
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.01)


def test_mask_depends_on_path_and_stream_not_on_what_ran_before() -> None:
    one = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.0))
    two = nn.Sequential(nn.Dropout(0.0), nn.Dropout(0.5))
    assert (masks(one) == masks(one)).all()
    assert (masks(one) != masks(two)).any()
    for name in ({"seed": 1}, {"step": 1}, {"worker": 1}):
        assert (masks(one) != masks(one, **name)).any()


def test_each_use_has_its_own_mask() -> None:
    layer = nn.Dropout(0.5)
    with nn.random_stream(seed=0):
        assert (layer(X) != layer(X)).any()


def test_gradient_is_the_mask_and_second_order_works() -> None:
    x = ag.tensor(X, requires_grad=True)
    layer = nn.Dropout(0.5)
    y = layer(x)
    np.sum(y).backward()
    np.testing.assert_array_equal(x.grad, y.value)

    def loss(x):
        with nn.random_stream(seed=3):
            return np.sum(layer(x) ** 2)

    np.testing.assert_array_equal(ag.hvp(loss, X, X), ag.grad(loss)(X))


def test_recomputation_sees_the_same_mask() -> None:
    layer = nn.Dropout(0.5)
    x = ag.tensor(X, requires_grad=True)
    with nn.random_stream(seed=0):
        layer(X)
        y = ag.checkpoint(layer)(x)
        np.sum(y).backward()
    np.testing.assert_array_equal(x.grad, y.value)


def test_off_in_evaluation_and_at_zero() -> None:
    assert nn.Dropout(0.5).eval()(X) is X
    assert nn.Dropout(0.0)(X) is X
    with pytest.raises(ValueError, match="p must be in"):
        nn.Dropout(1.0)
