"""Layer norm and RMS norm, forward and backward, with loops in NumPy.

Row sums are products with a constant vector (GEMV), which runs at the speed of memory; `np.mean(axis=-1)` does not. The
forward keeps a row's mean and 1/std only; the backward works the normalised input out again, block by block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.blocks import Array, as_rows, constant, output, rows_a_block, scratch, spans


class Norms:
    norms: Any

    def layer_norm_forward(
        self, x: Array, weight: Array | None, bias: Array | None, eps: float, *, out: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Layer norm (Ba et al. 2016): y = (x - mean) / sqrt(var + eps) * weight + bias, var divided by n.

        Returns y, and the mean and 1 / sqrt(var + eps) of each row, both (rows,).
        """
        x2, y = as_rows(x), output(out, x)
        mean, inverse = np.empty(len(x2), x.dtype), np.empty(len(x2), x.dtype)
        self.norms.layer_norm_forward(x2, weight, bias, eps, as_rows(y), mean, inverse)
        return y, mean, inverse

    def layer_norm_backward(
        self,
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
        """Gradient for x, written to `out` (which may be `g`); those for weight and bias are written where given."""
        dx = output(out, x)
        self.norms.norm_backward(as_rows(g), as_rows(x), mean, inverse, weight, as_rows(dx), dweight, dbias)
        return dx

    def rms_norm_forward(
        self, x: Array, weight: Array | None, eps: float, *, out: Array | None = None
    ) -> tuple[Array, Array]:
        """RMS norm (Zhang & Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * weight. Returns y and the inverse roots."""
        x2, y = as_rows(x), output(out, x)
        inverse = np.empty(len(x2), x.dtype)
        self.norms.rms_norm_forward(x2, weight, eps, as_rows(y), inverse)
        return y, inverse

    def rms_norm_backward(
        self,
        g: Array,
        x: Array,
        inverse: Array,
        weight: Array | None,
        *,
        out: Array | None = None,
        dweight: Array | None = None,
    ) -> Array:
        """Gradient for x, written to `out` (which may be `g`); that for weight is written where given."""
        dx = output(out, x)
        self.norms.norm_backward(as_rows(g), as_rows(x), None, inverse, weight, as_rows(dx), dweight, None)
        return dx


def layer_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, eps: float, y: Array, mean: Array, inverse: Array
) -> None:
    rows, columns = x.shape
    average = constant(x.dtype, 1 / max(columns, 1), columns)
    for span in spans(rows, rows_a_block(columns)):
        h, m, r = y[span], mean[span], inverse[span]
        square = scratch(x.dtype, 0, h.shape)
        np.matmul(x[span], average, out=m)
        np.subtract(x[span], m[:, None], h)
        np.matmul(np.multiply(h, h, square), average, out=r)
        _inverse_root(r, eps)
        np.multiply(h, r[:, None], h)
        _scale_and_shift(h, weight, bias)


def rms_norm_forward(x: Array, weight: Array | None, eps: float, y: Array, inverse: Array) -> None:
    rows, columns = x.shape
    average = constant(x.dtype, 1 / max(columns, 1), columns)
    for span in spans(rows, rows_a_block(columns)):
        h, r = y[span], inverse[span]
        square = scratch(x.dtype, 0, h.shape)
        np.matmul(np.multiply(x[span], x[span], square), average, out=r)
        _inverse_root(r, eps)
        np.multiply(x[span], r[:, None], h)
        _scale_and_shift(h, weight, None)


def norm_backward(
    g: Array, x: Array, mean: Array | None, inverse: Array, weight: Array | None, dx: Array, dweight: Array | None,
    dbias: Array | None,
) -> None:  # fmt: skip
    """With n = (x - mean) r:  dx = r (g w - avg(g w) - n avg(g w n)); RMS norm is the same without the means."""
    rows, columns = x.shape
    average = constant(x.dtype, 1 / max(columns, 1), columns)
    scaled = average if weight is None else weight * average
    for gradient in (dweight, dbias):
        if gradient is not None:
            gradient[...] = 0
    for span in spans(rows, rows_a_block(columns)):
        g_, d, r = g[span], dx[span], inverse[span, None]
        n, t = scratch(x.dtype, 0, g_.shape), scratch(x.dtype, 1, g_.shape)
        if mean is None:
            np.multiply(x[span], r, n)
        else:
            np.subtract(x[span], mean[span, None], n)
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


def _inverse_root(variance: Array, eps: float) -> None:
    np.add(variance, variance.dtype.type(eps), variance)
    np.sqrt(variance, variance)
    np.reciprocal(variance, variance)


def _scale_and_shift(h: Array, weight: Array | None, bias: Array | None) -> None:
    if weight is not None:
        np.multiply(h, weight, h)
    if bias is not None:
        np.add(h, bias, h)
