"""The error functions, the normal distribution, Fresnel integrals and the Voigt profile (DLMF chapter 7)."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.autodiff.primitive import Primitive
from allgrad.scipy.registry import ufunc, ufunc_of_many, value

TWO_OVER_ROOT_PI = 2 / sqrt(pi)


def _gauss(x: Any) -> Any:
    return TWO_OVER_ROOT_PI * np.exp(-x * x)


ufunc("erf", "x", x=lambda x: _gauss(x))
ufunc("erfc", "x", x=lambda x: -_gauss(x))
ufunc("erfi", "x", x=lambda x: TWO_OVER_ROOT_PI * np.exp(x * x))
ufunc("erfinv", "y", y=lambda ans: np.exp(ans * ans) / TWO_OVER_ROOT_PI)
ufunc("erfcinv", "y", y=lambda ans: -np.exp(ans * ans) / TWO_OVER_ROOT_PI)


# Repeated integrals of erfc, scaled: f_n = exp(x^2) i^n erfc(x), with f_0 = erfcx. From DLMF 7.18.3 and 7.18.7,
# f_n' = -2 (n + 1) f_(n+1), which has no cancellation for large x, unlike 2 x erfcx - 2 / sqrt(pi).

FAR = 12.0


def _integrals(x: Any, *, n: int) -> Any:
    """f_n(x), real or complex.

    By the asymptotic series for |x| > 12 (DLMF 7.18.14), by Tricomi's function for real x > 1 (7.18.10), otherwise by the
    recurrence 2 n f_n = f_(n-2) - 2 x f_(n-1).
    """
    x = np.asarray(x)
    before, now = np.full_like(x, TWO_OVER_ROOT_PI), sc.erfcx(x)
    for k in range(1, n + 1):
        before, now = now, (before - 2 * x * now) / (2 * k)
    if x.dtype.kind != "c":
        near = np.clip(x, 1, FAR)
        now = np.where(x > 1, sc.hyperu((n + 1) / 2, 0.5, near * near) / (2**n * sqrt(pi)), now)
    far = (np.abs(x) > FAR) & (x.real > -np.abs(x.imag) / 2)
    return np.where(far, _asymptotic(np.where(far, x, FAR), n), now).astype(x.dtype)


def _asymptotic(x: Any, n: int) -> Any:
    """2 / sqrt(pi) (2 x)^(-n-1) times the sum of (-1)^m (2 m + n)! / (n! m! (2 x)^(2 m))."""
    square = 1 / (4 * x * x)
    term = total = np.ones_like(x)
    for m in range(1, 30):
        term = -term * square * ((2 * m + n) * (2 * m + n - 1) / m)
        total = total + term
    return TWO_OVER_ROOT_PI * total / (2 * x) ** (n + 1)


def _next_integral(t: Any, x: Any, *, n: int) -> Any:
    return t * (-2 * (n + 1) * _scaled(x, n=n + 1))


_scaled: Primitive = Primitive(
    _integrals, name="scaled integral of erfc", vjp={"x": _next_integral}, jvp={"x": _next_integral}
)


def _faddeeva_slope(z: Any) -> Any:
    """w'(z), where w(z) = erfcx(-i z)."""
    return 2j * _scaled(-1j * z, n=1)


def _dawson_slope(x: Any, ans: Any) -> Any:
    """For real x, D = sqrt(pi) / 2 Im w."""
    if np.iscomplexobj(value(x)):
        return 1 - 2 * x * ans
    return sqrt(pi) * np.real(_scaled(-1j * x, n=1))


ufunc("erfcx", "x", x=lambda x: -2 * _scaled(x, n=1))
ufunc("wofz", "z", z=_faddeeva_slope)
ufunc("dawsn", "x", x=_dawson_slope)

# The normal distribution. pdf(x) / cdf(x) = sqrt(2 / pi) / erfcx(-x / sqrt 2) holds far into the tail.


def _inverse_mills_ratio(x: Any) -> Any:
    return sqrt(2 / pi) / sc.erfcx(-x / sqrt(2))


ufunc("ndtr", "x", x=lambda x: np.exp(-x * x / 2) / sqrt(2 * pi))
ufunc("log_ndtr", "x", x=_inverse_mills_ratio)
ufunc("ndtri", "p", p=lambda ans: sqrt(2 * pi) * np.exp(ans * ans / 2))
ufunc("ndtri_exp", "y", y=lambda ans: sc.erfcx(-ans / sqrt(2)) * sqrt(pi / 2))
ufunc(
    "owens_t",
    "h a",
    h=lambda h, a: -np.exp(-h * h / 2) * sc.erf(a * h / sqrt(2)) / (2 * sqrt(2 * pi)),
    a=lambda h, a: np.exp(-h * h * (1 + a * a) / 2) / (2 * pi * (1 + a * a)),
)


def _profile(x: Any, sigma: Any, gamma: Any) -> tuple[Any, Any]:
    """V = Re w(z) / (sigma sqrt(2 pi)) with z = (x + i gamma) / (sigma sqrt 2): z, and w'(z) / (sigma sqrt(2 pi))."""
    z = (x + 1j * gamma) / (sigma * sqrt(2))
    return z, _faddeeva_slope(z) / (sigma * sqrt(2 * pi))


def _profile_x(x: Any, sigma: Any, gamma: Any) -> Any:
    return np.real(_profile(x, sigma, gamma)[1]) / (sigma * sqrt(2))


def _profile_sigma(ans: Any, x: Any, sigma: Any, gamma: Any) -> Any:
    z, slope = _profile(x, sigma, gamma)
    return -(ans + np.real(z * slope)) / sigma


def _profile_gamma(x: Any, sigma: Any, gamma: Any) -> Any:
    return -np.imag(_profile(x, sigma, gamma)[1]) / (sigma * sqrt(2))


ufunc("voigt_profile", "x sigma gamma", x=_profile_x, sigma=_profile_sigma, gamma=_profile_gamma)

ufunc_of_many("fresnel", "x", x=lambda x: (np.sin(pi / 2 * x * x), np.cos(pi / 2 * x * x)))


def _modified_fresnel(sign: int) -> Any:
    """F(x) = the integral of exp(i s t^2) from x on, and K(x) = exp(-i s (x^2 + pi/4)) F(x) / sqrt(pi), with s = +-1."""
    turn = np.exp(-0.25j * pi * sign) / sqrt(pi)
    return lambda ans, x: (-np.exp(1j * sign * x * x), -2j * sign * x * ans[1] - turn)


ufunc_of_many("modfresnelp", "x", x=_modified_fresnel(1))
ufunc_of_many("modfresnelm", "x", x=_modified_fresnel(-1))
