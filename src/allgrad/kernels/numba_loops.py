"""The compiled loops, plain Python in numba's subset. `numba_kernels` calls them with contiguous arrays.

Loops are kept to few arrays each: LLVM vectorises a loop only if it can prove, by a handful of comparisons at its start,
that what it writes does not overlap what it reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.jit import callee
from allgrad.kernels.numba_math import (
    decay,
    decay_minus_one,
    fma,
    gauss,
    hyperbolic_tangent,
    log_one_plus,
    logarithm,
    normal_tail,
)
from allgrad.kernels.numba_sums import row_maximum, row_product, row_squares, row_sum, whole_vectors
from allgrad.kernels.numpy_activations import INVERSE_ROOT_TWO_PI, SATURATED, TANH_CUBE, TANH_SCALE
from allgrad.kernels.portable_math import whole_power as _whole_power

whole_power = callee(_whole_power)


def adam(
    p: Any,
    g: Any,
    m: Any,
    v: Any,
    step: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
    decoupled: Any,
) -> None:
    number = p.dtype.type
    root = np.sqrt(1 - whole_power(beta2, step))
    rate, small = number(lr * root / (1 - whole_power(beta1, step))), number(eps * root)
    b1, c1, b2, c2 = number(beta1), number(1 - beta1), number(beta2), number(1 - beta2)
    shrink = number(1 - lr * weight_decay if decoupled else 1.0)
    decay = number(0.0 if decoupled else weight_decay)
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


def layer_norm_forward(x: Any, weight: Any, bias: Any, eps: Any, y: Any, mean: Any, inverse: Any) -> None:
    one, n = x.dtype.type(1), x.dtype.type(x.shape[1])
    for row in range(x.shape[0]):
        x_, y_ = x[row], y[row]
        m = row_sum(x_) / n
        r = one / np.sqrt(row_squares(x_, m) / n + eps)
        mean[row], inverse[row] = m, r
        for j in range(x_.size):
            y_[j] = fma((x_[j] - m) * r, weight[j], bias[j])


def rms_norm_forward(x: Any, weight: Any, eps: Any, y: Any, inverse: Any) -> None:
    one, n = x.dtype.type(1), x.dtype.type(x.shape[1])
    for row in range(x.shape[0]):
        x_, y_ = x[row], y[row]
        r = one / np.sqrt(row_product(x_, x_) / n + eps)
        inverse[row] = r
        for j in range(x_.size):
            y_[j] = x_[j] * r * weight[j]


def norm_backward(
    g: Any, x: Any, mean: Any, inverse: Any, weight: Any, centred: Any, dx: Any, dweight: Any, dbias: Any
) -> None:
    """With n = (x - mean) r:  dx = r (g w - n avg(g w n) - avg(g w)), where RMS norm has neither mean nor the last term.

    A row goes through scratch, so dx may be g or x. dweight and dbias are added to.
    """
    count, zero = x.dtype.type(x.shape[1]), x.dtype.type(0)
    normal, scaled = np.empty((4, x.shape[1]), x.dtype), np.empty((4, x.shape[1]), x.dtype)
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
            x_, y_ = x[batch, query, :seen], y[batch, query, : whole_vectors(seen, keys)]
            for j in range(seen):
                y_[j] = x_[j] * scale
            y_[seen:] = -np.inf
            largest = row_maximum(y_)
            for j in range(y_.size):
                y_[j] = decay(y_[j] - largest)
            y_[seen:] = 0
            inverse = x.dtype.type(1) / row_sum(y_)
            for j in range(y_.size):
                y_[j] *= inverse
            y[batch, query, seen:] = 0


def softmax_backward(g: Any, y: Any, scale: Any, in_place: Any, dx: Any) -> None:
    """`in_place` says that dx is g: then a row goes through scratch, or LLVM's check would choose the slow loop."""
    line = np.empty(g.shape[1], g.dtype)
    for row in range(g.shape[0]):
        g_, y_, d_ = g[row], y[row], dx[row]
        along = row_product(g_, y_)
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
        losses[row] = logarithm(total) - picked if counted else x.dtype.type(0)
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


def soft_cross_entropy_forward(x: Any, targets: Any, losses: Any, p: Any) -> None:
    for row in range(x.shape[0]):
        x_, p_, t = x[row], p[row], targets[row]
        largest = row_maximum(x_)
        for j in range(x_.size):
            p_[j] = x_[j] - largest
        picked = row_product(p_, t)
        for j in range(x_.size):
            p_[j] = decay(p_[j])
        total = row_sum(p_)
        losses[row] = logarithm(total) * row_sum(t) - picked
        scale = x.dtype.type(1) / total
        for j in range(x_.size):
            p_[j] *= scale


def soft_cross_entropy_backward(scales: Any, p: Any, targets: Any, dx: Any) -> None:
    for row in range(p.shape[0]):
        p_, t, d_, scale = p[row], targets[row], dx[row], scales[row]
        mass = row_sum(t)
        for j in range(p_.size):
            d_[j] = (p_[j] * mass - t[j]) * scale


def tanh(x: Any, y: Any) -> None:
    for i in range(x.size):
        y[i] = hyperbolic_tangent(x[i])


def softplus(x: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = (zero if x[i] <= zero else x[i]) + log_one_plus(decay(-abs(x[i])))


def elu(x: Any, alpha: Any, y: Any, derivative: Any) -> None:
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for i in range(x.size):
        v = x[i]
        below = decay_minus_one(zero if v > zero else v) * alpha
        y[i] = v if v > zero else below
        derivative[i] = one if v > zero else below + alpha


def gelu(x: Any, y: Any) -> None:
    zero, limit = x.dtype.type(0), x.dtype.type(SATURATED)
    for i in range(x.size):
        size = abs(x[i])
        size = limit if size > limit else size
        y[i] = (x[i] if x[i] > zero else zero) - size * normal_tail(size, gauss(size))


def gelu_with_derivative(x: Any, y: Any, derivative: Any) -> None:
    zero, one, root = x.dtype.type(0), x.dtype.type(1), x.dtype.type(INVERSE_ROOT_TWO_PI)
    limit = x.dtype.type(SATURATED)
    for i in range(x.size):
        v = x[i]
        size = abs(v)
        size = limit if size > limit else size
        density = gauss(size)
        tail = normal_tail(size, density)
        slope = tail - size * (density * root)
        y[i] = (v if v > zero else zero) - size * tail
        derivative[i] = one - slope if v > zero else slope


def gelu_tanh(x: Any, y: Any, derivative: Any) -> None:
    """With p = (1 + tanh(x (a + b x^2))) / 2:  y = x p, and y' = p + x p (1 - p) 2 (a + 3 b x^2)."""
    half, one, limit = x.dtype.type(0.5), x.dtype.type(1), x.dtype.type(SATURATED)
    a, b = x.dtype.type(TANH_SCALE), x.dtype.type(TANH_SCALE * TANH_CUBE)
    a2, b6 = x.dtype.type(2 * TANH_SCALE), x.dtype.type(6 * TANH_SCALE * TANH_CUBE)
    for i in range(x.size):
        v = x[i]
        v = -limit if v < -limit else v
        w = limit if v > limit else v
        square = w * w
        p = fma(hyperbolic_tangent(w * fma(square, b, a)), half, half)
        y[i] = v * p
        derivative[i] = fma(w * p * (one - p), fma(square, b6, a2), p)


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
                best, first = y[image, row, column], True
                for i in range(wh):
                    r = row * sh - ph + i * dh
                    for j in range(ww):
                        c = column * sw - pw + j * dw
                        if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                            pixel = x[image, r, c]
                            if first:
                                best[:], first = pixel, False
                            else:
                                for k in range(best.size):
                                    best[k] = best[k] if pixel[k] <= best[k] or best[k] != best[k] else pixel[k]
                if first:
                    best[:] = -np.inf


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


def pool_tiles(raw: Any, down: Any, across: Any, y: Any, winners: Any) -> None:
    for image in range(y.shape[0]):
        for row in range(y.shape[1]):
            for column in range(y.shape[2]):
                best, won = y[image, row, column], winners[image, row, column]
                best[:] = raw[image, row * down, column * across]
                won[:] = 0
                for place in range(1, down * across):
                    pixel = raw[image, row * down + place // across, column * across + place % across]
                    for k in range(best.size):
                        won[k] = place if pixel[k] > best[k] else won[k]
                    for k in range(best.size):
                        best[k] = best[k] if pixel[k] <= best[k] or best[k] != best[k] else pixel[k]


def unpool_tiles(g: Any, down: Any, across: Any, winners: Any, raw: Any) -> None:
    zero = g.dtype.type(0)
    for image in range(g.shape[0]):
        for row in range(g.shape[1]):
            for column in range(g.shape[2]):
                g_, won = g[image, row, column], winners[image, row, column]
                for place in range(down * across):
                    pixel = raw[image, row * down + place // across, column * across + place % across]
                    for k in range(g_.size):
                        pixel[k] = g_[k] if won[k] == place else zero


def bias_gradient(g: Any, out: Any) -> None:
    out[:] = 0
    for row in range(g.shape[0]):
        source = g[row]
        for j in range(source.size):
            out[j] += source[j]


def dot(x: Any, y: Any) -> Any:
    return row_product(x, y)


def embedding_gradient(g: Any, indices: Any, out: Any) -> None:
    out[:] = 0
    for row in range(indices.size):
        source, target = g[row], out[indices[row]]
        for j in range(source.size):
            target[j] += source[j]
