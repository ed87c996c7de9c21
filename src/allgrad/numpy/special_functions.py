"""Derivatives of sinc, i0, unwrap and interp.

The derivatives of sinc and of the Bessel function i0 are not in NumPy. Each belongs to a family of functions that is closed
under differentiation and numbered by `n`, so one primitive serves every order:

* d/dx of the n-th derivative of sinc is the (n+1)-th. Let s_n = d^n/dy^n (sin y / y). The identity y s_0 = sin y,
  differentiated n times, gives y s_n + n s_(n-1) = sin(y + n pi/2), a recurrence that is stable for |y| > n. Closer to 0, the
  power series of sin y / y, differentiated n times term by term, converges fast.
* The modified Bessel functions satisfy I_n' = (I_(n-1) + I_(n+1)) / 2. I_n(x) is the mean of exp(x cos t) cos(n t) over a
  period (Abramowitz and Stegun 9.6.19), and the trapezoidal rule converges geometrically for a periodic analytic function.
"""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np

from allgrad.autodiff.primitive import Primitive
from allgrad.numpy.arguments import operand, value
from allgrad.numpy.dispatch import implements
from allgrad.numpy.singular import product

Array = np.ndarray[Any, Any]


def _sinc_derivative(x: Any, *, n: int) -> Array:
    """The n-th derivative of sin(pi x) / (pi x)."""
    if n == 0:
        return np.asarray(np.sinc(x))
    y = np.asarray(pi * x)
    near = np.abs(y) <= n + 1
    far = np.where(near, 1, y)
    s = np.sin(far) / far
    for k in range(1, n + 1):
        s = (np.sin(far + k * (pi / 2)) - k * s) / far
    return np.asarray(pi**n * np.where(near, _sinc_series(np.where(near, y, 0), n), s), dtype=np.sinc(x).dtype)


def _sinc_series(y: Array, n: int) -> Array:
    """d^n/dy^n of the sum over k of (-1)^k y^(2k) / (2k+1)!, for |y| <= n + 1: of (-1)^k y^(2k-n) / ((2k-n)! (2k+1))."""
    first = (n + 1) // 2
    term = np.asarray((-1) ** first / (2 * first + 1) * y ** (2 * first - n))
    total = term
    for k in range(first + 1, first + 20 + 2 * n):
        term = -term * y * y * ((2 * k - 1) / ((2 * k - n) * (2 * k - n - 1) * (2 * k + 1)))
        total = total + term
    return np.asarray(total)


_sinc: Primitive = Primitive(
    _sinc_derivative,
    name="sinc",
    vjp={"x": lambda g, x, *, n: product(g, _sinc(x, n=n + 1))},
    jvp={"x": lambda t, x, *, n: product(t, _sinc(x, n=n + 1))},
)
implements(np.sinc)(lambda x: _sinc(x, n=0))


def _bessel_i(x: Any, *, n: int) -> Array:
    """The modified Bessel function of the first kind, I_n(x), for real x."""
    if n == 0:
        return np.asarray(np.i0(x))
    x = np.asarray(x)
    size = np.abs(np.where(np.isfinite(x), x, 0).astype(float))
    # N nodes alias I_(N-n) into I_n; 40 + 9 sqrt(|x|) of them put that below the rounding error.
    nodes = int(40 + n + 9 * np.sqrt(np.max(size, initial=0.0)))
    t = 2 * pi / nodes * np.arange(nodes)
    # exp(|x| (cos t - 1)) stays below 1, and exp(|x|) comes in at the end.
    mean = np.mean(np.exp(size[..., None] * (np.cos(t) - 1)) * np.cos(n * t), axis=-1)
    signs = np.sign(x) if n % 2 else 1
    finite = signs * mean * np.exp(size)
    return np.asarray(np.where(np.isfinite(x), finite, np.nan), dtype=np.i0(x).dtype)


def _bessel_slope(x: Any, n: int) -> Any:
    return _bessel(x, n=1) if n == 0 else (_bessel(x, n=n - 1) + _bessel(x, n=n + 1)) / 2


_bessel: Primitive = Primitive(
    _bessel_i,
    name="i0",
    vjp={"x": lambda g, x, *, n: product(g, _bessel_slope(x, n))},
    jvp={"x": lambda t, x, *, n: product(t, _bessel_slope(x, n))},
)
implements(np.i0)(lambda x: _bessel(x, n=0))


_unwrap = Primitive(
    lambda p, *, discont, axis, period: np.unwrap(p, discont, axis, period=period),
    name="unwrap",
    vjp={"p": lambda g: g},  # it adds multiples of the period, which are constant between jumps
    jvp={"p": lambda t: t},
)


@implements(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2 * pi) -> Any:
    return _unwrap(p, discont=discont, axis=axis, period=period)


@implements(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Piecewise linear interpolation, differentiated in x, xp, fp, left and right; at a knot, the slope on its right."""
    x, xp, fp = (operand(v) for v in (x, xp, fp))
    x, xp, fp = (v if v.dtype.kind == "c" else np.astype(v, float) for v in (x, xp, fp))
    if period is not None:
        period = abs(period)
        x, xp = np.remainder(x, period), np.remainder(xp, period)
        order = np.argsort(xp)
        xp, fp = xp[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    here, knots = (value(v) for v in (x, xp))
    left, right = fp[0] if left is None else left, fp[-1] if right is None else right
    if len(knots) == 1:
        middle = fp[np.zeros(here.shape, int)]
    else:
        i = np.clip(np.searchsorted(knots, here, "right") - 1, 0, len(knots) - 2)
        slope = (fp[i + 1] - fp[i]) / (xp[i + 1] - xp[i])
        middle = fp[i] + slope * (x - xp[i])
    return np.where(here < knots[0], left, np.where(here > knots[-1], right, middle))
