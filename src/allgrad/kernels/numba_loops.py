"""The compiled loops, plain Python in numba's subset. `numba_kernels` calls them with contiguous arrays.

Loops are kept to few arrays each: LLVM vectorises a loop only if it can prove, by a handful of comparisons at its start,
that what it writes does not overlap what it reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.numba_math import decay, normal_tail, row_maximum, row_product, row_sum
from allgrad.kernels.numpy_activations import INVERSE_ROOT_TWO_PI


def adam(
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    rate: Any,
    small: Any,
    b1: Any,
    c1: Any,
    b2: Any,
    c2: Any,
    shrink: Any,
    decay: Any,
) -> None:
    for i in range(p.size):
        d = g[i] + decay * p[i]
        first = b1 * m[i] + c1 * d
        second = b2 * v[i] + c2 * (d * d)
        m[i] = first
        v[i] = second
        p[i] = shrink * p[i] - rate * (first / (np.sqrt(second) + small))


def sgd(p: Any, g: Any, rate: Any, decay: Any) -> None:
    for i in range(p.size):
        p[i] = p[i] - rate * (g[i] + decay * p[i])


def sgd_momentum(p: Any, g: Any, u: Any, rate: Any, decay: Any, keep: Any, take: Any, mu: Any, nesterov: Any) -> None:
    for i in range(p.size):
        d = g[i] + decay * p[i]
        moved = keep * u[i] + take * d
        u[i] = moved
        p[i] = p[i] - rate * (d + mu * moved if nesterov else moved)


def centre(x: Any, mean: Any, y: Any, square: Any) -> None:
    for row in range(x.shape[0]):
        m = mean[row]
        for j in range(x.shape[1]):
            d = x[row, j] - m
            y[row, j] = d
            square[row, j] = d * d


def normalise(x: Any, weight: Any, bias: Any, eps: Any, y: Any, inverse: Any) -> None:
    """`inverse` holds the mean squares and receives their inverse roots. y may be x."""
    line = np.empty(x.shape[1], x.dtype)
    for row in range(x.shape[0]):
        r = x.dtype.type(1) / np.sqrt(inverse[row] + eps)
        inverse[row] = r
        for j in range(x.shape[1]):
            line[j] = x[row, j] * r * weight[j] + bias[j]
        for j in range(x.shape[1]):
            y[row, j] = line[j]


def times_normalised(g: Any, x: Any, mean: Any, inverse: Any, product: Any) -> None:
    for row in range(x.shape[0]):
        m, r = mean[row], inverse[row]
        for j in range(x.shape[1]):
            product[row, j] = g[row, j] * ((x[row, j] - m) * r)


def norm_gradient(g: Any, x: Any, mean: Any, inverse: Any, weight: Any, along: Any, level: Any, dx: Any) -> None:
    """dx must not overlap the rest, or LLVM's check at the start of each row chooses the slow loop."""
    for row in range(x.shape[0]):
        m, r, a, b = mean[row], inverse[row], along[row], level[row]
        g_, x_, d_ = g[row], x[row], dx[row]
        for j in range(g_.size):
            d_[j] = (g_[j] * weight[j] - (x_[j] - m) * r * a - b) * r


def softmax_forward(x: Any, y: Any) -> None:
    for row in range(x.shape[0]):
        x_, y_ = x[row], y[row]
        largest = row_maximum(x_)
        for j in range(x_.size):
            y_[j] = decay(x_[j] - largest)
        scale = x.dtype.type(1) / row_sum(y_)
        for j in range(x_.size):
            y_[j] *= scale


def causal_softmax_forward(x: Any, scale: Any, y: Any) -> None:
    queries, keys = x.shape[1:]
    for batch in range(x.shape[0]):
        for query in range(queries):
            seen = query + keys - queries + 1
            x_, y_, rest = x[batch, query, :seen], y[batch, query, :seen], y[batch, query, seen:]
            for j in range(seen):
                y_[j] = x_[j] * scale
            largest = row_maximum(y_)
            for j in range(seen):
                y_[j] = decay(y_[j] - largest)
            inverse = x.dtype.type(1) / row_sum(y_)
            for j in range(seen):
                y_[j] *= inverse
            rest[:] = 0


def softmax_backward(g: Any, y: Any, scale: Any, in_place: Any, dx: Any) -> None:
    """`in_place` says that dx is g: then a row goes through scratch, or LLVM's check would choose the slow loop."""
    line = np.empty(g.shape[1], g.dtype)
    for row in range(g.shape[0]):
        g_, y_, d_ = g[row], y[row], dx[row]
        along = row_product(g_, y_, line)
        if in_place:
            for j in range(g_.size):
                line[j] = (g_[j] - along) * y_[j] * scale
            for j in range(g_.size):
                d_[j] = line[j]
        else:
            for j in range(g_.size):
                d_[j] = (g_[j] - along) * y_[j] * scale


def cross_entropy_forward(x: Any, labels: Any, ignore: Any, keep: Any, spread: Any, losses: Any, p: Any) -> None:
    for row in range(x.shape[0]):
        x_, p_, label = x[row], p[row], labels[row]
        largest = row_maximum(x_)
        for j in range(x_.size):
            p_[j] = x_[j] - largest
        counted = label != ignore
        picked = keep * p_[label if counted else 0]
        if spread != 0:
            picked += spread * row_sum(p_)
        for j in range(x_.size):
            p_[j] = decay(p_[j])
        total = row_sum(p_)
        losses[row] = np.log(total) - picked if counted else x.dtype.type(0)
        scale = x.dtype.type(1) / total
        for j in range(x_.size):
            p_[j] *= scale


def cross_entropy_backward(scales: Any, p: Any, labels: Any, ignore: Any, keep: Any, spread: Any, dx: Any) -> None:
    for row in range(p.shape[0]):
        p_, d_, label = p[row], dx[row], labels[row]
        scale = scales[row] if label != ignore else p.dtype.type(0)
        for j in range(p_.size):
            d_[j] = (p_[j] - spread) * scale
        if label != ignore:
            d_[label] -= keep * scale


def gelu(x: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(x.size):
        size = abs(x[i])
        gauss = decay(x.dtype.type(-0.5) * x[i] * x[i])
        y[i] = (x[i] if x[i] > zero else zero) - size * normal_tail(size, gauss)


def gelu_with_derivative(x: Any, y: Any, derivative: Any) -> None:
    zero, one, root = x.dtype.type(0), x.dtype.type(1), x.dtype.type(INVERSE_ROOT_TWO_PI)
    for i in range(x.size):
        v = x[i]
        size = abs(v)
        gauss = decay(x.dtype.type(-0.5) * v * v)
        tail = normal_tail(size, gauss)
        slope = tail - size * (gauss * root)
        y[i] = (v if v > zero else zero) - size * tail
        derivative[i] = one - slope if v > zero else slope


def relu_forward(x: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]


def relu_backward(g: Any, y: Any, dx: Any) -> None:
    zero = g.dtype.type(0)
    for i in range(g.size):
        dx[i] = g[i] if y[i] > zero else zero


def max_pool_forward(x: Any, wh: Any, ww: Any, sh: Any, sw: Any, ph: Any, pw: Any, dh: Any, dw: Any, y: Any) -> None:
    for image in range(y.shape[0]):
        for row in range(y.shape[1]):
            for column in range(y.shape[2]):
                best = y[image, row, column]
                best[:] = -np.inf
                for i in range(wh):
                    r = row * sh - ph + i * dh
                    for j in range(ww):
                        c = column * sw - pw + j * dw
                        if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                            pixel = x[image, r, c]
                            for k in range(best.size):
                                best[k] = best[k] if pixel[k] <= best[k] else pixel[k]


def max_pool_backward(
    g: Any, x: Any, y: Any, wh: Any, ww: Any, sh: Any, sw: Any, ph: Any, pw: Any, dh: Any, dw: Any, dx: Any, left: Any
) -> None:
    """`left` is a scratch row: what of the output's gradient nobody has taken yet."""
    zero = x.dtype.type(0)
    dx[:] = 0
    for image in range(y.shape[0]):
        for row in range(y.shape[1]):
            for column in range(y.shape[2]):
                best = y[image, row, column]
                left[:] = g[image, row, column]
                for i in range(wh):
                    r = row * sh - ph + i * dh
                    for j in range(ww):
                        c = column * sw - pw + j * dw
                        if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                            pixel, d = x[image, r, c], dx[image, r, c]
                            for k in range(best.size):
                                d[k] += left[k] if pixel[k] == best[k] else zero
                            for k in range(best.size):
                                left[k] = zero if pixel[k] == best[k] else left[k]


def lstm_cell(t: Any, cell: Any, new: Any) -> None:
    """t (4, numbers) are tanhs; see numpy_recurrence.py."""
    half, one = t.dtype.type(0.5), t.dtype.type(1)
    i, f, g = t[0], t[1], t[2]
    for j in range(new.size):
        new[j] = ((f[j] + one) * cell[j] + (i[j] + one) * g[j]) * half


def lstm_output(o: Any, h: Any) -> None:
    """`h` holds the cell's tanh."""
    half, one = o.dtype.type(0.5), o.dtype.type(1)
    for j in range(h.size):
        h[j] *= (o[j] + one) * half


def lstm_backward(t: Any, cell: Any, tanh: Any, dh: Any, dcell: Any, dz: Any) -> None:
    half, quarter, one, n = t.dtype.type(0.5), t.dtype.type(0.25), t.dtype.type(1), cell.shape[1]
    for row in range(cell.shape[0]):
        i, f, g, o = t[0, row], t[1, row], t[2, row], t[3, row]
        di, df, dg, do = dz[row, :n], dz[row, n : 2 * n], dz[row, 2 * n : 3 * n], dz[row, 3 * n :]
        before, s, d, dc = cell[row], tanh[row], dh[row], dcell[row]
        for j in range(n):
            do[j] = d[j] * s[j] * (one - o[j] * o[j]) * quarter
        for j in range(n):
            dc[j] += d[j] * (o[j] + one) * half * (one - s[j] * s[j])
        for j in range(n):
            di[j] = dc[j] * g[j] * (one - i[j] * i[j]) * quarter
        for j in range(n):
            dg[j] = dc[j] * (i[j] + one) * half * (one - g[j] * g[j])
        for j in range(n):
            df[j] = dc[j] * before[j] * (one - f[j] * f[j]) * quarter
        for j in range(n):
            dc[j] *= (f[j] + one) * half


def embedding_gradient(g: Any, indices: Any, out: Any) -> None:
    out[:] = 0
    for row in range(indices.size):
        source, target = g[row], out[indices[row]]
        for j in range(source.size):
            target[j] += source[j]
