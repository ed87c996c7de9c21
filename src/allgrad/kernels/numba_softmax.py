"""Softmax and causal softmax over the last axis, compiled.

Loops here and in the other `numba_` files are kept to few arrays each: LLVM vectorises a loop only if it can prove, by a handful
of comparisons at its start, that what it writes does not overlap what it reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.jit import per_dtype
from allgrad.kernels.numba_math import decay
from allgrad.kernels.numba_sums import row_maximum, row_product, row_sum, whole_vectors


@per_dtype("r2 w2")
def softmax_forward(x: Any, y: Any) -> None:
    for row in range(x.shape[0]):
        x_, y_ = x[row], y[row]
        largest = row_maximum(x_)
        for j in range(x_.size):
            y_[j] = decay(x_[j] - largest)
        scale = x.dtype.type(1) / row_sum(y_)
        for j in range(x_.size):
            y_[j] *= scale


@per_dtype("r3 s w3")
def causal_softmax_forward(x: Any, scale: Any, y: Any) -> None:
    queries, keys = x.shape[1:]
    for batch in range(x.shape[0]):
        for query in range(queries):
            seen = query + keys - queries + 1
            x_, y_ = x[batch, query, :seen], y[batch, query, : whole_vectors(seen, keys)]
            for j in range(seen):
                y_[j] = x_[j] * scale
            y_[seen:] = -np.inf
            largest = row_maximum(y_)
            for j in range(y_.size):
                y_[j] = decay(y_[j] - largest)
            y_[seen:] = 0
            inverse = x.dtype.type(1) / row_sum(y_)
            for j in range(y_.size):
                y_[j] *= inverse
            y[batch, query, seen:] = 0


@per_dtype("r2 r2 s b w2")
def softmax_backward(g: Any, y: Any, scale: Any, in_place: Any, dx: Any) -> None:
    """`in_place` says that dx is g: then a row goes through scratch, or LLVM's check would choose the slow loop."""
    line = np.empty(g.shape[1], g.dtype)
    for row in range(g.shape[0]):
        g_, y_, d_ = g[row], y[row], dx[row]
        along = row_product(g_, y_)
        if in_place:
            for j in range(g_.size):
                line[j] = (g_[j] - along) * y_[j] * scale
            for j in range(g_.size):
                d_[j] = line[j]
        else:
            for j in range(g_.size):
                d_[j] = (g_[j] - along) * y_[j] * scale
