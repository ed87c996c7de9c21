"""Attention, with loops in NumPy: one sample at a time, and a sample in blocks of `QUERIES` queries.

The scores of a block (key heads, group, queries, keys) stay in the second-level cache until their last use. With a causal mask, a
block needs only the keys up to its last query, which saves up to half of the work. The formulas are in `nn/attention.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.kernels.softmax import causal_softmax_forward, softmax_backward, softmax_forward

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array

QUERIES = 64


class Attention:
    attention: Any

    def attention_forward(
        self,
        packed: Array,
        query_heads: int,
        *,
        causal: bool,
        padding_mask: Array | None,
        scale: float,
        dropout: Array | None = None,
        keep: bool,
    ) -> tuple[Array, Any]:
        """softmax(scale Q K^T) V for each sample and head: (batch, length, query heads, features).

        `packed` (batch, length, heads, features) is C-contiguous and has the query heads first, then the key heads, then as
        many value heads; consecutive query heads share a key head if there are fewer of these. A `causal` query sees no later
        key, and no query sees a key where `padding_mask` (batch, length) is True. A query that sees no key gets zeros. `dropout`
        (batch, query heads, length, length), if it is given, multiplies the probabilities. With `keep` the probabilities without
        dropout come second, for `attention_backward` of the same kernels, otherwise None.
        """
        batch, length, _, features = packed.shape
        answer = np.empty((batch, length, query_heads, features), packed.dtype)
        return answer, self.attention.attention_forward(packed, causal, padding_mask, scale, dropout, keep, answer)

    def attention_backward(
        self,
        g: Array,
        packed: Array,
        kept: Any,
        query_heads: int,
        *,
        causal: bool,
        padding_mask: Array | None,
        scale: float,
        dropout: Array | None = None,
    ) -> Array:
        """Gradient for `packed`; with `kept` None the probabilities are computed again, block by block."""
        gradient = np.empty(packed.shape, packed.dtype)
        self.attention.attention_backward(g, packed, kept, query_heads, causal, padding_mask, scale, dropout, gradient)
        return gradient


class _Block(NamedTuple):
    """Queries `start` to `stop`, and their keys 0 to `keys`."""

    start: int
    stop: int
    keys: int


def _blocks(length: int, causal: bool) -> list[_Block]:
    stops = [min(start + QUERIES, length) for start in range(0, length, QUERIES)]
    return [_Block(i * QUERIES, stop, stop if causal else length) for i, stop in enumerate(stops)]


def _rooms(blocks: list[_Block], groups: tuple[int, int], like: Array, *batch: int) -> list[Array]:
    """Memory for the scores of each block: (*batch, key heads, group, queries, keys)."""
    return [np.empty((*batch, *groups, b.stop - b.start, b.keys), like.dtype) for b in blocks]


def _by_head(rows: Array, groups: tuple[int, int]) -> Array:
    """A view of one sample's (length, query heads, features) as (key heads, group, length, features)."""
    length, _, features = rows.shape
    return rows.transpose(1, 0, 2).reshape(*groups, length, features, copy=False)


def _parts(packed: Array, groups: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Views of one sample's (length, heads, features): queries (keys, group, length, features), keys and values
    (keys, 1, length, features).
    """
    keys, queries = groups[0], groups[0] * groups[1]
    turned = packed.transpose(1, 0, 2)[:, None]
    return _by_head(packed[:, :queries], groups), turned[queries : queries + keys], turned[queries + keys :]


def _probabilities(q: Array, k: Array, padding_mask: Array | None, causal: bool, out: Array) -> None:
    """Write softmax(q k^T) to `out`; `padding_mask` is True for keys that no query sees."""
    np.matmul(q, k.swapaxes(-1, -2), out=out)
    queries, keys = out.shape[-2:]
    rows = out.reshape(-1, keys)
    if padding_mask is None:
        if causal:
            causal_softmax_forward(out.reshape(-1, queries, keys), 1, out.reshape(-1, queries, keys))
        else:
            softmax_forward(rows, rows)
        return
    unseen = padding_mask | np.triu(np.ones((queries, keys), bool), keys - queries + 1) if causal else padding_mask
    # The smallest number, not -inf, because a query without keys must not give NaN. Its row is set to zero below.
    np.copyto(out, np.finfo(out.dtype).min, where=unseen)
    softmax_forward(rows, rows)
    np.copyto(out, 0, where=unseen)


def attention_forward(
    packed: Array,
    causal: bool,
    padding_mask: Array | None,
    scale: float,
    dropout: Array | None,
    keep: bool,
    answer: Array,
) -> list[Array] | None:
    (batch, length, query_heads, _), heads = answer.shape, packed.shape[2]
    key_heads = (heads - query_heads) // 2
    groups = key_heads, query_heads // key_heads
    blocks = _blocks(length, causal)
    kept = _rooms(blocks, groups, packed, batch if keep else 1)
    for b in range(batch):
        q, k, v = _parts(packed[b], groups)
        q = q * packed.dtype.type(scale)
        a = _by_head(answer[b], groups)
        for (start, stop, keys), room in zip(blocks, kept, strict=True):
            p = room[b if keep else 0]
            unseen = None if padding_mask is None else padding_mask[b, :keys]
            _probabilities(q[:, :, start:stop], k[:, :, :keys], unseen, causal, p)
            if dropout is not None:
                p = p * dropout[b, :, start:stop, :keys].reshape(p.shape)
            np.matmul(p, v[:, :, :keys], out=a[:, :, start:stop])
    return kept if keep else None


def attention_backward(
    g: Array,
    packed: Array,
    kept: list[Array] | None,
    query_heads: int,
    causal: bool,
    padding_mask: Array | None,
    scale: float,
    dropout: Array | None,
    gradient: Array,
) -> None:
    batch, length, heads, _ = packed.shape
    key_heads = (heads - query_heads) // 2
    groups = key_heads, query_heads // key_heads
    blocks = _blocks(length, causal)
    scores = _rooms(blocks, groups, packed)
    again = None if kept is not None else _rooms(blocks, groups, packed)
    factor = packed.dtype.type(scale)
    for b in range(batch):
        q, k, v = _parts(packed[b], groups)
        q = q * factor
        dq, dk, dv = _parts(gradient[b], groups)
        g_ = _by_head(g[b], groups)
        # In reverse order: the last block has all keys, so it writes dk and dv, and the others add to them.
        for i in reversed(range(len(blocks))):
            start, stop, keys = blocks[i]
            q_, k_, v_, d_ = q[:, :, start:stop], k[:, :, :keys], v[:, :, :keys], g_[:, :, start:stop]
            if kept is not None:
                p = kept[i][b]
            else:
                assert again is not None
                p = again[i]
                _probabilities(q_, k_, None if padding_mask is None else padding_mask[b, :keys], causal, p)
            add, weights = i < len(blocks) - 1, p
            ds = np.matmul(d_, v_.swapaxes(-1, -2), out=scores[i])
            if dropout is not None:
                factors = dropout[b, :, start:stop, :keys].reshape(p.shape)
                weights = p * factors
                np.multiply(ds, factors, out=ds)
            _grouped_product(weights.swapaxes(-1, -2), d_, dv[:, :, :keys], add)
            rows = ds.reshape(-1, keys)
            softmax_backward(rows, p.reshape(-1, keys), 1, rows)
            np.matmul(ds, k_, out=dq[:, :, start:stop])
            _grouped_product(ds.swapaxes(-1, -2), q_, dk[:, :, :keys], add)
        np.multiply(dq, factor, out=dq)


def _grouped_product(a: Array, b: Array, out: Array, add: bool) -> None:
    """Write a @ b, summed over the query heads that share a key head, to `out`, or add it there."""
    if a.shape[1] == 1 and not add:
        np.matmul(a, b, out=out)
        return
    product = np.matmul(a, b)
    if a.shape[1] > 1:
        product = np.sum(product, axis=1, keepdims=True)
    if add:
        np.add(out, product, out=out)
    else:
        out[...] = product
