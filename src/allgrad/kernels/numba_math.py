"""Scalar functions for the compiled loops, written so that LLVM turns a loop over them into vector instructions.

Without fast-math LLVM neither reorders a sum nor vectorises a call into the C library. So sums and maxima run in eight
fixed lanes (the order, and so the bits, are ours), and exp in float32 is arithmetic: Cody and Waite's reduction
("Software Manual for the Elementary Functions", 1980), x = k log 2 + r with log 2 in two parts; a polynomial in r (of
degree 6, fitted to a relative error of 3e-9 for |r| <= log(2) / 2); and the power of two, put together from its bits. It is
needed for x <= 0 only. In float64 it is the C library's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from allgrad.kernels.numpy_activations import TAIL_P, TAIL_Q

if TYPE_CHECKING:
    from collections.abc import Callable

_F = np.float32
_LOG2_E, _LOG_2_HIGH, _LOG_2_LOW = _F(1.4426950408889634), _F(0.693359375), _F(2.12194440e-4)
_ROUND = _F(12582912.0)  # 1.5 * 2^23: adding it leaves the nearest whole number in the low bits
_LOWEST = _F(-87.3)
_E6, _E5, _E4 = _F(0.001381459659410205), _F(0.008368717312168495), _F(0.041668388105378894)
_E3, _E2 = _F(0.16666520627615755), _F(0.4999999344746048)
_ONE, _ZERO = _F(1), _F(0)
_Q = _F(TAIL_Q)
_P7, _P6, _P5, _P4, _P3, _P2, _P1, _P0 = (_F(c) for c in TAIL_P)
_SQRT_HALF = math.sqrt(0.5)


def decay(x: Any) -> Any:
    """exp(x) for x <= 0 (and NaN), for use inside compiled loops only. float32: below 1.2e-38 it is 0, no denormals."""
    raise NotImplementedError("decay exists inside compiled loops only")


@register_jitable
def _decay_32(x: Any) -> Any:
    cut = _LOWEST if x < _LOWEST else x  # in this order NaN passes
    shifted = _F(cut * _LOG2_E + _ROUND)
    k = shifted - _ROUND
    r = cut - k * _LOG_2_HIGH
    r = r + k * _LOG_2_LOW
    p = _F((((((_E6 * r + _E5) * r + _E4) * r + _E3) * r + _E2) * r + _ONE) * r + _ONE)
    power = np.int32((shifted.view(np.int32) << np.int32(23)) + np.int32(127 << 23)).view(np.float32)
    return _ZERO if x < _LOWEST else _F(p * power)


@overload(decay)
def _decay(x: Any) -> Callable[..., Any]:
    if x == types.float32:
        return _decay_32

    def from_c_library(x: Any) -> Any:
        return math.exp(x)

    return from_c_library


def normal_tail(size: Any, gauss: Any) -> Any:
    """Phi(-size) for size >= 0, given gauss = exp(-size^2 / 2); see numpy_activations.py. Inside compiled loops only."""
    raise NotImplementedError("normal_tail exists inside compiled loops only")


@register_jitable
def _normal_tail_32(size: Any, gauss: Any) -> Any:
    t = _ONE / (_ONE + _Q * size)
    return (((((((_P7 * t + _P6) * t + _P5) * t + _P4) * t + _P3) * t + _P2) * t + _P1) * t + _P0) * t * gauss


@overload(normal_tail)
def _normal_tail(size: Any, gauss: Any) -> Callable[..., Any]:  # noqa: ARG001  # numba matches argument names
    if size == types.float32:
        return _normal_tail_32

    def from_c_library(size: Any, gauss: Any) -> Any:  # noqa: ARG001
        return 0.5 * math.erfc(size * _SQRT_HALF)

    return from_c_library


@register_jitable
def row_sum(x: Any) -> Any:
    """Sum of a vector in eight lanes."""
    a = b = c = d = e = f = g = h = x.dtype.type(0)
    whole = x.size // 8 * 8
    for i in range(0, whole, 8):
        a += x[i]
        b += x[i + 1]
        c += x[i + 2]
        d += x[i + 3]
        e += x[i + 4]
        f += x[i + 5]
        g += x[i + 6]
        h += x[i + 7]
    for i in range(whole, x.size):
        a += x[i]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@register_jitable
def row_product(x: Any, y: Any, products: Any) -> Any:
    """Inner product of two vectors, by way of a scratch vector: LLVM does not put products and lanes together well."""
    for i in range(x.size):
        products[i] = x[i] * y[i]
    return row_sum(products)


@register_jitable
def row_maximum(x: Any) -> Any:
    """The largest entry of a vector; NaN where it comes first in its lane (the caller's sum is NaN anyway)."""
    a = b = c = d = e = f = g = h = x[0]
    whole = x.size // 8 * 8
    for i in range(0, whole, 8):
        a = x[i] if x[i] > a else a
        b = x[i + 1] if x[i + 1] > b else b
        c = x[i + 2] if x[i + 2] > c else c
        d = x[i + 3] if x[i + 3] > d else d
        e = x[i + 4] if x[i + 4] > e else e
        f = x[i + 5] if x[i + 5] > f else f
        g = x[i + 6] if x[i + 6] > g else g
        h = x[i + 7] if x[i + 7] > h else h
    for i in range(whole, x.size):
        a = x[i] if x[i] > a else a
    return max(max(max(a, b), max(c, d)), max(max(e, f), max(g, h)))
