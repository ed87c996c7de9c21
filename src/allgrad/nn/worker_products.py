"""x @ weight + bias with derivatives of every order, for the rows of several virtual workers.

This is what a linear layer computes where a loss takes derivatives inside the model (a physics-informed network). There each
operation that uses a parameter contributes to its gradient, and in a batch of several workers (`batched_workers.py`) each
contribution is one per worker. So the tape has one copy of the parameter per worker: `_copies(p)` is (workers, *p.shape), a view
in which all copies are the same memory. With worker w's rows i of x (rows, m) and y (rows, n),

    rows_product(x, W)[i] = x[i] W[w]                          W: (workers, m, n)
    _rows_affine(x, W, b)[i] = x[i] W[w] + b[w]                b: (workers, n)
    outer_product(x, y)[w] = the sum over i of x[i]^T y[i]     (workers, m, n)
    _sums(y)[w] = the sum over i of y[i]                       (workers, n)
    _spread(b)[i] = b[w]                                       (rows, n)

which are one another's derivatives. The cotangent of `_copies(p)` holds one gradient for each worker. Without a batch there is
one worker, which has all rows; so each worker's gradients have the same bits either way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff import Fused, Primitive
from allgrad.autodiff.node import Leaf
from allgrad.kernels import active
from allgrad.kernels.blocks import as_rows
from allgrad.nn.batched_workers import ONE_WORKER, OneByOneError, Workers, current_workers
from allgrad.nn.gradients import each_gradient, gradient_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["affine"]

Array = np.ndarray[Any, Any]


def _same_copies(copies: Array) -> bool:
    return copies.shape[0] == 1 or copies.strides[0] == 0


def _rows_product(x: Array, w: Array, *, workers: Workers) -> Array:
    if _same_copies(w):
        return active().matmul(x, w[0])
    out = np.empty((len(x), w.shape[2]), x.dtype)
    for rows, one in zip(workers.spans(len(x)), w, strict=True):
        active().matmul(x[rows], one, out=out[rows])
    return out


def _affine_value(x: Array, w: Array, b: Array, *, workers: Workers) -> Array:
    if _same_copies(w) and _same_copies(b):
        return active().matmul(x, w[0], bias=b[0])
    return _rows_product(x, w, workers=workers) + _spread_value(b, rows=len(x), workers=workers)


def _spread_value(b: Array, *, rows: int, workers: Workers) -> Array:
    if _same_copies(b):
        return np.broadcast_to(b[0], (rows, b.shape[1]))
    return np.repeat(b, np.diff(workers.edges(rows)), axis=0)


_PRODUCT_VJP: dict[str, Callable[..., Any]] = {
    "x": lambda g, w, *, workers: rows_product(g, np.swapaxes(w, -1, -2), workers=workers),
    "w": lambda g, x, *, workers: outer_product(x, g, workers=workers),
}
_PRODUCT_JVP: dict[str, Callable[..., Any]] = {
    "x": lambda t, w, *, workers: rows_product(t, w, workers=workers),
    "w": lambda t, x, *, workers: rows_product(x, t, workers=workers),
}

rows_product: Primitive = Primitive(
    _rows_product,
    name="rows_product",
    vjp=_PRODUCT_VJP,
    jvp=_PRODUCT_JVP,
)

_rows_affine: Primitive = Primitive(
    _affine_value,
    name="rows_affine",
    vjp={
        **_PRODUCT_VJP,
        "b": lambda g, *, workers: _sums(g, workers=workers),
    },
    jvp={
        **_PRODUCT_JVP,
        "b": lambda t, ans, *, workers: _spread(t, rows=len(ans), workers=workers),
    },
)

outer_product: Primitive = Primitive(
    lambda x, y, *, workers: active().product_of_each_worker(x, y, workers.edges(len(x))),
    name="outer_product",
    vjp={
        "x": lambda g, y, *, workers: rows_product(y, np.swapaxes(g, -1, -2), workers=workers),
        "y": lambda g, x, *, workers: rows_product(x, g, workers=workers),
    },
    jvp={
        "x": lambda t, y, *, workers: outer_product(t, y, workers=workers),
        "y": lambda t, x, *, workers: outer_product(x, t, workers=workers),
    },
)

_spread: Primitive = Primitive(
    _spread_value,
    name="spread",
    vjp={"b": lambda g, *, workers: _sums(g, workers=workers)},
    jvp={"b": lambda t, *, rows, workers: _spread(t, rows=rows, workers=workers)},
)

_sums: Primitive = Primitive(
    lambda y, *, workers: active().sum_of_each_worker(as_rows(y), workers.edges(len(y))),
    name="sums",
    vjp={"y": lambda g, y, *, workers: _spread(g, rows=len(y), workers=workers)},
    jvp={"y": lambda t, *, workers: _sums(t, workers=workers)},
)


def _copies_forward(parameter: Array, *, workers: Workers) -> tuple[Array, Any]:
    return np.broadcast_to(parameter, (len(workers.samples), *parameter.shape)), parameter


def _copies_backward(g: Array, parameter: Array, *, needs: Any, into: Any, workers: Workers) -> Sequence[Any]:  # noqa: ARG001
    gradient = gradient_for(parameter, into[0])
    each_gradient(g, gradient)
    return (gradient,)


def _copies_reference(parameter: Any, *, workers: Workers) -> Any:
    return np.broadcast_to(parameter, (len(workers.samples), *parameter.shape))


_make_copies = Fused(_copies_forward, _copies_backward, name="copies", reference=_copies_reference, by_worker=True)


def _copies(parameter: Any, workers: Workers) -> Any:
    node = getattr(parameter, "node", None)
    if workers is not ONE_WORKER and node is not None and not isinstance(node, Leaf):
        raise OneByOneError("the loss takes derivatives in reverse mode inside the model (ag.jvp is in forward mode)")
    return _make_copies(parameter, workers=workers)


def affine(x: Any, weight: Any, bias: Any = None, *, transposed: bool = False) -> Any:
    """x @ weight + bias, or x @ weight^T + bias: (..., out) float.

    Args:
        x: (..., in) float.
        weight: (in, out) float; `transposed`: (out, in).
        bias: (out,) float, or None.
    """
    workers = current_workers() or ONE_WORKER
    rows = x if x.ndim == 2 else np.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    copies = _copies(weight, workers)
    copies = np.swapaxes(copies, -1, -2) if transposed else copies
    if bias is None:
        y = rows_product(rows, copies, workers=workers)
    else:
        y = _rows_affine(rows, copies, _copies(bias, workers), workers=workers)
    return y if x.ndim == 2 else np.reshape(y, (*x.shape[:-1], y.shape[-1]))
