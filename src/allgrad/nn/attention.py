"""Scaled dot-product attention as one operation (Vaswani et al. 2017).

The operation works on the packed result of one projection: (batch, length, heads, features) float, with the query heads first,
then the key heads, then the value heads. So no copy splits them. With S = scale Q K^T, P = softmax(S), A = P V, and G the
cotangent of A, for each head:

    dV = P^T G,   dP = G V^T,   dS = P * (dP - rowsum(dP * P)),   dQ = scale dS K,   dK = scale dS^T Q

With dropout, whose factors M multiply P:  A = (P * M) V,   dV = (P * M)^T G,   dP = M * (G V^T).

The kernels go through a sample in blocks of queries. P is kept for backward if it is at most `KEPT` times as large as the
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


class Heads(NamedTuple):
    """The heads in a packed array: the number of query heads, and that of key (and value) heads."""

    queries: int
    keys: int

    @property
    def packed(self) -> int:
        return self.queries + 2 * self.keys


def _forward(
    packed: Array, *, heads: Heads, causal: bool, padding_mask: Array | None, scale: float, dropout: Array | None = None
) -> tuple[Array, Any]:
    packed = np.ascontiguousarray(packed)
    answer, kept = kernels.active().attention_forward(
        packed, heads.queries, causal=causal, padding_mask=padding_mask, scale=scale, dropout=dropout,
        keep=packed.shape[1] <= KEPT * packed.shape[3],
    )  # fmt: skip
    return answer, (packed, kept)


def _backward(
    g: Array,
    residuals: Any,
    *,
    needs: Any,  # noqa: ARG001
    heads: Heads,
    causal: bool,
    padding_mask: Array | None,
    scale: float,
    dropout: Array | None = None,
) -> tuple[Array]:
    packed, kept = residuals
    gradient = kernels.active().attention_backward(
        g, packed, kept, heads.queries, causal=causal, padding_mask=padding_mask, scale=scale, dropout=dropout
    )
    return (gradient,)


def attention_reference(
    packed: Any, *, heads: Heads, causal: bool, padding_mask: Array | None, scale: float, dropout: Array | None = None
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


packed_attention = Fused(_forward, _backward, name="attention", reference=attention_reference)
