"""An entry that is picked twice gets both gradients, whatever kind of key picks it."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag

MASK = np.arange(24).reshape(4, 3, 2) % 5 == 0

KEYS = [
    [0, 0], [-1, 3, 3], np.array([[1, 1], [1, 2]]), slice(None, None, -2), Ellipsis, None, (Ellipsis, 0), (0, None, 1),
    MASK, MASK[:, 0, 0], (slice(None), [2, 2, 0]), ([0, 0], [1, 1]), ([0, 0], slice(1), [1, 1]), (slice(2), [0, 0], [1, -1]),
    (Ellipsis, [1, 1, 1]), ([[0], [0]], None, [1, 1]), (MASK[:, 0, 0], [0]), np.ix_([1, 1], [0, 0, 2]), ([],), (0, 0, [0, 0]),
]  # fmt: skip


def expected(shape, key, w):
    g = np.zeros(shape)
    np.add.at(g, key, w)
    return g


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("key", KEYS, ids=[f"key {i}" for i in range(len(KEYS))])
def test_every_kind_of_key_accumulates(key, dtype):
    x = np.arange(24, dtype=dtype).reshape(4, 3, 2)
    w = np.random.default_rng(0).standard_normal(x[key].shape)
    t = ag.tensor(x, requires_grad=True)
    t[key].backward(w.astype(dtype))
    assert t.grad.dtype == dtype
    np.testing.assert_allclose(t.grad, expected(x.shape, key, w), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("key", KEYS, ids=[f"key {i}" for i in range(len(KEYS))])
def test_forward_mode_agrees(key):
    x, v = np.arange(24.0).reshape(4, 3, 2), np.random.default_rng(0).standard_normal((4, 3, 2))
    np.testing.assert_array_equal(ag.jvp(lambda x: x[key], (x,), (v,))[1], v[key])


def test_take_and_take_along_axis():
    x = np.arange(6.0).reshape(2, 3)
    g = ag.grad(lambda x: np.sum(np.take(x, [0, 0, 5])))(x)
    np.testing.assert_array_equal(g, [[2, 0, 0], [0, 0, 1]])
    along = np.array([[0, 0, 0], [2, 1, 2]])
    g = ag.grad(lambda x: np.sum(np.take_along_axis(x, along, 1)))(x)
    np.testing.assert_array_equal(g, [[3, 0, 0], [0, 1, 2]])


def test_many_rows_of_a_table():
    """The path of embeddings: as np.add.at, in every dtype."""
    rng = np.random.default_rng(0)
    rows, w = rng.integers(-50, 50, (7, 30)), rng.standard_normal((7, 30, 8))
    g = ag.vjp(lambda x: x[rows], np.zeros((50, 8)))[1](w)[0]
    np.testing.assert_allclose(g, expected((50, 8), rows, w), rtol=1e-12, atol=1e-12)
