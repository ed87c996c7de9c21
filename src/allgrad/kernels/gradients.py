"""Gradients of parameters, which are sums over the rows of a batch, with loops in NumPy. The order of a sum is the rows'."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.kernels.blocks import AnyDtype, Array, as_rows, constant, contiguous, output

if TYPE_CHECKING:
    from collections.abc import Callable

ONE_HOT_LIMIT = 256
"""Up to this many table rows a one-hot product is faster than sorting."""


class Gradients:
    gradients: Any

    def bias_gradient(self, g: Array, *, out: Array | None = None) -> Array:
        """Sum of g (..., n) over all axes but the last: shape (n,)."""
        rows = as_rows(g)
        total = output(out, g, rows.shape[1:])
        self.gradients.bias_gradient[g.dtype](rows, total)
        return total

    def embedding_gradient(self, g: Array, indices: Array, *, out: Array) -> Array:
        """Sum of the rows of g (..., n) by index (0 <= index < len(out)), in their order; zeros where none.

        `indices` has g's leading shape. Writes all of `out`, shape (table rows, n).
        """
        output(out, g, out.shape)
        flat = np.ascontiguousarray(indices, np.int64).reshape(-1)
        self.gradients.embedding_gradient[g.dtype](as_rows(g), flat, out)
        return out

    def dot(self, x: Array, y: Array) -> float:
        """The inner product of two vectors."""
        return float(self.gradients.dot[x.dtype](contiguous(x), contiguous(y)))

    def product_by_worker(self, a: Array, b: Array, segments: Array, *, out: Array) -> Array:
        """The sum over some workers of a batch of a^T b, each over that worker's rows: (m, n), for a (rows, m) and b (rows, n).

        `segments` is (workers, 2) int64, in the order of the rows: how many rows a worker has, and merges. The additions are
        those of a stack: a worker's sum is pushed, and then `merges` times the top is added to the entry below it, which
        replaces both. One entry is left in the end. Each worker's own sum has the bits of `matmul`.
        """
        self.gradients.product_by_worker(a, b, segments, out)
        return out

    def sum_by_worker(self, g: Array, segments: Array, *, out: Array) -> Array:
        """The same for the sums over rows of g (rows, n): (n,). Each worker's own sum has the bits of `bias_gradient`."""
        self.gradients.sum_by_worker[g.dtype](as_rows(g), segments, out)
        return out

    def product_of_each_worker(self, a: Array, b: Array, edges: Array, *, out: Array | None = None) -> Array:
        """a^T b over the rows edges[i] to edges[i + 1] of each worker: (workers, m, n), each with the bits of `matmul`."""
        out = output(out, a, (len(edges) - 1, a.shape[1], b.shape[1]))
        self.gradients.product_of_each_worker(a, b, edges, out)
        return out

    def sum_of_each_worker(self, g: Array, edges: Array, *, out: Array | None = None) -> Array:
        """The sum of the rows of each worker: (workers, n), each with the bits of `bias_gradient`."""
        rows = as_rows(g)
        out = output(out, rows, (len(edges) - 1, rows.shape[1]))
        self.gradients.sum_of_each_worker[g.dtype](rows, edges, out)
        return out


@AnyDtype
def bias_gradient(g: Array, out: Array) -> None:
    np.matmul(constant(g.dtype, 1, len(g)), g, out=out)


@AnyDtype
def embedding_gradient(g: Array, indices: Array, out: Array) -> None:
    if out.shape[0] <= ONE_HOT_LIMIT and indices.size:
        hot = np.zeros((indices.size, out.shape[0]), g.dtype)
        hot.reshape(-1)[indices + np.arange(indices.size) * out.shape[0]] = 1
        np.matmul(hot.T, g, out=out)
        return
    out[...] = 0
    if indices.size:
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        out[ordered[starts]] = np.add.reduceat(g[order], starts, axis=0)


dot = AnyDtype(np.dot)


def product_by_worker(a: Array, b: Array, segments: Array, out: Array) -> None:
    _add_up(lambda rows: np.matmul(a[rows].T, b[rows]), segments, out)


@AnyDtype
def sum_by_worker(g: Array, segments: Array, out: Array) -> None:
    _add_up(lambda rows: constant(g.dtype, 1, rows.stop - rows.start) @ g[rows], segments, out)


def product_of_each_worker(a: Array, b: Array, edges: Array, out: Array) -> None:
    for i, (start, stop) in enumerate(pairwise(edges.tolist())):
        np.matmul(a[start:stop].T, b[start:stop], out=out[i])


@AnyDtype
def sum_of_each_worker(g: Array, edges: Array, out: Array) -> None:
    for i, (start, stop) in enumerate(pairwise(edges.tolist())):
        bias_gradient(g[start:stop], out[i])


def _add_up(one: Callable[[slice], Array], segments: Array, out: Array) -> None:
    stack: list[Array] = []
    start = 0
    for rows, merges in segments.tolist():
        stack.append(one(slice(start, start + rows)))
        start += rows
        for _ in range(merges):
            right = stack.pop()
            np.add(stack[-1], right, out=stack[-1])
    np.copyto(out, stack[0])
