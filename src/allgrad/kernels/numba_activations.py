"""Activation functions, exp and log, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.activations import INVERSE_ROOT_TWO_PI, SATURATED, TANH_CUBE, TANH_SCALE
from allgrad.kernels.jit import per_dtype
from allgrad.kernels.numba_math import (
    constant,
    decay,
    decay_minus_one,
    fma,
    gauss,
    hyperbolic_tangent,
    log_one_plus,
    logarithm,
    normal_tail,
)


@per_dtype("r1 w1")
def exp(x: Any, y: Any) -> None:
    one, zero = x.dtype.type(1), x.dtype.type(0)
    for i in range(x.size):
        below = decay(-abs(x[i]))
        y[i] = one / below if x[i] > zero else below


@per_dtype("r1 w1")
def log(x: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(x.size):
        value = logarithm(x[i])
        value = value if x[i] > zero else constant(x[i], "nan")
        y[i] = value if x[i] != zero else -np.inf


@per_dtype("r1 w1")
def tanh(x: Any, y: Any) -> None:
    for i in range(x.size):
        y[i] = hyperbolic_tangent(x[i])


@per_dtype("r1 w1")
def softplus(x: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = (zero if x[i] <= zero else x[i]) + log_one_plus(decay(-abs(x[i])))


@per_dtype("r1 s w1 w1")
def elu(x: Any, alpha: Any, y: Any, derivative: Any) -> None:
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for i in range(x.size):
        v = x[i]
        below = decay_minus_one(zero if v > zero else v) * alpha
        y[i] = v if v > zero else below
        derivative[i] = one if v > zero else below + alpha


@per_dtype("r1 w1")
def gelu(x: Any, y: Any) -> None:
    zero, limit = x.dtype.type(0), x.dtype.type(SATURATED)
    for i in range(x.size):
        size = abs(x[i])
        size = limit if size > limit else size
        y[i] = (x[i] if x[i] > zero else zero) - size * normal_tail(size, gauss(size))


@per_dtype("r1 w1 w1")
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


@per_dtype("r1 w1 w1")
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


@per_dtype("r1 w1")
def relu_forward(x: Any, y: Any) -> None:
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]


@per_dtype("r1 r1 w1")
def relu_backward(g: Any, y: Any, dx: Any) -> None:
    zero = g.dtype.type(0)
    for i in range(g.size):
        dx[i] = g[i] if y[i] > zero else zero
