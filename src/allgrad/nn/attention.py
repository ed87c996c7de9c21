"""Scaled dot-product attention as one operation (Vaswani et al. 2017).

The operation works on the packed result of one projection: (batch, length, heads, features) float, with the query heads first,
then the key heads, then the value heads. So no copy splits them. It processes one sample at a time, and a sample in blocks of
`QUERIES` queries. The scores of a block (heads, queries, keys) stay in the second-level cache until their last use. With a causal
mask, a block needs only the keys up to its last query, which saves up to half of the work. With S = scale Q K^T, P = softmax(S),
A = P V, and G the cotangent of A, for each head:

    dV = P^T G,   dP = G V^T,   dS = P * (dP - rowsum(dP * P)),   dQ = scale dS K,   dK = scale dS^T Q

The scale is applied to Q, the smallest of these arrays. P is kept for backward if it is at most `KEPT` times as large as the
queries. For longer sequences it is computed again, block by block, so that memory grows with the length and not with its square.
This choice depends on shapes only.

With fewer key heads than query heads ("grouped", Ainslie et al. 2023), query heads [j n, (j + 1) n) share key head j. The result
of a query without any visible key (all its keys are padding) is zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from allgrad import kernels
from allgrad.autodiff import Fused
from allgrad.nn.primitives import exp, matmul
from allgrad.nn.softmax import row_shift

Array = np.ndarray[Any, Any]

KEPT = 4
QUERIES = 64


class Heads(NamedTuple):
    """The heads in a packed array: the number of query heads, and that of key (and value) heads."""

    queries: int
    keys: int

    @property
    def packed(self) -> int:
        return self.queries + 2 * self.keys


def _parts(packed: Array, heads: Heads) -> tuple[Array, Array, Array]:
    """Views of one sample's (length, heads, features): queries (keys, group, length, features), keys and values
    (keys, 1, length, features).
    """
    turned = packed.transpose(1, 0, 2)
    q = _by_head(packed[:, : heads.queries], heads)
    k = turned[heads.queries : heads.queries + heads.keys, None]
    return q, k, turned[heads.queries + heads.keys :, None]


class _Block(NamedTuple):
    """Queries `start` to `stop`, and their keys 0 to `keys`."""

    start: int
    stop: int
    keys: int


def _blocks(length: int, causal: bool) -> list[_Block]:
    stops = [min(start + QUERIES, length) for start in range(0, length, QUERIES)]
    return [_Block(i * QUERIES, stop, stop if causal else length) for i, stop in enumerate(stops)]


def _rooms(blocks: list[_Block], heads: Heads, dtype: np.dtype[Any], *batch: int) -> list[Array]:
    """Memory for the scores of each block: (*batch, key heads, group, queries, keys)."""
    group = heads.queries // heads.keys
    return [np.empty((*batch, heads.keys, group, b.stop - b.start, b.keys), dtype) for b in blocks]


def _probabilities(q: Array, k: Array, padding_mask: Array | None, causal: bool, out: Array) -> None:
    """Write softmax(q k^T) to `out`; `padding_mask` is True for keys that no query sees."""
    kernels.active().matmul(q, k.swapaxes(-1, -2), out=out)
    if padding_mask is None:
        if causal:
            kernels.active().causal_softmax_forward(out, out=out)
        else:
            kernels.active().softmax_forward(out, out=out)
        return
    queries, keys = out.shape[-2:]
    unseen = padding_mask | np.triu(np.ones((queries, keys), bool), keys - queries + 1) if causal else padding_mask
    # The smallest number, not -inf, because a query without keys must not give NaN. Its row is set to zero below.
    np.copyto(out, np.finfo(out.dtype).min, where=unseen)
    kernels.active().softmax_forward(out, out=out)
    np.copyto(out, 0, where=unseen)


def _forward(
    packed: Array, *, heads: Heads, causal: bool, padding_mask: Array | None, scale: float
) -> tuple[Array, Any]:
    batch, length, _, features = packed.shape
    packed = np.ascontiguousarray(packed)
    answer = np.empty((batch, length, heads.queries, features), packed.dtype)
    blocks = _blocks(length, causal)
    keep = length <= KEPT * features
    kept = _rooms(blocks, heads, packed.dtype, batch if keep else 1)
    for b in range(batch):
        q, k, v = _parts(packed[b], heads)
        q = q * packed.dtype.type(scale)
        a = _by_head(answer[b], heads)
        for (start, stop, keys), room in zip(blocks, kept, strict=True):
            p = room[b if keep else 0]
            unseen = None if padding_mask is None else padding_mask[b, :keys]
            _probabilities(q[:, :, start:stop], k[:, :, :keys], unseen, causal, p)
            kernels.active().matmul(p, v[:, :, :keys], out=a[:, :, start:stop])
    return answer, (packed, kept if keep else None)


def _backward(
    g: Array,
    residuals: Any,
    *,
    needs: Any,  # noqa: ARG001
    heads: Heads,
    causal: bool,
    padding_mask: Array | None,
    scale: float,
) -> tuple[Array]:
    packed, kept = residuals
    batch, length, _, _ = packed.shape
    g = np.ascontiguousarray(g)
    gradient = np.empty(packed.shape, packed.dtype)
    blocks = _blocks(length, causal)
    scores = _rooms(blocks, heads, packed.dtype)
    again = None if kept is not None else _rooms(blocks, heads, packed.dtype)
    factor = packed.dtype.type(scale)
    for b in range(batch):
        q, k, v = _parts(packed[b], heads)
        q = q * factor
        dq, dk, dv = _parts(gradient[b], heads)
        g_ = _by_head(g[b], heads)
        # In reverse order: the last block has all keys, so it writes dk and dv, and the others add to them.
        for i in reversed(range(len(blocks))):
            start, stop, keys = blocks[i]
            q_, k_, v_, d_ = q[:, :, start:stop], k[:, :, :keys], v[:, :, :keys], g_[:, :, start:stop]
            if again is None:
                p = kept[i][b]
            else:
                p = again[i]
                _probabilities(q_, k_, None if padding_mask is None else padding_mask[b, :keys], causal, p)
            add = i < len(blocks) - 1
            _grouped_product(p.swapaxes(-1, -2), d_, dv[:, :, :keys], add)
            ds = kernels.active().matmul(d_, v_.swapaxes(-1, -2), out=scores[i])
            kernels.active().softmax_backward(ds, p, out=ds)
            kernels.active().matmul(ds, k_, out=dq[:, :, start:stop])
            _grouped_product(ds.swapaxes(-1, -2), q_, dk[:, :, :keys], add)
        np.multiply(dq, factor, out=dq)
    return (gradient,)


def _by_head(rows: Array, heads: Heads) -> Array:
    """A view of one sample's (length, query heads, features) as (key heads, group, length, features)."""
    length, _, features = rows.shape
    turned = rows.transpose(1, 0, 2)
    return turned.reshape(heads.keys, heads.queries // heads.keys, length, features, copy=False)


def _grouped_product(a: Array, b: Array, out: Array, add: bool) -> None:
    """Write a @ b, summed over the query heads that share a key head, to `out`, or add it there."""
    if a.shape[1] == 1 and not add:
        kernels.active().matmul(a, b, out=out)
        return
    product = kernels.active().matmul(a, b)
    if a.shape[1] > 1:
        product = np.sum(product, axis=1, keepdims=True)
    if add:
        np.add(out, product, out=out)
    else:
        out[...] = product


def _reference(packed: Any, *, heads: Heads, causal: bool, padding_mask: Array | None, scale: float) -> Any:
    return attention_reference(packed, heads=heads, causal=causal, padding_mask=padding_mask, scale=scale, dropout=None)


def attention_reference(
    packed: Any, *, heads: Heads, causal: bool, padding_mask: Array | None, scale: float, dropout: Array | None
) -> Any:
    """The operation in NumPy calls; `dropout` multiplies the probabilities (batch, query heads, queries, keys)."""
    batch, length, _, features = packed.shape
    turned = np.transpose(packed, (0, 2, 1, 3))
    group = heads.queries // heads.keys
    q = np.reshape(turned[:, : heads.queries], (batch, heads.keys, group, length, features))
    k = turned[:, heads.queries : heads.queries + heads.keys, None]
    v = turned[:, heads.queries + heads.keys :, None]
    scores = matmul(q, np.swapaxes(k, -1, -2)) * scale
    seen = np.ones((length, length), bool)
    if causal:
        seen = np.tril(seen)
    if padding_mask is not None:
        seen = seen & ~padding_mask[:, None, None, None, :]
    low = np.where(seen, scores, np.full((), np.finfo(scores.dtype).min, scores.dtype))
    e = np.where(seen, exp(low - row_shift(low)), np.zeros((), scores.dtype))
    total = np.sum(e, axis=-1, keepdims=True)
    p = e / np.where(total > 0, total, np.ones((), scores.dtype))
    if dropout is not None:
        p = p * np.reshape(dropout, p.shape)
    answer = np.reshape(matmul(p, v), (batch, heads.queries, length, features))
    return np.transpose(answer, (0, 2, 1, 3))


packed_attention = Fused(_forward, _backward, name="attention", reference=_reference)
