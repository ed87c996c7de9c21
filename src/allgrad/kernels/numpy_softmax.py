"""Softmax and causal softmax over the last axis, in NumPy.

The row's maximum is subtracted where it must be. If all entries of a block lie within `NARROW` of 0, no exponential overflows
and no row's sum is subnormal, so nothing is gained by it, and one maximum and minimum over the block, which run at the speed of
memory, take the place of a slow reduction of short rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from allgrad.kernels.blocks import BLOCK, Array, as_rows, constant, output, rows_a_block, scratch, spans

NARROW = 60.0


def softmax_forward(x: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.softmax_forward`."""
    x2, y = as_rows(x), output(out, x)
    y2 = as_rows(y)
    rows, columns = x2.shape
    for span in spans(rows, rows_a_block(columns)):
        e = y2[span]
        if narrow(x2[span]):
            np.exp(x2[span], e)
        else:
            np.subtract(x2[span], row_maximum(x2[span]), e)
            np.exp(e, e)
        _normalise(e)
    return y


def causal_softmax_forward(x: Array, *, scale: float = 1.0, out: Array | None = None) -> Array:
    """See `Kernels.causal_softmax_forward`."""
    y = output(out, x)
    queries, keys = x.shape[-2:]
    x3, y3 = np.ascontiguousarray(x).reshape(-1, queries, keys), y.reshape(-1, queries, keys)
    if keys < queries:
        raise ValueError(f"causal_softmax: needs at least as many keys as queries. Got scores of shape {x.shape}.")
    seen = _seen(queries, keys, x.dtype)
    factor = x.dtype.type(scale)
    # Several small matrices make a block, or some rows of a big one.
    for some in spans(len(x3), max(1, BLOCK // max(1, queries * keys))):
        for span in spans(queries, rows_a_block(keys)):
            e = y3[some, span]
            source = x3[some, span] if scale == 1 else np.multiply(x3[some, span], factor, e)
            if narrow(source):
                np.exp(source, e)
                np.multiply(e, seen[span], e)
            else:
                np.copyto(e, source)
                np.copyto(e, -np.inf, where=seen[span] == 0)
                np.subtract(e, row_maximum(e.reshape(-1, keys)).reshape(*e.shape[:2], 1), e)
                np.exp(e, e)
            _normalise(e.reshape(-1, keys))
    return y


@lru_cache(maxsize=16)
def _seen(queries: int, keys: int, dtype: np.dtype[Any]) -> Array:
    """1 where a query sees a key, else 0."""
    return np.tril(np.ones((queries, keys), dtype), keys - queries)


def softmax_backward(g: Array, y: Array, *, scale: float = 1.0, out: Array | None = None) -> Array:
    """See `Kernels.softmax_backward`."""
    g2, y2, dx = as_rows(g), as_rows(y), output(out, g)
    dx2 = as_rows(dx)
    rows, columns = g2.shape
    for span in spans(rows, rows_a_block(columns)):
        g_, y_, d = g2[span], y2[span], dx2[span]
        t = scratch(g.dtype, 0, g_.shape)
        along = np.multiply(g_, y_, t) @ constant(g.dtype, 1, columns)
        np.subtract(g_, along[:, None], t)
        np.multiply(t, y_, d)
        if scale != 1:
            np.multiply(d, g.dtype.type(scale), d)
    return dx


def row_maximum(x: Array) -> Array:
    """The maximum of each row of a matrix, as a column. Short rows are turned first: NumPy reduces them slowly."""
    rows, columns = x.shape
    largest = np.empty((rows, 1), x.dtype)
    if 1 < columns < 64:
        turned = scratch(x.dtype, 2, (columns, rows))
        turned[...] = x.T
        np.maximum.reduce(turned, axis=0, out=largest[:, 0])
    else:
        np.maximum.reduce(x, axis=1, keepdims=True, out=largest)
    return largest


def narrow(x: Array) -> bool:
    """Whether all entries lie within `NARROW` of 0; False where one is NaN."""
    if not x.size:
        return False
    return bool(np.maximum.reduce(x, axis=None) <= NARROW and np.minimum.reduce(x, axis=None) >= -NARROW)


def _normalise(e: Array) -> None:
    total = e @ constant(e.dtype, 1, e.shape[1])
    np.reciprocal(total, total)
    np.multiply(e, total[:, None], e)
