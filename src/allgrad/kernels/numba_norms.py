"""Layer norm and RMS norm, compiled. Without a weight or bias, the loops get ones and zeros.

Loops here and in the other `numba_` files are kept to few arrays each: LLVM vectorises a loop only if it can prove, by a handful
of comparisons at its start, that what it writes does not overlap what it reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.blocks import Array, constant, contiguous, scratch
from allgrad.kernels.jit import per_dtype
from allgrad.kernels.numba_math import fma
from allgrad.kernels.numba_sums import row_product, row_squares, row_sum


def layer_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, eps: float, y: Array, mean: Array, inverse: Array
) -> None:
    layer_norm[x.dtype](x, _filled(weight, x, 1), _filled(bias, x, 0), eps, y, mean, inverse)


def rms_norm_forward(x: Array, weight: Array | None, eps: float, y: Array, inverse: Array) -> None:
    rms_norm[x.dtype](x, _filled(weight, x, 1), eps, y, inverse)


def norm_backward(
    g: Array, x: Array, mean: Array | None, inverse: Array, weight: Array | None, dx: Array, dweight: Array | None,
    dbias: Array | None,
) -> None:  # fmt: skip
    sums = [np.empty(x.shape[1], x.dtype) if d is None else d for d in (dweight, dbias)]
    for gradient in sums:
        gradient[...] = 0
    centred, mean = mean is not None, np.zeros_like(inverse) if mean is None else mean
    lines = (scratch(x.dtype, index, (4, x.shape[1])) for index in range(2))
    gradients[x.dtype](g, x, mean, inverse, _filled(weight, x, 1), centred, dx, *sums, *lines)


def _filled(vector: Array | None, x: Array, value: float) -> Array:
    return constant(x.dtype, value, x.shape[1]) if vector is None else contiguous(vector)


@per_dtype("r2 r1 r1 s w2 w1 w1")
def layer_norm(x: Any, weight: Any, bias: Any, eps: Any, y: Any, mean: Any, inverse: Any) -> None:
    one, n = x.dtype.type(1), x.dtype.type(x.shape[1])
    for row in range(x.shape[0]):
        x_, y_ = x[row], y[row]
        m = row_sum(x_) / n
        r = one / np.sqrt(row_squares(x_, m) / n + eps)
        mean[row], inverse[row] = m, r
        for j in range(x_.size):
            y_[j] = fma((x_[j] - m) * r, weight[j], bias[j])


@per_dtype("r2 r1 s w2 w1")
def rms_norm(x: Any, weight: Any, eps: Any, y: Any, inverse: Any) -> None:
    one, n = x.dtype.type(1), x.dtype.type(x.shape[1])
    for row in range(x.shape[0]):
        x_, y_ = x[row], y[row]
        r = one / np.sqrt(row_product(x_, x_) / n + eps)
        inverse[row] = r
        for j in range(x_.size):
            y_[j] = x_[j] * r * weight[j]


@per_dtype("r2 r2 r1 r1 r1 b w2 w1 w1 w2 w2")
def gradients(
    g: Any,
    x: Any,
    mean: Any,
    inverse: Any,
    weight: Any,
    centred: Any,
    dx: Any,
    dweight: Any,
    dbias: Any,
    normal: Any,
    scaled: Any,
) -> None:
    """With n = (x - mean) r:  dx = r (g w - n avg(g w n) - avg(g w)), where RMS norm has neither mean nor the last term.

    A row goes through scratch, so dx may be g or x. dweight and dbias are added to.
    """
    count, zero = x.dtype.type(x.shape[1]), x.dtype.type(0)
    for start in range(0, x.shape[0], 4):
        rows = min(4, x.shape[0] - start)
        for i in range(rows):
            g_, x_, n_, s_, m, r = g[start + i], x[start + i], normal[i], scaled[i], mean[start + i], inverse[start + i]
            for j in range(g_.size):
                n_[j] = (x_[j] - m) * r
                s_[j] = g_[j] * weight[j]
        if rows == 4:  # so dweight and dbias are read and written once for four rows
            g0, g1, g2, g3 = g[start], g[start + 1], g[start + 2], g[start + 3]
            for j in range(dbias.size):
                dbias[j] = dbias[j] + g0[j] + g1[j] + g2[j] + g3[j]
            n0, n1, n2, n3 = normal[0], normal[1], normal[2], normal[3]
            for j in range(dweight.size):
                dweight[j] = fma(g3[j], n3[j], fma(g2[j], n2[j], fma(g1[j], n1[j], fma(g0[j], n0[j], dweight[j]))))
        else:
            for i in range(rows):
                g_, n_ = g[start + i], normal[i]
                for j in range(dbias.size):
                    dbias[j] += g_[j]
                for j in range(dweight.size):
                    dweight[j] = fma(g_[j], n_[j], dweight[j])
        for i in range(rows):
            d_, n_, s_, r = dx[start + i], normal[i], scaled[i], inverse[start + i]
            along = row_product(s_, n_) / count
            level = row_sum(s_) / count if centred else zero
            for j in range(d_.size):
                d_[j] = (fma(-along, n_[j], s_[j]) - level) * r
