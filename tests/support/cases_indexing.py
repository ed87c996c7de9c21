"""Cases for picking entries and putting them back: keys of every kind, duplicates included."""

from __future__ import annotations

import numpy as np
from cases import Case, normal, one_axis, shape

import allgrad as ag


def _ints(rng, n, size):
    return rng.integers(-n, n, size)


def keys(rng):
    """An array of shape (4, 3, 5) and a key of one of NumPy's kinds."""
    mask = rng.random((4, 3, 5)) < 0.5
    rows = _ints(rng, 4, 6)
    choices = [
        2, -1, slice(1, 3), slice(None, None, -2), Ellipsis, None, (0, 1), (slice(None), 1), (Ellipsis, 2),
        (0, Ellipsis, None, 3),        (1, 2, 3), (None, slice(1, None), None, 0), slice(3, 1), (),
        rows, _ints(rng, 4, (2, 3)), [0, 0, 2], [0, -4], rows[:0], np.array(2), np.int64(1),
        (slice(None), _ints(rng, 3, 4)), (slice(None), slice(None), _ints(rng, 5, (2, 4))), (Ellipsis, [0, 0, 1]),
        (_ints(rng, 4, 3), _ints(rng, 3, 3)), (_ints(rng, 4, (2, 1)), slice(1, 3), _ints(rng, 5, 3)), (0, [1, 1]),
        (rows, None, 1), (slice(1, 4, 2), [0, 2, 0], None), ([[0], [1]], [0, 2], [[1, 1], [3, 3]]), ([0, 1], (0, 2)),
        mask, mask[:, 0, 0], (slice(None), mask[0, :, 0]), mask[:, :, 0], (mask[:, 0, 0], 1), (mask[:, 0, 0], slice(1, 2)),
        np.zeros(4, bool), np.array(True), False, (Ellipsis, mask[0, 0]), np.ix_([0, 2], [1, 1]),
    ]  # fmt: skip
    return normal(rng, (4, 3, 5)), choices[rng.integers(len(choices))]


def getitem(rng):
    x, key = keys(rng)
    return (x, key), {}


def setitem(rng):
    x, key = keys(rng)
    picked = x[key].shape
    kind = rng.integers(3)
    values = picked if kind == 0 else () if kind == 1 else tuple(1 if rng.random() < 0.5 else n for n in picked)
    return (x, normal(rng, values), key), {}


def assign(x, v, key):
    """NumPy's copy and assignment, on arrays and on Tensors."""
    y = np.copy(x)
    if not isinstance(y, ag.Tensor) and isinstance(v, ag.Tensor):
        y = ag.tensor(y)
    y[key] = v
    return y


def take(rng):
    x = normal(rng, shape(rng, low=1, empty=False))
    axis = None if rng.random() < 0.3 else one_axis(rng, x.ndim)
    n = x.size if axis is None else x.shape[axis]
    mode = str(rng.choice(["raise", "wrap", "clip"]))
    reach = n if mode == "raise" else 2 * n
    size = [(), 3, (2, 2), 0][rng.integers(4)]
    keywords = {} if mode == "raise" else {"mode": mode}
    return (x, rng.integers(-reach, reach, size), *(() if axis is None else (axis,))), keywords


def take_along_axis(rng):
    x = normal(rng, shape(rng, low=1, empty=False))
    axis = one_axis(rng, x.ndim)
    wanted = [1 if rng.random() < 0.2 else n for n in x.shape]
    wanted[axis] = int(rng.integers(0, 4))
    if rng.random() < 0.2:
        return (x, rng.integers(0, x.size, 3)), {"axis": None}
    return (x, _ints(rng, x.shape[axis], wanted), axis), {}


def choose(rng):
    n = int(rng.integers(1, 4))
    choices = [normal(rng, [(2, 3), (3,), (), (2, 1)][rng.integers(4)]) for _ in range(n)]
    mode = str(rng.choice(["raise", "wrap", "clip"]))
    low, high = (0, n) if mode == "raise" else (-2, n + 2)
    return (rng.integers(low, high, [(2, 3), (3,)][rng.integers(2)]), choices), {} if mode == "raise" else {
        "mode": mode
    }


def compress(rng):
    x = normal(rng, (3, 4))
    axis = [None, 0, -1][rng.integers(3)]
    return (rng.random(3) < 0.6, x, *(() if axis is None else (axis,))), {}


def extract(rng):
    x = normal(rng, shape(rng, low=1))
    return (rng.random(x.shape) < 0.5, x), {}


def diagonal(rng):
    x = normal(rng, (3, 2, 4))
    i, j = (int(k) for k in rng.permutation(3)[:2])
    return (x, int(rng.integers(-3, 4)), i, j - 3), {}


def diag(rng):
    size = [(3,), (0,), (3, 3), (2, 4), (4, 2)][rng.integers(5)]
    return (normal(rng, size),), {"k": int(rng.integers(-2, 3))}


def triangle(rng):
    x = normal(rng, [(3, 3), (2, 4), (4, 2), (2, 3, 3), (3,)][rng.integers(5)])
    return (x,), {"k": int(rng.integers(-2, 3))} if rng.random() < 0.7 else {}


def delete(rng):
    x = normal(rng, (3, 4))
    axis = [None, 0, -1][rng.integers(3)]
    obj = [1, -1, [0, 2], [0, 0], slice(None, None, 2), np.array([True, False, True])][rng.integers(5 + (axis == 0))]
    return (x, obj, *(() if axis is None else (axis,))), {}


def insert(rng):
    x = normal(rng, (3, 4))
    forms = [
        (1, (), None), (-1, (2,), None), ([0, 2], (2,), None), ([1, 1], (), None), (slice(0, 4, 2), (2,), None),
        (1, (4,), 0), (1, (3,), 1), (0, (), 1), ([0, 2], (2, 4), 0), ([1, 1], (4,), 0), ([1], (2, 4), 0), ([3], (3, 1), 1),
        (1, (2, 3), -1), ([0, 3], (3, 2), 1),
    ]  # fmt: skip
    obj, size, axis = forms[rng.integers(len(forms))]
    return (x, obj, normal(rng, size), *(() if axis is None else (axis,))), {}


CASES = [
    Case("getitem", lambda x, key: x[key], getitem, complex=True, spellings=False),
    Case("setitem", assign, setitem, (0, 1), complex=True, spellings=False),
    Case("setitem of the value alone", assign, setitem, (1,), spellings=False),
    Case("take", np.take, take, complex=True),
    Case("take_along_axis", np.take_along_axis, take_along_axis),
    Case("choose", np.choose, choose, (1,), complex=True),
    Case("compress", np.compress, compress, (1,)),
    Case("extract", np.extract, extract, (1,)),
    Case("diagonal", np.diagonal, diagonal, complex=True),
    Case("diag", np.diag, diag),
    Case("diagflat", np.diagflat, lambda rng: ((normal(rng, shape(rng, high=2)),), {"k": int(rng.integers(-1, 2))})),
    Case("tril", np.tril, triangle, complex=True),
    Case("triu", np.triu, triangle, complex=True),
    Case("delete", np.delete, delete),
    Case("insert", np.insert, insert, (0, 2)),
]
