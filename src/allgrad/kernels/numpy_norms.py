"""Layer norm and RMS norm, forward and backward, in NumPy.

Row sums are products with a constant vector (GEMV), which runs at the speed of memory; `np.mean(axis=-1)` does not. The
forward keeps a row's mean and 1/std only; the backward works the normalised input out again, block by block.
"""

from __future__ import annotations

import numpy as np

from allgrad.kernels.blocks import Array, as_rows, constant, output, rows_a_block, scratch, spans


def layer_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, eps: float, *, out: Array | None = None
) -> tuple[Array, Array, Array]:
    """See `Kernels.layer_norm_forward`."""
    x2, y = as_rows(x), output(out, x)
    y2 = as_rows(y)
    rows, columns = x2.shape
    mean, inverse = np.empty(rows, x.dtype), np.empty(rows, x.dtype)
    average = constant(x.dtype, 1 / max(columns, 1), columns)
    for span in spans(rows, rows_a_block(columns)):
        h, m, r = y2[span], mean[span], inverse[span]
        square = scratch(x.dtype, 0, h.shape)
        np.matmul(x2[span], average, out=m)
        np.subtract(x2[span], m[:, None], h)
        np.matmul(np.multiply(h, h, square), average, out=r)
        _inverse_root(r, eps)
        np.multiply(h, r[:, None], h)
        _scale_and_shift(h, weight, bias)
    return y, mean, inverse


def layer_norm_backward(
    g: Array,
    x: Array,
    mean: Array,
    inverse: Array,
    weight: Array | None,
    *,
    out: Array | None = None,
    dweight: Array | None = None,
    dbias: Array | None = None,
) -> Array:
    """See `Kernels.layer_norm_backward`."""
    return _norm_backward(g, x, mean, inverse, weight, out, dweight, dbias)


def rms_norm_forward(x: Array, weight: Array | None, eps: float, *, out: Array | None = None) -> tuple[Array, Array]:
    """See `Kernels.rms_norm_forward`."""
    x2, y = as_rows(x), output(out, x)
    y2 = as_rows(y)
    rows, columns = x2.shape
    inverse = np.empty(rows, x.dtype)
    average = constant(x.dtype, 1 / max(columns, 1), columns)
    for span in spans(rows, rows_a_block(columns)):
        h, r = y2[span], inverse[span]
        square = scratch(x.dtype, 0, h.shape)
        np.matmul(np.multiply(x2[span], x2[span], square), average, out=r)
        _inverse_root(r, eps)
        np.multiply(x2[span], r[:, None], h)
        _scale_and_shift(h, weight, None)
    return y, inverse


def rms_norm_backward(
    g: Array,
    x: Array,
    inverse: Array,
    weight: Array | None,
    *,
    out: Array | None = None,
    dweight: Array | None = None,
) -> Array:
    """See `Kernels.rms_norm_backward`."""
    return _norm_backward(g, x, None, inverse, weight, out, dweight, None)


def _norm_backward(
    g: Array,
    x: Array,
    mean: Array | None,
    inverse: Array,
    weight: Array | None,
    out: Array | None,
    dweight: Array | None,
    dbias: Array | None,
) -> Array:
    # With n = (x - mean) r:  dx = r (g w - avg(g w) - n avg(g w n)); RMS norm is the same without the means.
    x2, g2, dx = as_rows(x), as_rows(g), output(out, x)
    dx2 = as_rows(dx)
    rows, columns = x2.shape
    average = constant(x.dtype, 1 / max(columns, 1), columns)
    scaled = average if weight is None else weight * average
    for gradient in (dweight, dbias):
        if gradient is not None:
            gradient[...] = 0
    for span in spans(rows, rows_a_block(columns)):
        g_, d, r = g2[span], dx2[span], inverse[span, None]
        n, t = scratch(x.dtype, 0, g_.shape), scratch(x.dtype, 1, g_.shape)
        if mean is None:
            np.multiply(x2[span], r, n)
        else:
            np.subtract(x2[span], mean[span, None], n)
            np.multiply(n, r, n)
        np.multiply(g_, n, t)
        ones = constant(x.dtype, 1, len(g_))
        if dweight is not None:
            dweight += ones @ t
        if dbias is not None:
            dbias += ones @ g_
        along = t @ scaled
        level = None if mean is None else g_ @ scaled  # before d is written: out may be g
        np.multiply(n, along[:, None], n)
        if weight is None:
            np.subtract(g_, n, d)
        else:
            np.multiply(g_, weight, d)
            np.subtract(d, n, d)
        if level is not None:
            np.subtract(d, level[:, None], d)
        np.multiply(d, r, d)
    return dx


def _inverse_root(variance: Array, eps: float) -> None:
    np.add(variance, variance.dtype.type(eps), variance)
    np.sqrt(variance, variance)
    np.reciprocal(variance, variance)


def _scale_and_shift(h: Array, weight: Array | None, bias: Array | None) -> None:
    if weight is not None:
        np.multiply(h, weight, h)
    if bias is not None:
        np.add(h, bias, h)
