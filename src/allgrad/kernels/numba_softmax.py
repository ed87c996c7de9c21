"""Softmax and causal softmax over the last axis, compiled."""

from __future__ import annotations

from typing import Any

from allgrad.kernels.jit import per_dtype
from allgrad.kernels.numba_softmax_row import softmax_gradient_row, softmax_row


@per_dtype("r2 w2")
def softmax_forward(x: Any, y: Any) -> None:
    for row in range(x.shape[0]):
        softmax_row(x[row], y[row], x.shape[1], x.dtype.type(1))


@per_dtype("r3 s w3")
def causal_softmax_forward(x: Any, scale: Any, y: Any) -> None:
    queries, keys = x.shape[1:]
    for batch in range(x.shape[0]):
        for query in range(queries):
            softmax_row(x[batch, query], y[batch, query], query + keys - queries + 1, scale)


@per_dtype("r2 r2 s w2")
def softmax_backward(g: Any, y: Any, scale: Any, dx: Any) -> None:
    for row in range(g.shape[0]):
        softmax_gradient_row(g[row], y[row], scale, dx[row])
