"""The functions of scipy.special that are no ufuncs: reductions, polygamma, spherical Bessel and Legendre functions.

Those that SciPy writes in terms of ufuncs (`jvp`, `zeta`, `lambertw`, ...) work on Tensors as they are. The others are
here, under SciPy's names and with SciPy's signatures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.primitive import Primitive
from allgrad.scipy.registry import TABLE, Row, differentiates, elementwise, operand, tracked, value
from scipy import special

for _name in ("jvp", "yvp", "ivp", "kvp", "h1vp", "h2vp", "sinc", "softplus", "assoc_laguerre"):
    TABLE.add(Row(_name, "special", "differentiated"))


# Reductions.


def _shift(a: Any, axis: Any) -> Any:
    """The largest entry, as a constant: it cancels. 0 where it is not finite."""
    largest = np.max(value(a), axis=axis, keepdims=True)
    return np.where(np.isfinite(largest), largest, 0).astype(largest.dtype)


@differentiates(special.logsumexp, "special")
def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    a = operand(a)
    if b is not None:
        a, b = np.broadcast_arrays(a, operand(b))
        a = np.where(value(b) == 0, -np.inf, a)
    shift = _shift(a, axis)
    terms = np.exp(a - shift)
    total = np.sum(terms if b is None else b * terms, axis=axis, keepdims=True)
    sign = np.sign(value(total))
    with np.errstate(divide="ignore"):
        result = np.log(np.abs(total) if return_sign else total) + shift
    if not keepdims:
        result, sign = np.squeeze(result, axis=axis), np.squeeze(sign, axis=axis)
    return (result, sign) if return_sign else result


@differentiates(special.softmax, "special")
def softmax(x: Any, axis: Any = None) -> Any:
    x = operand(x)
    terms = np.exp(x - _shift(x, axis))
    return terms / np.sum(terms, axis=axis, keepdims=True)


@differentiates(special.log_softmax, "special")
def log_softmax(x: Any, axis: Any = None) -> Any:
    x = operand(x)
    moved = x - _shift(x, axis)
    return moved - np.log(np.sum(np.exp(moved), axis=axis, keepdims=True))


# Gamma functions and combinatorics, continued to real arguments.


@differentiates(special.polygamma, "special")
def polygamma(n: Any, x: Any) -> Any:
    """(-1)^(n+1) n! zeta(n + 1, x) for n > 0 (DLMF 25.11.12). The order n is a whole number."""
    order = _constant(n, "polygamma", "n")
    x = operand(x)
    sign = np.where(order % 2, 1.0, -1.0).astype(x.dtype)
    higher = sign * sc.gamma(order + 1.0).astype(x.dtype) * sc._zeta((order + 1).astype(x.dtype), x)
    return np.where(order == 0, sc.psi(x), higher)


@differentiates(special.multigammaln, "special")
def multigammaln(a: Any, d: Any) -> Any:
    """The logarithm of the multivariate gamma function: the sum of gammaln(a - j / 2) over j < d (DLMF 35.3.5)."""
    a, d = operand(a), int(_constant(d, "multigammaln", "d"))
    if np.any(value(a) <= (d - 1) / 2):
        raise ValueError(f"multigammaln needs a > (d - 1) / 2, and d is {d}; the smallest a is {value(a).min():g}.")
    total = d * (d - 1) / 4 * np.log(np.pi)
    for j in range(d):
        total = total + sc.gammaln(a - j / 2)
    return total


@differentiates(special.factorial, "special")
def factorial(n: Any, exact: bool = False, extend: str = "zero") -> Any:
    """gamma(n + 1), and 0 for negative n, as SciPy's with exact=False."""
    _refuse_exact("factorial", exact)
    if extend != "zero":
        raise NotDifferentiableError("factorial(extend='complex') is not differentiated; write gamma(n + 1).")
    n = operand(n)
    return np.where(value(n) < 0, 0.0, sc.gamma(n + 1))


@differentiates(special.comb, "special")
def comb(N: Any, k: Any, *, exact: bool = False, repetition: bool = False) -> Any:
    _refuse_exact("comb", exact)
    N, k = operand(N), operand(k)
    if repetition:
        N = N + k - 1
    outside = (value(k) > value(N)) | (value(N) < 0) | (value(k) < 0)
    return np.where(outside, 0.0, sc.binom(N, k))


@differentiates(special.perm, "special")
def perm(N: Any, k: Any, exact: bool = False) -> Any:
    _refuse_exact("perm", exact)
    N, k = operand(N), operand(k)
    outside = (value(k) > value(N)) | (value(N) < 0) | (value(k) < 0)
    return np.where(outside, 0.0, sc.poch(N - k + 1, k))


def _constant(n: Any, name: str, argument: str) -> Any:
    if tracked(n):
        raise NotDifferentiableError(
            f"{name} is not differentiable in its argument {argument!r}; pass it with .detach()."
        )
    return np.asarray(n)


def _refuse_exact(name: str, exact: bool) -> None:
    if exact:
        raise NotDifferentiableError(f"{name}(exact=True) computes whole numbers, which have no derivative.")


# Spherical Bessel functions, DLMF 10.51.2 solved for the derivative without a division by z.


def _spherical(name: str, lower: float, higher: float) -> Any:
    """f_n' = (lower n f_(n-1) + higher (n + 1) f_(n+1)) / (2 n + 1)."""
    ufunc = getattr(sc, f"_{name}")

    def slope(n: Any, z: Any) -> Any:
        return (lower * n * primitive(np.maximum(n - 1, 0), z) + higher * (n + 1) * primitive(n + 1, z)) / (2 * n + 1)

    primitive = elementwise(lambda n, z: ufunc(n, z), "n z", name, z=slope)

    @differentiates(getattr(special, name), "special")
    def function(n: Any, z: Any, derivative: bool = False) -> Any:
        n = _constant(n, name, "n").astype(int)
        return slope(n, operand(z)) if derivative else primitive(n, operand(z))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`scipy.special.{name}`, differentiated by z."
    return function


spherical_jn = _spherical("spherical_jn", 1.0, -1.0)
spherical_yn = _spherical("spherical_yn", 1.0, -1.0)
spherical_in = _spherical("spherical_in", 1.0, 1.0)
spherical_kn = _spherical("spherical_kn", -1.0, -1.0)


# Legendre functions: SciPy computes up to second derivatives itself.


def _legendre_value(z: Any, *, name: str, degrees: tuple[Any, ...], options: Any, order: int) -> Any:
    if order > 2:
        raise NotDifferentiableError(
            f"{name}: SciPy has derivatives up to the second, and this one is of order {order}."
        )
    result = getattr(special, name)(*degrees, z, diff_n=order, **dict(options))
    return np.asarray(result[order] if order else result)


def _legendre_slope(t: Any, z: Any, *, name: str, degrees: Any, options: Any, order: int) -> Any:
    return t * _legendre(z, name=name, degrees=degrees, options=options, order=order + 1)


_legendre: Primitive = Primitive(
    _legendre_value, name="legendre function", vjp={"z": _legendre_slope}, jvp={"z": _legendre_slope}
)


@differentiates(special.legendre_p, "special")
def legendre_p(n: Any, z: Any) -> Any:
    return _legendre(operand(z), name="legendre_p", degrees=(n,), options=(), order=0)


@differentiates(special.assoc_legendre_p, "special")
def assoc_legendre_p(n: Any, m: Any, z: Any, *, branch_cut: Any = 2, norm: bool = False) -> Any:
    options = (("branch_cut", branch_cut), ("norm", norm))
    return _legendre(operand(z), name="assoc_legendre_p", degrees=(n, m), options=options, order=0)


@differentiates(special.sph_legendre_p, "special")
def sph_legendre_p(n: Any, m: Any, theta: Any) -> Any:
    return _legendre(operand(theta), name="sph_legendre_p", degrees=(n, m), options=(), order=0)


@differentiates(special.sph_harm_y, "special")
def sph_harm_y(n: Any, m: Any, theta: Any, phi: Any) -> Any:
    """The spherical harmonic: sph_legendre_p(n, m, theta) exp(i m phi), DLMF 14.30.1."""
    theta, phi = operand(theta), operand(phi)
    legendre = _legendre(theta, name="sph_legendre_p", degrees=(n, m), options=(), order=0)
    return legendre * np.exp(1j * np.asarray(m) * phi)


def _dirichlet_series(x: Any, n: int) -> Any:
    """sin(n x / 2) / (n sin(x / 2)) as a sum of cosines, which has no singular points."""
    total = 0.0
    for k in range(n):
        total = total + np.cos((k - (n - 1) / 2) * x)
    return total / n


@differentiates(special.diric, "special")
def diric(x: Any, n: Any) -> Any:
    return _dirichlet_series(operand(x), int(_constant(n, "diric", "n")))
