"""Gradients of parameters, which are sums over the rows of a batch: compiled, also worker by worker over the fixed tree.

The additions are those of a stack (`gradients.py`). If the workers have few rows, they are made tile by tile (`matmul/strip.py`).
Otherwise the bottom of the stack is the result's own memory, and a block of rows of the result goes through all workers before
the next block, so that the stack stays in cache.
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


@per_dtype("n R2 R2 k2 w2 w1")
def in_registers(core: Any, a: Any, b: Any, segments: Any, out: Any, scratch: Any) -> bool:
    """The sums of the workers are added while a tile of the result is in registers. False if an operand is not `usable`."""
    if not (usable(a, out) and usable(b, out)):
        return False
    if out.size > 0:
        one_product(core, a, b, 0, len(a), out, 0, address(scratch), address(segments), len(segments))
    return True


@per_dtype("n R2 R2 k2 w2 w3 w1")
def in_blocks(core: Any, a: Any, b: Any, segments: Any, out: Any, stack: Any, scratch: Any) -> bool:
    """They are added block by block of the result's rows. False if an operand is not `usable`."""
    if not (usable(a, out) and usable(b, out)):
        return False
    block, columns = stack.shape[1:]
    for top in range(0, out.shape[0] if columns > 0 else 0, block):
        high = min(block, out.shape[0] - top)
        bottom = out[top : top + high]
        depth = start = 0
        for i in range(len(segments)):
            here = bottom if depth == 0 else stack[depth - 1, :high]
            one_product(core, a, b, start, start + segments[i, 0], here, top, address(scratch))
            start += segments[i, 0]
            for _ in range(segments[i, 1]):
                left = (bottom if depth == 1 else stack[depth - 2, :high]).reshape(-1)
                right = stack[depth - 1, :high].reshape(-1)
                for j in range(left.size):
                    left[j] += right[j]
                depth -= 1
            depth += 1
    return True


@per_dtype("r2 k2 w1", variant=_with_sum_of_rows, references=True)
def sum_by_worker(g: Any, segments: Any, out: Any) -> None:
    stack = np.empty((len(segments), g.shape[1]), g.dtype)
    depth = start = 0
    for i in range(len(segments)):
        stop = start + segments[i, 0]
        sum_rows(g[start:stop], out if depth == 0 else stack[depth - 1])
        start = stop
        for _ in range(segments[i, 1]):
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


def product_by_worker(a: Array, b: Array, segments: Array, out: Array) -> None:
    loops: Any
    memory: tuple[Array, ...]
    if len(a) <= FEW_ROWS:
        room, _ = matmul.memory(a.dtype, _scratch_size(len(a), out.shape[1], len(segments)))
        loops, memory = in_registers[a.dtype], (room,)
    else:
        room, _ = matmul.memory(a.dtype, _scratch_size(len(a), out.shape[1]))
        height = min(BLOCK_ROWS, max(1, out.shape[0]))
        loops, memory = in_blocks[a.dtype], (scratch(a.dtype, 0, (_depth(segments[:, 1]), height, out.shape[1])), room)
    core = matmul.core[a.dtype]
    if not loops(core, a, b, segments, out, *memory):
        loops(core, np.array(a), np.array(b), segments, out, *memory)


def _depth(merges: Array) -> int:
    """How many entries the stack has above its lowest one, at most; at least 1."""
    return int(max(1, np.max(np.arange(len(merges)) - np.cumsum(merges) + merges)))


def product_of_each_worker(a: Array, b: Array, edges: Array, out: Array) -> None:
    room, _ = matmul.memory(a.dtype, scratch_size(len(a), out.shape[2]))
    loops, core = each_product[a.dtype], matmul.core[a.dtype]
    if not loops(core, a, b, edges, out, room):
        loops(core, np.array(a), np.array(b), edges, out, room)
