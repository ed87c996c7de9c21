"""Gradients that are sums over rows: of a bias, of an embedding. Deterministic: the order of the sums is the rows'."""

from __future__ import annotations

import numpy as np

from allgrad.kernels.blocks import Array, as_rows, constant, output

ONE_HOT_LIMIT = 256
"""Up to this many table rows a one-hot product is faster than sorting."""


def bias_gradient(g: Array, *, out: Array | None = None) -> Array:
    """See `Kernels.bias_gradient`."""
    rows = as_rows(g)
    total = output(out, g, rows.shape[1:])
    np.matmul(constant(g.dtype, 1, len(rows)), rows, out=total)
    return total


def dot(x: Array, y: Array) -> float:
    """See `Kernels.dot`."""
    return float(np.dot(x, y))


def embedding_gradient(g: Array, indices: Array, *, out: Array) -> Array:
    """See `Kernels.embedding_gradient`."""
    g2, flat = as_rows(g), indices.reshape(-1)
    output(out, g, out.shape)
    if out.shape[0] <= ONE_HOT_LIMIT and flat.size:
        hot = np.zeros((flat.size, out.shape[0]), g.dtype)
        hot.reshape(-1)[flat + np.arange(flat.size) * out.shape[0]] = 1
        return np.matmul(hot.T, g2, out=out)
    out[...] = 0
    if flat.size:
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        out[ordered[starts]] = np.add.reduceat(g2[order], starts, axis=0)
    return out
