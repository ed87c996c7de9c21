"""Activation functions, exp and log, with loops in NumPy.

GELU's forward can leave its derivative behind, which costs little there (the exponential is at hand) and makes the
backward one multiplication.

Exact GELU is x Phi(x). With the tail T(x) = Phi(-|x|), known to a small *relative* error,

    gelu(x)  = max(x, 0) - |x| T(x)                            (no cancellation on the negative side)
    gelu'(x) = 1 - S(x) for x > 0,  S(x) for x <= 0,   S(x) = T(x) - |x| phi(x),   phi(x) = exp(-x^2 / 2) / sqrt(2 pi)

In float64, T comes from Cody's erfc (erf.py). In float32, T = exp(-x^2 / 2) t P(t), t = 1 / (1 + q |x|): the form of
Hastings ("Approximations for Digital Computers", 1955; 7.1.26 in Abramowitz and Stegun). Their P bounds the absolute
error of erf by 1.5e-7; this one, of degree 7, was fitted to bound the relative error of the tail: 1.8e-7 for all
|x| up to 14, where the exponential is 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from allgrad.kernels.blocks import AnyDtype, Array, constant, output, scratch, spans
from allgrad.kernels.erf import erfc_positive

TAIL_Q = 0.44 / math.sqrt(2)
TAIL_P = tuple(
    0.5 * coefficient  # highest power first; the half of Phi(-|x|) = erfc(|x| / sqrt 2) / 2 is in the coefficients
    for coefficient in (
        0.07122322344247745,
        -0.2779469834088092,
        0.2966856852213689,
        -0.020179016327189523,
        0.21581136716868776,
        0.21731380875090284,
        0.24887114074626915,
        0.24822095606247047,
    )
)
INVERSE_ROOT_TWO_PI = 1 / math.sqrt(2 * math.pi)
TANH_SCALE, TANH_CUBE = math.sqrt(2 / math.pi), 0.044715
SATURATED = 64.0
"""Well below this size, exp(-x^2 / 2) and 1 - |tanh| of both GELUs are 0 in float64 too, and a larger x would only overflow."""


class Activations:
    activations: Any

    def exp(self, x: Array) -> Array:
        """e^x; 0 and infinity from where e^-|x| is below the normal numbers."""
        y = np.empty(x.shape, x.dtype)
        self.activations.exp[x.dtype](x.ravel(), y.reshape(-1))
        return y

    def log(self, x: Array) -> Array:
        """The natural logarithm of x >= 0."""
        y = np.empty(x.shape, x.dtype)
        self.activations.log[x.dtype](x.ravel(), y.reshape(-1))
        return y

    def tanh(self, x: Array, *, out: Array | None = None) -> Array:
        """tanh(x). `out` may be `x`."""
        y = output(out, x)
        self.activations.tanh[x.dtype](x.ravel(), y.reshape(-1))
        return y

    def softplus(self, x: Array, *, out: Array | None = None) -> Array:
        """log(1 + exp(x))."""
        y = output(out, x)
        self.activations.softplus[x.dtype](x.ravel(), y.reshape(-1))
        return y

    def elu(self, x: Array, alpha: float, *, out: Array | None = None, derivative: Array | None = None) -> Array:
        """x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2016). `derivative` as in `gelu`."""
        y, slope = output(out, x), output(derivative, x)
        self.activations.elu[x.dtype](x.ravel(), alpha, y.reshape(-1), slope.reshape(-1))
        return y

    def gelu(self, x: Array, *, out: Array | None = None, derivative: Array | None = None) -> Array:
        """x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016); exact, not the tanh form.

        `derivative`, where given, receives gelu'(x): the backward is then g * derivative. `out` may be `x`.
        """
        y, source = output(out, x), x.ravel()
        if derivative is None:
            self.activations.gelu[x.dtype](source, y.reshape(-1))
        else:
            slope = output(derivative, x).reshape(-1)
            self.activations.gelu_with_derivative[x.dtype](source, y.reshape(-1), slope)
        return y

    def gelu_tanh(self, x: Array, *, out: Array | None = None, derivative: Array | None = None) -> Array:
        """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as GPT-2 has it. `derivative` and `out` as in `gelu`."""
        y, slope = output(out, x), output(derivative, x)
        self.activations.gelu_tanh[x.dtype](x.ravel(), y.reshape(-1), slope.reshape(-1))
        return y

    def relu_forward(self, x: Array, *, out: Array | None = None) -> Array:
        """max(x, 0); NaN stays NaN, -0.0 becomes 0.0 or stays. `out` may be `x`."""
        y = output(out, x)
        self.activations.relu_forward[x.dtype](x.ravel(), y.reshape(-1))
        return y

    def relu_backward(self, g: Array, y: Array, *, out: Array | None = None) -> Array:
        """g where y > 0, else 0; y is the forward's result (a zero of either sign passes nothing). `out` may be `g`."""
        dx = output(out, g)
        self.activations.relu_backward[g.dtype](g.ravel(), y.ravel(), dx.reshape(-1))
        return dx


exp, log, tanh = AnyDtype(np.exp), AnyDtype(np.log), AnyDtype(np.tanh)


@AnyDtype
def softplus(x: Array, y: Array) -> None:
    np.logaddexp(x, x.dtype.type(0), out=y)


@AnyDtype
def elu(x: Array, alpha: float, y: Array, derivative: Array) -> None:
    scalar, positive = x.dtype.type, x > 0
    below = np.expm1(np.minimum(x, scalar(0))) * scalar(alpha)
    np.maximum(x, scalar(0), out=y)
    np.add(y, below, out=y)
    np.copyto(derivative, np.where(positive, scalar(1), below + scalar(alpha)))


@AnyDtype
def gelu_with_derivative(x: Array, y: Array, derivative: Array | None) -> None:
    for span in spans(x.size):
        x_ = x[span]
        size, tail, gauss, t = (scratch(x.dtype, i, x_.shape) for i in range(4))
        np.abs(x_, size)
        np.minimum(size, x.dtype.type(SATURATED), out=size)
        np.multiply(size, size, gauss)
        np.multiply(gauss, x.dtype.type(-0.5), gauss)
        np.exp(gauss, gauss)
        _tail(size, gauss, tail, t)
        np.maximum(x_, constant(x.dtype, 0, len(x_)), out=t)
        if derivative is not None:
            positive = np.greater(x_, 0)
            np.multiply(gauss, x.dtype.type(INVERSE_ROOT_TWO_PI), gauss)
            np.multiply(gauss, size, gauss)
            np.subtract(tail, gauss, gauss)
        np.multiply(size, tail, size)
        np.subtract(t, size, y[span])
        if derivative is not None:
            # S, or 1 - S where x > 0, without np.where (slow): S (1 - 2 [x > 0]) + [x > 0].
            d = derivative[span]
            np.copyto(t, positive.view(np.int8))
            np.multiply(t, x.dtype.type(-2), d)
            np.add(d, x.dtype.type(1), d)
            np.multiply(d, gauss, d)
            np.add(d, t, d)


@AnyDtype
def gelu(x: Array, y: Array) -> None:
    gelu_with_derivative(x, y, None)


@AnyDtype
def gelu_tanh(x: Array, y: Array, derivative: Array) -> None:
    scalar = x.dtype.type
    for span in spans(x.size):
        x_, d = x[span], derivative[span]
        square, half, t, inner = (scratch(x.dtype, i, x_.shape) for i in range(4))
        np.clip(x_, scalar(-SATURATED), scalar(SATURATED), out=inner)
        np.multiply(inner, inner, square)
        np.multiply(square, scalar(TANH_SCALE * TANH_CUBE), half)
        np.add(half, scalar(TANH_SCALE), half)
        np.multiply(half, inner, half)
        np.tanh(half, half)
        np.multiply(half, scalar(0.5), half)
        np.add(half, scalar(0.5), half)  # p = (1 + tanh) / 2, the place of Phi
        # gelu' = p + x p (1 - p) 2 (a + 3 b x^2), a = TANH_SCALE, b = TANH_SCALE TANH_CUBE
        np.multiply(square, scalar(6 * TANH_SCALE * TANH_CUBE), square)
        np.add(square, scalar(2 * TANH_SCALE), square)
        np.multiply(inner, half, t)
        np.multiply(square, t, square)
        np.subtract(constant(x.dtype, 1, len(x_)), half, d)
        np.multiply(d, square, d)
        np.add(d, half, d)
        np.maximum(x_, scalar(-SATURATED), out=t)
        np.multiply(t, half, y[span])


@AnyDtype
def relu_forward(x: Array, y: Array) -> None:
    for span in spans(x.size):
        # An array of zeros, not a scalar: NumPy's maximum is 3 times faster on two arrays.
        x_ = x[span]
        np.maximum(x_, constant(x.dtype, 0, len(x_)), out=y[span])


# Of a floating dtype: the integer of its size, the place of its sign bit, all bits but that one.
_WORDS: dict[str, tuple[np.dtype[Any], Any, Any]] = {
    "f": (np.dtype(np.int32), np.int32(31), np.int32(2**31 - 1)),
    "d": (np.dtype(np.int64), np.int64(63), np.int64(2**63 - 1)),
}


@AnyDtype
def relu_backward(g: Array, y: Array, dx: Array) -> None:
    """y > 0 becomes a mask of bits: 0 - y has its sign bit set where y is above 0 (y is never below), and an arithmetic
    shift spreads that bit over the word.
    """
    word, shift, all_but_sign = _WORDS[g.dtype.char]
    bits, source, result = y.view(word), g.view(word), dx.view(word)
    for span in spans(y.size):
        values = bits[span]
        mask = scratch(word, 0, values.shape)
        np.bitwise_and(values, all_but_sign, mask)  # -0.0 must count as 0.0
        np.negative(mask, mask)
        np.right_shift(mask, shift, mask)
        np.bitwise_and(source[span], mask, result[span])


def _tail(size: Array, gauss: Array, tail: Array, t: Array) -> None:
    """Write Phi(-size) to `tail`, given exp(-size^2 / 2); `t` is scratch."""
    if size.dtype == np.float64:
        tail[...] = erfc_positive(size * math.sqrt(0.5))
        tail *= 0.5
        return
    scalar = size.dtype.type
    np.multiply(size, scalar(TAIL_Q), t)
    np.add(t, scalar(1), t)
    np.reciprocal(t, t)
    np.multiply(t, scalar(TAIL_P[0]), tail)
    for coefficient in TAIL_P[1:-1]:
        np.add(tail, scalar(coefficient), tail)
        np.multiply(tail, t, tail)
    np.add(tail, scalar(TAIL_P[-1]), tail)
    np.multiply(tail, t, tail)
    np.multiply(tail, gauss, tail)
