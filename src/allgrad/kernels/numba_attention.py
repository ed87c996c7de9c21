"""Attention compiled: all samples and heads of a layer in one call, block by block. The formulas are in `nn/attention.py`.

A block is `QUERIES` queries of one head and the keys that they see: with a causal mask, those up to the last query. Its scores
(queries, keys) stay in the first two levels of the cache from the product q k^T to the product with v. Sums over queries, in dK
and dV, continue one chain of fused multiply-adds from block to block, the last block first, and from one head to the next that
shares the keys. So no bit depends on the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba.extending import register_jitable

from allgrad.kernels import threads
from allgrad.kernels.jit import PerDtype
from allgrad.kernels.matmul.blocking import multiply, scratch_size
from allgrad.kernels.matmul.product import matmul
from allgrad.kernels.numba_math import decay
from allgrad.kernels.numba_sums import row_maximum, row_product, row_sum

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array

QUERIES = 64


@register_jitable
def probabilities(p: Any, first: Any, causal: Any, hidden: Any, scale: Any) -> None:
    """Softmax of scale * p (queries, keys) in place; query i is number first + i. A query without keys gets zeros."""
    zero, lowest = p.dtype.type(0), p.dtype.type(np.finfo(p.dtype).min)
    for i in range(p.shape[0]):
        seen = first + i + 1 if causal else p.shape[1]
        row, rest = p[i, :seen], p[i, seen:]
        for j in range(seen):
            row[j] *= scale
        if hidden.size:
            for j in range(seen):
                row[j] = lowest if hidden[j] else row[j]
        largest = row_maximum(row)
        for j in range(seen):
            row[j] = decay(row[j] - largest)
        if hidden.size:
            for j in range(seen):
                row[j] = zero if hidden[j] else row[j]
        total = row_sum(row)
        inverse = p.dtype.type(1) / total if total > zero else zero
        for j in range(seen):
            row[j] *= inverse
        rest[:] = zero


def forward(
    core: Any,
    packed: Any,
    group: Any,
    causal: Any,
    hidden: Any,
    scale: Any,
    answer: Any,
    kept: Any,
    keep: Any,
    room: Any,
    none: Any,
) -> None:
    length, queries = answer.shape[1], answer.shape[2]
    keys = queries // group
    for b in range(packed.shape[0]):
        for h in range(queries):
            q, k, v = packed[b, :, h], packed[b, :, queries + h // group], packed[b, :, queries + keys + h // group]
            line, at = kept[b if keep else 0, h if keep else 0], 0
            for start in range(0, length, QUERIES):
                stop = min(start + QUERIES, length)
                seen = stop if causal else length
                p = line[at : at + (stop - start) * seen].reshape((stop - start, seen))
                multiply(core, q[start:stop], k[:seen].T, p, none, room, False)
                probabilities(p, start, causal, hidden[b], scale)
                multiply(core, p, v[:seen], answer[b, start:stop, h], none, room, False)
                at += p.size if keep else 0


def backward(
    core: Any, g: Any, packed: Any, group: Any, causal: Any, hidden: Any, scale: Any, kept: Any, keep: Any, scores: Any,
    again: Any, gradient: Any, room: Any, none: Any,
) -> None:  # fmt: skip
    length, queries = g.shape[1], g.shape[2]
    keys = queries // group
    for b in range(packed.shape[0]):
        for h in range(queries):
            at_k, at_v = queries + h // group, queries + keys + h // group
            q, k, v, d_ = packed[b, :, h], packed[b, :, at_k], packed[b, :, at_v], g[b, :, h]
            dq, dk, dv = gradient[b, :, h], gradient[b, :, at_k], gradient[b, :, at_v]
            stop = length
            at = kept.shape[2] if keep else 0
            while stop > 0:
                start = (stop - 1) // QUERIES * QUERIES
                seen, size = stop if causal else length, (stop - start) * (stop if causal else length)
                shape = (stop - start, seen)
                if keep:
                    at -= size
                    p = kept[b, h, at : at + size].reshape(shape)
                else:
                    p = again[:size].reshape(shape)
                    multiply(core, q[start:stop], k[:seen].T, p, none, room, False)
                    probabilities(p, start, causal, hidden[b], scale)
                adds = stop < length or h % group > 0
                multiply(core, p.T, d_[start:stop], dv[:seen], none, room, adds)
                ds = scores[:size].reshape(shape)
                multiply(core, d_[start:stop], v[:seen].T, ds, none, room, False)
                for i in range(stop - start):
                    ds_, p_ = ds[i], p[i]
                    along = row_product(ds_, p_)
                    for j in range(seen):
                        ds_[j] = (ds_[j] - along) * p_[j] * scale
                multiply(core, ds, k[:seen], dq[start:stop], none, room, False)
                multiply(core, ds.T, q[start:stop], dk[:seen], none, room, adds)
                stop = start


_forward = PerDtype(forward, "n r4 n b m s w4 w3 b w1 r1")
_backward = PerDtype(backward, "n r4 r4 n b m s w3 b w1 w1 w4 w1 r1")


def _size(length: int, causal: bool) -> int:
    """The number of scores of one head."""
    stops = [min(start + QUERIES, length) for start in range(0, length, QUERIES)]
    return sum((stop - i * QUERIES) * (stop if causal else length) for i, stop in enumerate(stops))


def _hidden(padding_mask: Array | None, batch: int) -> Array:
    return np.empty((batch, 0), bool) if padding_mask is None else np.ascontiguousarray(padding_mask)


def attention_forward(
    packed: Array, query_heads: int, *, causal: bool, padding_mask: Array | None, scale: float, keep: bool
) -> tuple[Array, Array | None]:
    """See `Kernels.attention_forward`."""
    batch, length, heads, features = packed.shape
    group = 2 * query_heads // (heads - query_heads)
    answer = np.empty((batch, length, query_heads, features), packed.dtype)
    kept = np.empty((batch, query_heads, _size(length, causal)), packed.dtype) if keep else None
    loops, core, hidden = _forward[packed.dtype], matmul.core[packed.dtype], _hidden(padding_mask, batch)

    def part(span: slice) -> int:
        scores = np.empty((1, 1, QUERIES * length), packed.dtype) if kept is None else kept[span]
        memory = _memory(length, features, packed)
        loops(core, packed[span], group, causal, hidden[span], scale, answer[span], scores, keep, *memory)
        return 0

    threads.each(part, _samples(batch, query_heads, length, features))
    return answer, kept


def attention_backward(
    g: Array,
    packed: Array,
    kept: Array | None,
    query_heads: int,
    *,
    causal: bool,
    padding_mask: Array | None,
    scale: float,
) -> Array:
    """See `Kernels.attention_backward`."""
    batch, length, heads, features = packed.shape
    group = 2 * query_heads // (heads - query_heads)
    gradient, g = np.empty_like(packed), np.ascontiguousarray(g)
    loops, hidden, keep = _backward[packed.dtype], _hidden(padding_mask, batch), kept is not None
    core = matmul.core[packed.dtype]
    known = np.empty((batch, 0, 0), packed.dtype) if kept is None else kept

    def part(span: slice) -> int:
        scores, again = np.empty((2, QUERIES * length), packed.dtype)
        memory = _memory(length, features, packed)
        loops(
            core, g[span], packed[span], group, causal, hidden[span], scale, known[span], keep, scores, again, gradient[span],
            *memory,
        )  # fmt: skip
        return 0

    threads.each(part, _samples(batch, query_heads, length, features))
    return gradient


def _samples(batch: int, heads: int, length: int, features: int) -> list[slice]:
    """The samples of each thread."""
    return threads.pieces(batch, 2 * batch * heads * length * length * features)


def _memory(length: int, features: int, like: Array) -> tuple[Array, Array]:
    """This thread's scratch for the products, and no bias."""
    shapes = ((features, length), (length, features), (QUERIES, features))
    return matmul.memory(like.dtype, max(scratch_size(*shape) for shape in shapes))
