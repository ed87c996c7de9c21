"""Trap 3: whatever broadcasts sums its cotangent back, in every operation: leading axes, size-1 axes, 0-d, empty arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import allgrad as ag

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = [
    ((), (2, 3)),
    ((3,), (2, 3)),
    ((2, 1), (2, 3)),
    ((1, 1), (2, 3)),
    ((1,), ()),
    ((1, 3), (0, 3)),
    ((0, 1), (0, 3)),
]
CONDITION = np.array([[True, False, True], [False, False, True]])

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "maximum": np.maximum,
    "fmin": np.fmin,
    "hypot": np.hypot,
    "arctan2": np.arctan2,
    "logaddexp": np.logaddexp,
    "remainder": np.remainder,
    "where": lambda a, b: (
        np.where(np.broadcast_to(CONDITION[:, :1], np.broadcast_shapes((2, 1), np.shape(b))), a, b)
        if np.ndim(b) == 2 and len(b) == 2
        else np.where(True, a, b) + np.where(False, a, b)
    ),
    "clip, lower": lambda a, b: np.clip(b, a, 9.0),
    "clip, upper": lambda a, b: np.clip(b, -9.0, a),
    "select": lambda a, b: np.select([np.greater(b, 1.2)], [a], b),
    "add, where=": lambda a, b: np.add(a, b, where=np.ones(np.shape(b), bool)),
    "copysign": np.copysign,
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("small", "large"), SHAPES, ids=str)
def test_a_broadcast_argument_gets_a_gradient_of_its_own_shape(operation: str, small: Any, large: Any) -> None:
    f = OPERATIONS[operation]
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0.5, 2.0, small), rng.uniform(0.5, 2.0, large)
    got = ag.grad(lambda a, b: np.sum(f(a, b)), argnums=(0, 1))(a, b)
    # The same without broadcasting: every copy of `a` is an entry of its own, and the copies' gradients are added here.
    full = np.broadcast_shapes(small, large)
    want = ag.grad(lambda a, b: np.sum(f(a, b)), argnums=(0, 1))(
        np.broadcast_to(a, full).copy(), np.broadcast_to(b, full).copy()
    )
    for g, w, x in zip(got, want, (a, b), strict=True):
        assert np.shape(g) == np.shape(x)
        np.testing.assert_allclose(g, summed(w, np.shape(x)), rtol=1e-12, atol=1e-14)


def summed(w: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    extra = w.ndim - len(shape)
    w = w.sum(axis=tuple(range(extra)))
    return w.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).reshape(shape)


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 1)])
def test_full_and_linspace_sum_over_what_they_filled(shape: tuple[int, ...]) -> None:
    x = np.full(shape, 1.5)
    filled = ag.grad(lambda x: np.sum(ag.numpy.full((2, 3), x)))(x)
    np.testing.assert_array_equal(filled, np.full(shape, 6 / x.size))
    stops = ag.grad(lambda x: np.sum(np.linspace(x, 4.0, 5)))(x)
    np.testing.assert_allclose(stops, np.full(shape, 2.5))


def test_full_like_of_a_tensor_sums_as_well() -> None:
    assert ag.grad(lambda x: np.sum(ag.numpy.full_like(np.zeros((2, 3)), x)))(1.0) == 6.0
