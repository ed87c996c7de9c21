"""Softmax and causal softmax over the last axis, with loops in NumPy.

The row's maximum is subtracted where it must be. If all entries of a block lie within `NARROW` of 0, no exponential overflows
and no row's sum is subnormal, so nothing is gained by it, and one maximum and minimum over the block, which run at the speed of
memory, take the place of a slow reduction of short rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from allgrad.kernels.blocks import (
    BLOCK,
    AnyDtype,
    Array,
    as_rows,
    constant,
    contiguous,
    output,
    rows_a_block,
    scratch,
    spans,
)

NARROW = 60.0


class Softmax:
    softmax: Any

    def softmax_forward(self, x: Array, *, out: Array | None = None) -> Array:
        """exp(x - max) / sum. `out` may be `x`."""
        y = output(out, x)
        if x.size:
            self.softmax.softmax_forward[x.dtype](as_rows(x), as_rows(y))
        return y

    def causal_softmax_forward(self, x: Array, *, scale: float = 1.0, out: Array | None = None) -> Array:
        """Softmax of scale * x, x of shape (..., queries, keys), in which query i sees keys 0 to i + keys - queries.

        What a query does not see is exactly 0 in the result. `out` may be `x`. The gradient is `softmax_backward`'s
        with the same scale.
        """
        y = output(out, x)
        queries, keys = x.shape[-2:]
        if keys < queries:
            raise ValueError(f"causal_softmax: needs at least as many keys as queries. Got scores of shape {x.shape}.")
        if x.size:
            shape = (-1, queries, keys)
            self.softmax.causal_softmax_forward[x.dtype](contiguous(x).reshape(shape), scale, y.reshape(shape))
        return y

    def softmax_backward(self, g: Array, y: Array, *, scale: float = 1.0, out: Array | None = None) -> Array:
        """scale * y * (g - sum(g y)), y being the forward's result. `out` may be `g`."""
        dx = output(out, g)
        self.softmax.softmax_backward[g.dtype](as_rows(g), as_rows(y), scale, as_rows(dx))
        return dx


@AnyDtype
def softmax_forward(x: Array, y: Array) -> None:
    for span in spans(len(x), rows_a_block(x.shape[1])):
        e = y[span]
        if narrow(x[span]):
            np.exp(x[span], e)
        else:
            np.subtract(x[span], row_maximum(x[span]), e)
            np.exp(e, e)
        _normalise(e)


@AnyDtype
def causal_softmax_forward(x: Array, scale: float, y: Array) -> None:
    count, queries, keys = x.shape
    seen = _seen(queries, keys, x.dtype)
    # Several small matrices make a block, or some rows of a big one.
    for some in spans(count, max(1, BLOCK // max(1, queries * keys))):
        for span in spans(queries, rows_a_block(keys)):
            e = y[some, span]
            source = x[some, span] if scale == 1 else np.multiply(x[some, span], x.dtype.type(scale), e)
            if narrow(source):
                np.exp(source, e)
                np.multiply(e, seen[span], e)
            else:
                np.copyto(e, source)
                np.copyto(e, -np.inf, where=seen[span] == 0)
                np.subtract(e, row_maximum(e.reshape(-1, keys)).reshape(*e.shape[:2], 1), e)
                np.exp(e, e)
            _normalise(e.reshape(-1, keys))


@AnyDtype
def softmax_backward(g: Array, y: Array, scale: float, dx: Array) -> None:
    for span in spans(len(g), rows_a_block(g.shape[1])):
        g_, y_, d = g[span], y[span], dx[span]
        t = scratch(g.dtype, 0, g_.shape)
        along = np.multiply(g_, y_, t) @ constant(g.dtype, 1, g.shape[1])
        np.subtract(g_, along[:, None], t)
        np.multiply(t, y_, d)
        if scale != 1:
            np.multiply(d, g.dtype.type(scale), d)


@lru_cache(maxsize=16)
def _seen(queries: int, keys: int, dtype: np.dtype[Any]) -> Array:
    """1 where a query sees a key, else 0."""
    return np.tril(np.ones((queries, keys), dtype), keys - queries)


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
