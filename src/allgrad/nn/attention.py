"""Scaled dot-product attention as one operation, and the layers made of it. Vaswani et al., 2017.

The operation works on the packed result of one projection: (batch, length, heads, features), first the query heads, then the key
heads, then the value heads, so that no copy splits them. It goes through the batch one sample at a time: a sample's scores
(heads, queries, keys) stay in the second-level cache from their product to their last use. With S = scale Q K^T, P = softmax(S),
A = P V, and G the cotangent of A, per head:

    dV = P^T G,   dP = G V^T,   dS = P * (dP - rowsum(dP * P)),   dQ = scale dS K,   dK = scale dS^T Q

P is kept for backward while it is no more than `KEPT` times the size of the queries; for longer sequences it is worked out again
sample by sample, so that memory grows with the length and not with its square. Which way is taken depends on shapes alone.

With fewer key heads than query heads ("grouped", Ainslie et al. 2023), query heads [j n, (j + 1) n) share key head j.
A query that sees no key (all its keys are padding) gives zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from allgrad import kernels
from allgrad.autodiff import Fused
from allgrad.nn.softmax import row_shift

Array = np.ndarray[Any, Any]

KEPT = 4


class Heads(NamedTuple):
    """How a packed array is cut: numbers of query heads and of key (and value) heads."""

    queries: int
    keys: int

    @property
    def packed(self) -> int:
        return self.queries + 2 * self.keys


def _parts(packed: Array, heads: Heads) -> tuple[Array, Array, Array]:
    """Views of one sample's (length, heads, features): queries (keys, group, length, features), keys and values
    (keys, 1, length, features).
    """
    length, _, features = packed.shape
    turned = packed.transpose(1, 0, 2)
    q = turned[: heads.queries].reshape(heads.keys, heads.queries // heads.keys, length, features, copy=False)
    k = turned[heads.queries : heads.queries + heads.keys, None]
    return q, k, turned[heads.queries + heads.keys :, None]


def _probabilities(q: Array, k: Array, hidden: Array | None, causal: bool, scale: float, out: Array) -> None:
    """softmax(scale q k^T) into `out`; `hidden` marks keys that nobody sees."""
    np.matmul(q, k.swapaxes(-1, -2), out=out)
    if hidden is None:
        if causal:
            kernels.active().causal_softmax_forward(out, scale=scale, out=out)
        else:
            np.multiply(out, out.dtype.type(scale), out=out)
            kernels.active().softmax_forward(out, out=out)
        return
    unseen = hidden if not causal else hidden | np.triu(np.ones(out.shape[-2:], bool), 1)
    np.multiply(out, out.dtype.type(scale), out=out)
    # The smallest number, not -inf: a query that sees nothing must not give NaN; its row is emptied below.
    np.copyto(out, np.finfo(out.dtype).min, where=unseen)
    kernels.active().softmax_forward(out, out=out)
    np.copyto(out, 0, where=unseen)


def _forward(packed: Array, *, heads: Heads, causal: bool, hidden: Array | None, scale: float) -> tuple[Array, Any]:
    batch, length, _, features = packed.shape
    packed = np.ascontiguousarray(packed)
    answer = np.empty((batch, length, heads.queries, features), packed.dtype)
    shape = (heads.keys, heads.queries // heads.keys, length, length)
    keep = length <= KEPT * features
    kept = np.empty((batch if keep else 1, *shape), packed.dtype)
    for b in range(batch):
        q, k, v = _parts(packed[b], heads)
        p = kept[b if keep else 0]
        _probabilities(q, k, None if hidden is None else hidden[b], causal, scale, p)
        np.matmul(p, v, out=answer[b].transpose(1, 0, 2).reshape(*shape[:3], features, copy=False))
    return answer, (packed, kept if keep else None)


def _backward(
    g: Array,
    residuals: Any,
    *,
    needs: Any,  # noqa: ARG001
    heads: Heads,
    causal: bool,
    hidden: Array | None,
    scale: float,
) -> tuple[Array]:
    packed, kept = residuals
    batch, length, _, features = packed.shape
    g = np.ascontiguousarray(g)
    gradient = np.empty(packed.shape, packed.dtype)
    shape = (heads.keys, heads.queries // heads.keys, length, length)
    scores = np.empty(shape, packed.dtype)
    again = np.empty(shape, packed.dtype) if kept is None else None
    for b in range(batch):
        q, k, v = _parts(packed[b], heads)
        dq, dk, dv = _parts(gradient[b], heads)
        g_ = g[b].transpose(1, 0, 2).reshape(*shape[:3], features, copy=False)
        if again is None:
            p = kept[b]
        else:
            p = again
            _probabilities(q, k, None if hidden is None else hidden[b], causal, scale, p)
        _grouped_product(p.swapaxes(-1, -2), g_, dv)
        np.matmul(g_, v.swapaxes(-1, -2), out=scores)
        kernels.active().softmax_backward(scores, p, scale=scale, out=scores)
        np.matmul(scores, k, out=dq)
        _grouped_product(scores.swapaxes(-1, -2), q, dk)
    return (gradient,)


def _grouped_product(a: Array, b: Array, out: Array) -> None:
    """a @ b, summed over the query heads that share a key head, into `out`."""
    if a.shape[1] == 1:
        np.matmul(a, b, out=out)
    else:
        np.sum(np.matmul(a, b), axis=1, keepdims=True, out=out)


def _reference(packed: Any, *, heads: Heads, causal: bool, hidden: Array | None, scale: float) -> Any:
    return attention_reference(packed, heads=heads, causal=causal, hidden=hidden, scale=scale, dropout=None)


def attention_reference(
    packed: Any, *, heads: Heads, causal: bool, hidden: Array | None, scale: float, dropout: Array | None
) -> Any:
    """The operation in NumPy calls; `dropout` multiplies the probabilities (batch, query heads, queries, keys)."""
    batch, length, _, features = packed.shape
    turned = np.transpose(packed, (0, 2, 1, 3))
    group = heads.queries // heads.keys
    q = np.reshape(turned[:, : heads.queries], (batch, heads.keys, group, length, features))
    k = turned[:, heads.queries : heads.queries + heads.keys, None]
    v = turned[:, heads.queries + heads.keys :, None]
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * scale
    seen = np.ones((length, length), bool)
    if causal:
        seen = np.tril(seen)
    if hidden is not None:
        seen = seen & ~hidden[:, None, None, None, :]
    low = np.where(seen, scores, np.full((), np.finfo(scores.dtype).min, scores.dtype))
    e = np.where(seen, np.exp(low - row_shift(low)), np.zeros((), scores.dtype))
    total = np.sum(e, axis=-1, keepdims=True)
    p = e / np.where(total > 0, total, np.ones((), scores.dtype))
    if dropout is not None:
        p = p * np.reshape(dropout, p.shape)
    answer = np.reshape(np.matmul(p, v), (batch, heads.queries, length, features))
    return np.transpose(answer, (0, 2, 1, 3))


packed_attention = Fused(_forward, _backward, name="attention", reference=_reference)
