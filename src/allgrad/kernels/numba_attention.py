"""Attention compiled: all samples and heads of a layer in one call, block by block. The formulas are in `nn/attention.py`.

A block is `QUERIES` queries of one head and the keys that they see: with a causal mask, those up to the last query. Its scores
(queries, keys) stay in the first two levels of the cache from the product q k^T to the product with v. With a causal mask, the
forward pass takes `CAUSAL_QUERIES` queries of a block at a time, and computes fewer scores in vain. Sums over queries, in dK and
dV, continue one chain of fused multiply-adds from block to block, the last block first, and from one head to the next that shares
the keys. So no bit depends on the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.kernels import threads
from allgrad.kernels.jit import PerDtype, callee
from allgrad.kernels.matmul.blocking import multiply, scratch_size
from allgrad.kernels.matmul.llvm import address, matrix
from allgrad.kernels.matmul.product import matmul
from allgrad.kernels.numba_softmax_row import softmax_gradient_row, softmax_row

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array

QUERIES = 64
CAUSAL_QUERIES = 32


@callee
def probabilities(p: Any, first: Any, causal: Any, hidden: Any, scale: Any) -> None:
    """Softmax of scale * p (queries, keys) in place; query i is number first + i. A query without keys gets zeros."""
    zero, one, lowest = p.dtype.type(0), p.dtype.type(1), p.dtype.type(np.finfo(p.dtype).min)
    for i in range(p.shape[0]):
        seen, row = first + i + 1 if causal else p.shape[1], p[i]
        if hidden.size:
            for j in range(seen):
                row[j] = lowest if hidden[j] else row[j] * scale
        softmax_row(row, row, seen, one if hidden.size else scale)
        if hidden.size:
            for j in range(seen):
                row[j] = zero if hidden[j] else row[j]


@callee
def drop(p: Any, factors: Any, first: Any, out: Any) -> None:
    """out = p times the factors of its queries and keys; query i is number first + i."""
    for i in range(p.shape[0]):
        row, factor, result = p[i], factors[first + i], out[i]
        for j in range(row.size):
            result[j] = row[j] * factor[j]


def forward(
    core: Any, packed: Any, group: Any, causal: Any, hidden: Any, scale: Any, dropout: Any, answer: Any, kept: Any, keep: Any,
    dropped: Any, room: Any,
) -> None:  # fmt: skip
    length, queries, features = answer.shape[1:]
    keys, scratch = queries // group, address(room)
    width, out, item = packed.shape[2] * features, queries * features, packed.itemsize  # between positions, in elements
    height = CAUSAL_QUERIES if causal else QUERIES
    for b in range(packed.shape[0]):
        sample = address(packed) + b * length * width * item
        for h in range(queries):
            q, k = sample + h * features * item, sample + (queries + h // group) * features * item
            v = k + keys * features * item
            line = address(kept) + ((b * queries + h) * kept.shape[2] * item if keep else 0)
            for start in range(0, length, QUERIES):
                stop = min(start + QUERIES, length)
                seen = stop if causal else length
                for top in range(start, stop, height):
                    bottom = min(top + height, stop)
                    rows, wide = bottom - top, bottom if causal else length
                    p = matrix(packed, line + (top - start) * seen * item, rows, seen)
                    here = q + top * width * item
                    multiply(core, rows, features, wide, here, width, 1, k, 1, width, address(p), seen, 0, scratch)
                    probabilities(p, top, causal, hidden[b], scale)
                    weights = p
                    if dropout.size:
                        weights = matrix(packed, address(dropped), rows, seen)
                        drop(p, dropout[b, h], top, weights)
                    there = address(answer) + ((b * length + top) * queries + h) * features * item
                    multiply(core, rows, wide, features, address(weights), seen, 1, v, width, 1, there, out, 0, scratch)
                line += (stop - start) * seen * item if keep else 0


def backward(
    core: Any, g: Any, packed: Any, group: Any, causal: Any, hidden: Any, scale: Any, dropout: Any, kept: Any,
    keep: Any, scores: Any, again: Any, dropped: Any, gradient: Any, room: Any,
) -> None:  # fmt: skip
    length, queries, features = g.shape[1:]
    keys, scratch = queries // group, address(room)
    width, out, item = packed.shape[2] * features, queries * features, packed.itemsize
    for b in range(packed.shape[0]):
        sample = b * length * width * item
        for h in range(queries):
            at_q, at_k = sample + h * features * item, sample + (queries + h // group) * features * item
            at_v = at_k + keys * features * item
            k, v = address(packed) + at_k, address(packed) + at_v
            dk, dv = address(gradient) + at_k, address(gradient) + at_v
            stop = length
            line = address(kept) + (b * queries + h + 1) * kept.shape[2] * item
            while stop > 0:
                start = (stop - 1) // QUERIES * QUERIES
                seen, rows = stop if causal else length, stop - start
                from_q = at_q + start * width * item
                q, dq = address(packed) + from_q, address(gradient) + from_q
                d = address(g) + ((b * length + start) * queries + h) * features * item
                line -= rows * seen * item
                p = matrix(packed, line if keep else address(again), rows, seen)
                if not keep:
                    multiply(core, rows, features, seen, q, width, 1, k, 1, width, address(p), seen, 0, scratch)
                    probabilities(p, start, causal, hidden[b], scale)
                weights = p
                if dropout.size:
                    weights = matrix(packed, address(dropped), rows, seen)
                    drop(p, dropout[b, h], start, weights)
                adds = 1 if stop < length or h % group > 0 else 0
                multiply(core, seen, rows, features, address(weights), 1, seen, d, out, 1, dv, width, adds, scratch)
                ds = matrix(packed, address(scores), rows, seen)
                multiply(core, rows, features, seen, d, out, 1, v, 1, width, address(ds), seen, 0, scratch)
                if dropout.size:
                    drop(ds, dropout[b, h], start, ds)
                for i in range(rows):
                    softmax_gradient_row(ds[i], p[i], scale, ds[i])
                multiply(core, rows, seen, features, address(ds), seen, 1, k, width, 1, dq, width, 0, scratch)
                multiply(core, seen, rows, features, address(ds), 1, seen, q, width, 1, dk, width, adds, scratch)
                stop = start


_forward = PerDtype(forward, "n r4 n b m s r4 w4 w3 b w1 w1")
_backward = PerDtype(backward, "n r4 r4 n b m s r4 w3 b w1 w1 w1 w4 w1")


def _size(length: int, causal: bool) -> int:
    """The number of scores of one head."""
    stops = [min(start + QUERIES, length) for start in range(0, length, QUERIES)]
    return sum((stop - i * QUERIES) * (stop if causal else length) for i, stop in enumerate(stops))


def _hidden(padding_mask: Array | None, batch: int) -> Array:
    return np.empty((batch, 0), bool) if padding_mask is None else np.ascontiguousarray(padding_mask)


def _factors(dropout: Array | None, packed: Array) -> Array:
    return np.empty((len(packed), 0, 0, 0), packed.dtype) if dropout is None else np.ascontiguousarray(dropout)


def attention_forward(
    packed: Array,
    causal: bool,
    padding_mask: Array | None,
    scale: float,
    dropout: Array | None,
    keep: bool,
    answer: Array,
) -> Array | None:
    batch, length, query_heads, features = answer.shape
    group = 2 * query_heads // (packed.shape[2] - query_heads)
    kept = np.empty((batch, query_heads, _size(length, causal)), packed.dtype) if keep else None
    loops, core, hidden = _forward[packed.dtype], matmul.core[packed.dtype], _hidden(padding_mask, batch)

    factors = _factors(dropout, packed)

    def part(span: slice) -> int:
        dropped = np.empty(QUERIES * length if factors.size else 0, packed.dtype)
        scores = np.empty((1, 1, QUERIES * length), packed.dtype) if kept is None else kept[span]
        memory = _memory(length, features, packed)
        loops(
            core, packed[span], group, causal, hidden[span], scale, factors[span], answer[span], scores, keep, dropped, memory
        )  # fmt: skip
        return 0

    threads.each(part, _samples(batch, query_heads, length, features))
    return kept


def attention_backward(
    g: Array,
    packed: Array,
    kept: Array | None,
    query_heads: int,
    causal: bool,
    padding_mask: Array | None,
    scale: float,
    dropout: Array | None,
    gradient: Array,
) -> None:
    batch, length, heads, features = packed.shape
    group = 2 * query_heads // (heads - query_heads)
    g = np.ascontiguousarray(g)
    loops, hidden, keep = _backward[packed.dtype], _hidden(padding_mask, batch), kept is not None
    core = matmul.core[packed.dtype]
    known = np.empty((batch, 0, 0), packed.dtype) if kept is None else kept
    factors = _factors(dropout, packed)

    def part(span: slice) -> int:
        scores, again, dropped = np.empty((3, QUERIES * length), packed.dtype)
        memory = _memory(length, features, packed)
        loops(
            core, g[span], packed[span], group, causal, hidden[span], scale, factors[span], known[span], keep, scores, again,
            dropped, gradient[span], memory,
        )  # fmt: skip
        return 0

    threads.each(part, _samples(batch, query_heads, length, features))


def _samples(batch: int, heads: int, length: int, features: int) -> list[slice]:
    """The samples of a part of a call."""
    return threads.pieces(batch, 2 * batch * heads * length * length * features, per_thread=2)


def _memory(length: int, features: int, like: Array) -> Array:
    """This thread's scratch for the products."""
    shapes = ((features, length), (length, features), (QUERIES, features))
    return matmul.memory(like.dtype, max(scratch_size(*shape) for shape in shapes))[0]
