"""The gamma function and its relatives (DLMF chapters 5 and 25)."""

from __future__ import annotations

import math
from math import pi
from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.autodiff.primitive import Primitive
from allgrad.scipy.registry import constant_ufunc, ufunc
from allgrad.scipy.spectral import derivative_by


def _polygamma_value(x: Any, *, n: int) -> Any:
    """The n-th derivative of the digamma function: (-1)^(n+1) n! zeta(n + 1, x), DLMF 25.11.12."""
    x = np.asarray(x)
    return (-1) ** (n + 1) * math.factorial(n) * sc._zeta(x.dtype.type(n + 1), x)


def _polygamma_slope(t: Any, x: Any, *, n: int) -> Any:
    return t * polygamma(x, n=n + 1)


polygamma: Primitive = Primitive(
    _polygamma_value, name="polygamma", vjp={"x": _polygamma_slope}, jvp={"x": _polygamma_slope}
)

ufunc("psi", "x", x=lambda x: polygamma(x, n=1))
ufunc("gamma", "x", x=lambda x, ans: ans * sc.psi(x))
ufunc("gammaln", "x", x=lambda x: sc.psi(x))
ufunc("loggamma", "x", x=lambda x: sc.psi(x))
constant_ufunc("gammasgn")


def _rgamma_slope(x: Any) -> Any:
    """The derivative of 1 / gamma, an entire function. Left of 1/2 by reflection (DLMF 5.5.3), which has no poles there."""
    left = np.where(x < 0.5, x, 0.25)
    right = np.where(x < 0.5, 0.75, x)
    sine, cosine, mirrored = np.sin(pi * left), np.cos(pi * left), sc.gamma(1 - left)
    return np.where(x < 0.5, mirrored * (cosine - sine * sc.psi(1 - left) / pi), -sc.psi(right) * sc.rgamma(right))


ufunc("rgamma", "x", x=_rgamma_slope)
ufunc(
    "beta",
    "a b",
    a=lambda ans, a, b: ans * (sc.psi(a) - sc.psi(a + b)),
    b=lambda ans, a, b: ans * (sc.psi(b) - sc.psi(a + b)),
)
ufunc("betaln", "a b", a=lambda a, b: sc.psi(a) - sc.psi(a + b), b=lambda a, b: sc.psi(b) - sc.psi(a + b))
ufunc("poch", "z m", z=lambda ans, z, m: ans * (sc.psi(z + m) - sc.psi(z)), m=lambda ans, z, m: ans * sc.psi(z + m))


def _binom_n(ans: Any, n: Any, k: Any) -> Any:
    """By n of gamma(n + 1) rgamma(k + 1) rgamma(n - k + 1); where rgamma is 0 its own derivative takes over."""
    inside = ans * (sc.psi(n + 1) - sc.psi(n - k + 1))
    outside = sc.gamma(n + 1) * sc.rgamma(k + 1) * (sc.psi(n + 1) * sc.rgamma(n - k + 1) + _rgamma_slope(n - k + 1))
    return np.where(n - k + 1 > 0, inside, outside)


def _binom_k(ans: Any, n: Any, k: Any) -> Any:
    low, high = k + 1, n - k + 1
    inside = ans * (sc.psi(high) - sc.psi(low))
    outside = sc.gamma(n + 1) * (_rgamma_slope(low) * sc.rgamma(high) - sc.rgamma(low) * _rgamma_slope(high))
    return np.where(np.minimum(low, high) > 0, inside, outside)


ufunc("binom", "n k", n=_binom_n, k=_binom_k)


# The zeta functions. By the exponent there is no formula; the only singularity is the pole at 1.


def _to_pole(s: Any, *_: Any) -> Any:
    return np.minimum(0.25, np.abs(s - 1) / 4)


ufunc("_riemann_zeta", "s", s=derivative_by("s", sc._riemann_zeta, "s", _to_pole))
ufunc("zetac", "s", s=derivative_by("s", sc.zetac, "s", _to_pole))
ufunc("_zeta", "s q", s=derivative_by("s", sc._zeta, "s q", _to_pole), q=lambda s, q: -s * sc._zeta(s + 1, q))
