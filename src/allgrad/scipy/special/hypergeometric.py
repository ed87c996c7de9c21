"""Hypergeometric functions, exponential and trigonometric integrals, the dilogarithm and Lambert's function.

By the argument: DLMF 13.3.15, 13.3.22 and 15.5.1. By the parameters of 1F1, 2F1, U and 0F1, and by the order of no other
function here: numerically, see `allgrad.scipy.spectral`.
"""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.numpy.singular import quotient
from allgrad.scipy.registry import ufunc, ufunc_of_many
from allgrad.scipy.spectral import derivative_by


def _to_nonpositive_integers(at: int) -> Any:
    """The radius for a denominator parameter, which has poles at 0, -1, -2, ..."""

    def radius(*args: Any) -> Any:
        c = args[at]
        distance = np.where(c > 0, np.abs(c), np.abs(c - np.round(c)))
        return np.minimum(0.25, distance / 4)

    return radius


ufunc(
    "hyp0f1",
    "v z",
    v=derivative_by("v", sc.hyp0f1, "v z", _to_nonpositive_integers(0)),
    z=lambda v, z: sc.hyp0f1(v + 1, z) / v,
)
ufunc(
    "hyp1f1",
    "a b z",
    a=derivative_by("a", sc.hyp1f1, "a b z"),
    b=derivative_by("b", sc.hyp1f1, "a b z", _to_nonpositive_integers(1)),
    z=lambda a, b, z: a / b * sc.hyp1f1(a + 1, b + 1, z),
)
ufunc(
    "hyp2f1",
    "a b c z",
    a=derivative_by("a", sc.hyp2f1, "a b c z"),
    b=derivative_by("b", sc.hyp2f1, "a b c z"),
    c=derivative_by("c", sc.hyp2f1, "a b c z", _to_nonpositive_integers(2)),
    z=lambda a, b, c, z: a * b / c * sc.hyp2f1(a + 1, b + 1, c + 1, z),
)
ufunc(
    "hyperu",
    "a b x",
    a=derivative_by("a", sc.hyperu, "a b x"),
    b=derivative_by("b", sc.hyperu, "a b x"),
    x=lambda a, b, x: -a * sc.hyperu(a + 1, b + 1, x),
)

# Exponential integrals, DLMF 6.2 and 8.19.13.
ufunc("exp1", "x", x=lambda x: -np.exp(-x) / x)
ufunc("expi", "x", x=lambda x: np.exp(x) / x)


def _expn_slope(n: Any, x: Any) -> Any:
    """-E_(n-1)(x), and E_0(x) = exp(-x) / x."""
    n = np.asarray(getattr(n, "value", n))
    below = np.exp(-x) * (1 + 1 / x) / x
    return -np.where(n == 0, below, np.where(n == 1, np.exp(-x) / x, sc.expn(np.maximum(n - 1, 1), x)))


ufunc("expn", "n x", x=_expn_slope)
ufunc_of_many("sici", "x", x=lambda x: (np.sinc(x / pi), np.cos(x) / x))
# sinh(x) / x = 0F1(; 3/2; x^2 / 4).
ufunc_of_many("shichi", "x", x=lambda x: (sc.hyp0f1(1.5, x * x / 4), np.cosh(x) / x))

# The dilogarithm: log(z) / (1 - z) = -2F1(1, 1; 2; 1 - z).
ufunc("spence", "z", z=lambda z: -sc.hyp2f1(1.0, 1.0, 2.0, 1 - z))

# Lambert's W and Wright's omega, DLMF 4.13.4.
ufunc("_lambertw", "z k tol", z=lambda ans: quotient(1.0, np.exp(ans) * (1 + ans)))
ufunc("wrightomega", "z", z=lambda ans: ans / (1 + ans))


def _tukey_density(ans: Any, lam: Any) -> Any:
    return 1 / (np.power(ans, lam - 1) + np.power(1 - ans, lam - 1))


def _tukey_by_shape(ans: Any, lam: Any) -> Any:
    """x = ((F^l - 1) / l) - ((1 - F)^l - 1) / l at fixed x."""
    low, high = np.log(ans), np.log1p(-ans)
    moved = (low * low * sc.hyp1f1(2.0, 3.0, lam * low) - high * high * sc.hyp1f1(2.0, 3.0, lam * high)) / 2
    return -moved * _tukey_density(ans, lam)


ufunc("tklmbda", "x lam", x=lambda ans, lam: _tukey_density(ans, lam), lam=_tukey_by_shape)
