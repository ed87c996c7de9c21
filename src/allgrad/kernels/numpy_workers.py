"""Sums over the rows of a batch, worker by worker, with NumPy; documented in `interface.Kernels`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from allgrad.kernels.blocks import output
from allgrad.kernels.numpy_matmul import matmul
from allgrad.kernels.numpy_sums import bias_gradient

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.kernels.blocks import Array


def product_by_worker(a: Array, b: Array, edges: Array, order: Array, merges: Array, *, out: Array) -> Array:
    """See `Kernels.product_by_worker`."""
    return _added(lambda rows: matmul(a[rows].T, b[rows]), edges, order, merges, out)


def sum_by_worker(g: Array, edges: Array, order: Array, merges: Array, *, out: Array) -> Array:
    """See `Kernels.sum_by_worker`."""
    return _added(lambda rows: bias_gradient(g[rows]), edges, order, merges, out)


def product_of_each_worker(a: Array, b: Array, edges: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.product_of_each_worker`."""
    out = output(out, a, (len(edges) - 1, a.shape[1], b.shape[1]))
    for i, (start, stop) in enumerate(pairwise(edges.tolist())):
        matmul(a[start:stop].T, b[start:stop], out=out[i])
    return out


def sum_of_each_worker(g: Array, edges: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.sum_of_each_worker`."""
    out = output(out, g, (len(edges) - 1, g.shape[1]))
    for i, (start, stop) in enumerate(pairwise(edges.tolist())):
        bias_gradient(g[start:stop], out=out[i])
    return out


def _added(one: Callable[[slice], Array], edges: Array, order: Array, merges: Array, out: Array) -> Array:
    stack: list[Array] = []
    for worker, count in zip(order.tolist(), merges.tolist(), strict=True):
        stack.append(one(slice(edges[worker], edges[worker + 1])))
        for _ in range(count):
            right = stack.pop()
            np.add(stack[-1], right, out=stack[-1])
    np.copyto(out, stack[0])
    return out
