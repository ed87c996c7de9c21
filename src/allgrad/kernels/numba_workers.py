"""Sums over the rows of a batch, worker by worker, added over the fixed tree: the gradients of weights and biases.

The workers come in the order of a stack machine: each one's own sum is pushed, and then `merges[i]` times the top of the stack is
added to the entry below it. If the workers have few rows, that happens tile by tile (`matmul/strip.py`). Otherwise the bottom of
the stack is the result's own memory, and a block of rows of the result goes through all workers before the next block, so that
the stack stays in cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from allgrad.kernels.blocks import Array, as_rows, output, scratch
from allgrad.kernels.jit import PerDtype, compiled, specialised
from allgrad.kernels.matmul.blocking import DONE, multiply, scratch_size
from allgrad.kernels.matmul.llvm import address
from allgrad.kernels.matmul.product import matmul
from allgrad.kernels.matmul.strip import FIELDS
from allgrad.kernels.numba_loops import bias_gradient

FEW_ROWS = 1024
"""With at most this many rows of a batch, the product adds the workers' sums while a tile of the result is in registers."""
BLOCK_ROWS = 264
"""Rows of the result per block otherwise. Each block packs the right operand again, and the stack has several blocks."""

# `bias_gradient` is replaced by its compiled form.


@register_jitable
def in_segments(core: Any, a: Any, b: Any, out: Any, none: Any, room: Any, segments: Any) -> Any:
    """`multiply` with a table of segments. The table is an argument, because numba may free an array after its last use."""
    return multiply(core, a, b, out, none, room, False, address(segments), len(segments))


def products(
    core: Any, a: Any, b: Any, edges: Any, order: Any, merges: Any, out: Any, stack: Any, none: Any, room: Any
) -> Any:
    if len(a) <= FEW_ROWS:
        segments = np.empty((order.size, FIELDS), np.int64)
        for i in range(order.size):
            start, stop = edges[order[i]], edges[order[i] + 1]
            segments[i, 0], segments[i, 1], segments[i, 2] = start, stop - start, merges[i]
        return in_segments(core, a.T, b, out, none, room, segments)
    block = stack.shape[1]
    for top in range(0, out.shape[0], block):
        high = min(block, out.shape[0] - top)
        bottom = out[top : top + high]
        depth = 0
        for i in range(order.size):
            start, stop = edges[order[i]], edges[order[i] + 1]
            here = bottom if depth == 0 else stack[depth - 1, :high]
            answer = multiply(core, a[start:stop, top : top + high].T, b[start:stop], here, none, room, False)
            if answer != DONE:
                return answer
            for _ in range(merges[i]):
                left = (bottom if depth == 1 else stack[depth - 2, :high]).reshape(-1)
                right = stack[depth - 1, :high].reshape(-1)
                for j in range(left.size):
                    left[j] += right[j]
                depth -= 1
            depth += 1
    return DONE


def sums(g: Any, edges: Any, order: Any, merges: Any, out: Any) -> None:
    stack = np.empty((order.size, g.shape[1]), g.dtype)
    depth = 0
    for i in range(order.size):
        here = out if depth == 0 else stack[depth - 1]
        bias_gradient(g[edges[order[i]] : edges[order[i] + 1]], here)
        for _ in range(merges[i]):
            left, right = (out if depth == 1 else stack[depth - 2]), stack[depth - 1]
            for j in range(left.size):
                left[j] += right[j]
            depth -= 1
        depth += 1


def each_product(core: Any, a: Any, b: Any, edges: Any, out: Any, none: Any, room: Any) -> Any:
    for i in range(out.shape[0]):
        start, stop = edges[i], edges[i + 1]
        answer = multiply(core, a[start:stop].T, b[start:stop], out[i], none, room, False)
        if answer != DONE:
            return answer
    return DONE


def each_sum(g: Any, edges: Any, out: Any) -> None:
    for i in range(out.shape[0]):
        bias_gradient(g[edges[i] : edges[i + 1]], out[i])


def _with_bias_gradient(dtype: np.dtype[Any]) -> tuple[str, dict[str, Any]]:
    loops = specialised(bias_gradient, f"{dtype.name}_by_worker", {})
    return "", {"bias_gradient": compiled(loops)}


_products = PerDtype(products, "n R2 R2 k k k w2 w3 r1 w1")
_sums = PerDtype(sums, "r2 k k k w1", variant=_with_bias_gradient)
_each_product = PerDtype(each_product, "n R2 R2 k w3 r1 w1")
_each_sum = PerDtype(each_sum, "r2 k w2", variant=_with_bias_gradient)


def product_by_worker(a: Array, b: Array, edges: Array, order: Array, merges: Array, *, out: Array) -> Array:
    """See `Kernels.product_by_worker`."""
    few = len(a) <= FEW_ROWS
    shape = (0, 0, 0) if few else (_depth(merges), min(BLOCK_ROWS, out.shape[0]), out.shape[1])
    room, none = matmul.memory(a.dtype, scratch_size(len(a), out.shape[1], len(order) if few else 0))
    loops, core, stack = _products[a.dtype], matmul.core[a.dtype], scratch(a.dtype, 0, shape)
    if (
        loops(core, a, b, edges, order, merges, out, stack, none, room) != DONE
    ):  # strides that the product cannot work with
        answer = loops(core, np.array(a), np.array(b), edges, order, merges, out, stack, none, room)
        assert answer == DONE, answer
    return out


def _depth(merges: Array) -> int:
    """How many entries the stack has above its lowest one, at most; at least 1."""
    return int(max(1, np.max(np.arange(len(merges)) - np.cumsum(merges) + merges)))


def sum_by_worker(g: Array, edges: Array, order: Array, merges: Array, *, out: Array) -> Array:
    """See `Kernels.sum_by_worker`."""
    _sums[g.dtype](as_rows(g), edges, order, merges, out)
    return out


def product_of_each_worker(a: Array, b: Array, edges: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.product_of_each_worker`."""
    out = output(out, a, (len(edges) - 1, a.shape[1], b.shape[1]))
    room, none = matmul.memory(a.dtype, scratch_size(len(a), out.shape[2]))
    loops, core = _each_product[a.dtype], matmul.core[a.dtype]
    if loops(core, a, b, edges, out, none, room) != DONE:  # strides that the product cannot work with
        answer = loops(core, np.array(a), np.array(b), edges, out, none, room)
        assert answer == DONE, answer
    return out


def sum_of_each_worker(g: Array, edges: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.sum_of_each_worker`."""
    rows = as_rows(g)
    out = output(out, rows, (len(edges) - 1, rows.shape[1]))
    _each_sum[g.dtype](rows, edges, out)
    return out
