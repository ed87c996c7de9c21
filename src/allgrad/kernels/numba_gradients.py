"""Gradients of parameters, which are sums over the rows of a batch: compiled, also worker by worker over the fixed tree.

The workers come in the order of a stack machine: each one's own sum is pushed, and then `merges[i]` times the top of the stack is
added to the entry below it. If the workers have few rows, that happens tile by tile (`matmul/strip.py`). Otherwise the bottom of
the stack is the result's own memory, and a block of rows of the result goes through all workers before the next block, so that
the stack stays in cache.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from allgrad.kernels.blocks import Array, scratch
from allgrad.kernels.jit import callee, compiled, per_dtype, specialised
from allgrad.kernels.matmul.blocking import multiply, scratch_size
from allgrad.kernels.matmul.llvm import address
from allgrad.kernels.matmul.product import matmul
from allgrad.kernels.matmul.strip import FIELDS
from allgrad.kernels.numba_sums import row_product

FEW_ROWS = 1024
"""With at most this many rows of a batch, the product adds the workers' sums while a tile of the result is in registers."""
BLOCK_ROWS = 264
"""Rows of the result per block otherwise. Each block packs the right operand again, and the stack has several blocks."""


@per_dtype("r2 w1")
def bias_gradient(g: Any, out: Any) -> None:
    out[:] = 0
    for row in range(g.shape[0]):
        source = g[row]
        for j in range(source.size):
            out[j] += source[j]


@per_dtype("r1 r1")
def dot(x: Any, y: Any) -> Any:
    return row_product(x, y)


@per_dtype("r2 k w2")
def embedding_gradient(g: Any, indices: Any, out: Any) -> None:
    out[:] = 0
    for row in range(indices.size):
        source, target = g[row], out[indices[row]]
        for j in range(source.size):
            target[j] += source[j]


sum_rows: Any = bias_gradient.function  # `per_dtype` puts the compiled form in


def _with_sum_of_rows(dtype: np.dtype[Any]) -> tuple[str, dict[str, Any]]:
    return "", {"sum_rows": compiled(specialised(sum_rows, f"{dtype.name}_by_worker", {}))}


@callee
def usable(x: Any, out: Any) -> Any:
    """Whether `multiply` can work with x as it is: its strides are whole elements, and out is in other memory."""
    low = high = address(x)
    for axis in range(2):
        reach = (x.shape[axis] - 1) * x.strides[axis]
        low, high = low + min(reach, 0), high + max(reach, 0)
    item, start = out.itemsize, address(out)
    apart = high + item <= start or start + out.size * item <= low
    return apart and (x.strides[0] | x.strides[1]) & (item - 1) == 0


@callee
def one_product(
    core: Any, a: Any, b: Any, start: Any, stop: Any, out: Any, top: Any, room: Any, segments: Any = 0, count: Any = 0
) -> None:  # fmt: skip
    """out = a.T @ b over their rows from start to stop, of which out holds the rows from `top` on."""
    item = out.itemsize
    a_step, a_row, b_step, b_column = a.strides[0], a.strides[1], b.strides[0], b.strides[1]
    multiply(
        core, out.shape[0], stop - start, out.shape[1], address(a) + start * a_step + top * a_row, a_row // item, a_step // item,
        address(b) + start * b_step, b_step // item, b_column // item, address(out), out.shape[1], 0, room, segments, count,
    )  # fmt: skip


@callee
def in_segments(core: Any, a: Any, b: Any, out: Any, room: Any, table: Any) -> None:
    """out = a.T @ b with a table of segments. The table is an argument, because numba may free an array after its last use."""
    one_product(core, a, b, 0, len(a), out, 0, room, address(table), len(table))


@per_dtype("n R2 R2 k k k w2 w3 w1")
def products(
    core: Any, a: Any, b: Any, edges: Any, order: Any, merges: Any, out: Any, stack: Any, scratch: Any
) -> bool:  # fmt: skip
    """False if an operand is not `usable`."""
    if out.size == 0:
        return True
    if not (usable(a, out) and usable(b, out)):
        return False
    room = address(scratch)
    if len(a) <= FEW_ROWS:
        segments = np.empty((order.size, FIELDS), np.int64)
        for i in range(order.size):
            start, stop = edges[order[i]], edges[order[i] + 1]
            segments[i, 0], segments[i, 1], segments[i, 2] = start, stop - start, merges[i]
        in_segments(core, a, b, out, room, segments)
        return True
    block = stack.shape[1]
    for top in range(0, out.shape[0], block):
        high = min(block, out.shape[0] - top)
        bottom = out[top : top + high]
        depth = 0
        for i in range(order.size):
            here = bottom if depth == 0 else stack[depth - 1, :high]
            one_product(core, a, b, edges[order[i]], edges[order[i] + 1], here, top, room)
            for _ in range(merges[i]):
                left = (bottom if depth == 1 else stack[depth - 2, :high]).reshape(-1)
                right = stack[depth - 1, :high].reshape(-1)
                for j in range(left.size):
                    left[j] += right[j]
                depth -= 1
            depth += 1
    return True


@per_dtype("r2 k k k w1", variant=_with_sum_of_rows)
def sum_by_worker(g: Any, edges: Any, order: Any, merges: Any, out: Any) -> None:
    stack = np.empty((order.size, g.shape[1]), g.dtype)
    depth = 0
    for i in range(order.size):
        here = out if depth == 0 else stack[depth - 1]
        sum_rows(g[edges[order[i]] : edges[order[i] + 1]], here)
        for _ in range(merges[i]):
            left, right = (out if depth == 1 else stack[depth - 2]), stack[depth - 1]
            for j in range(left.size):
                left[j] += right[j]
            depth -= 1
        depth += 1


@per_dtype("n R2 R2 k w3 w1")
def each_product(core: Any, a: Any, b: Any, edges: Any, out: Any, scratch: Any) -> bool:
    """False if an operand is not `usable`."""
    if out.size == 0:
        return True
    if not (usable(a, out) and usable(b, out)):
        return False
    for i in range(out.shape[0]):
        one_product(core, a, b, edges[i], edges[i + 1], out[i], 0, address(scratch))
    return True


@per_dtype("r2 k w2", variant=_with_sum_of_rows)
def sum_of_each_worker(g: Any, edges: Any, out: Any) -> None:
    for i in range(out.shape[0]):
        sum_rows(g[edges[i] : edges[i + 1]], out[i])


_scratch_size = cache(scratch_size)


def product_by_worker(a: Array, b: Array, edges: Array, order: Array, merges: Array, out: Array) -> None:
    few = len(a) <= FEW_ROWS
    room, _ = matmul.memory(a.dtype, _scratch_size(len(a), out.shape[1], len(order) if few else 0))
    stack = out[None]
    if not few:
        stack = scratch(a.dtype, 0, (_depth(merges), min(BLOCK_ROWS, out.shape[0]), out.shape[1]))
    loops, core = products[a.dtype], matmul.core[a.dtype]
    if not loops(core, a, b, edges, order, merges, out, stack, room):
        loops(core, np.array(a), np.array(b), edges, order, merges, out, stack, room)


def _depth(merges: Array) -> int:
    """How many entries the stack has above its lowest one, at most; at least 1."""
    return int(max(1, np.max(np.arange(len(merges)) - np.cumsum(merges) + merges)))


def product_of_each_worker(a: Array, b: Array, edges: Array, out: Array) -> None:
    room, _ = matmul.memory(a.dtype, scratch_size(len(a), out.shape[2]))
    loops, core = each_product[a.dtype], matmul.core[a.dtype]
    if not loops(core, a, b, edges, out, room):
        loops(core, np.array(a), np.array(b), edges, out, room)
