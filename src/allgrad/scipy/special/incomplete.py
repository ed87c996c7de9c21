"""Incomplete gamma and beta functions, and the distribution functions made of them, by every real argument.

By the upper limit the derivative is the integrand. By a shape parameter it is numerical (`allgrad.scipy.spectral`), applied
to the logarithm of the smaller of the two tails, so that it keeps its relative accuracy far out: about 1e-11, and 1e-8 at
second order.

For an inverse w of F at one argument, F(..., w, ...) = p, the implicit function theorem gives dw/dp = 1 / F_w and
dw/da = -F_a / F_w: see `_inverse`. Whole numbers (counts of successes or trials) are not differentiated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.autodiff.tensor import RULES
from allgrad.scipy.registry import Partial, ufunc, value
from allgrad.scipy.spectral import derivative_by, partial, spectral

if TYPE_CHECKING:
    from collections.abc import Callable


def positive(*at: int) -> Callable[..., Any]:
    """The radius for parameters that must be positive, and on which f depends on the scale of a standard deviation."""

    def radius(*args: Any) -> Any:
        smallest = np.inf
        for i in at:
            smallest = np.minimum(smallest, args[i])
        return np.minimum(smallest / 4, np.sqrt(smallest) / 2)

    return radius


def _log_of(f: Any) -> Callable[..., Any]:
    return lambda *args: np.log(f(*args))


def _by_shape(lower: Any, upper: Any, arguments: str, argument: str) -> Partial:
    """The derivative of `lower` by a shape parameter, where upper = 1 - lower: from the logarithm of the smaller one."""
    names = tuple(arguments.split())
    at = names.index(argument)
    of_lower, of_upper = (spectral(_log_of(f), arguments, at, 1, positive(at)) for f in (lower, upper))

    def slope(*args: Any) -> Any:
        low, high = lower(*args), upper(*args)
        none = (value(low) == 0) | (value(high) == 0)  # at the end of the range, or beyond what a float can hold
        slope = np.where(value(low) < value(high), low * of_lower(*args), -high * of_upper(*args))
        return np.where(none, 0.0, slope)

    return Partial(slope, names)


def _pair(lower: str, upper: str, arguments: str, shapes: str, **limits: Callable[..., Any]) -> None:
    """Declare a distribution function and its complement: `shapes` numerically, the others by the given densities."""
    f, g = getattr(sc, lower), getattr(sc, upper)
    ufunc(lower, arguments, **{s: _by_shape(f, g, arguments, s) for s in shapes.split()}, **limits)
    negated = {k: Partial(_negative(Partial(p)), Partial(p).names) for k, p in limits.items()}
    ufunc(upper, arguments, **{s: _by_shape(g, f, arguments, s) for s in shapes.split()}, **negated)


def _negative(density: Partial) -> Callable[..., Any]:
    return lambda *args: -density.function(*args)


def _inverse(name: str, arguments: str, of: str, of_arguments: str, solved: str, probability: str) -> None:
    """Declare the inverse of a distribution function.

    Args:
        name, arguments: of the inverse.
        of, of_arguments: the function that is inverted.
        solved: which of its arguments the inverse computes.
        probability: which of the inverse's arguments is the value of the function.
    """
    function, given, names = getattr(sc, of), of_arguments.split(), tuple(arguments.split())

    def slope(which: str) -> Callable[..., Any]:
        def by(ans: Any, *args: Any) -> Any:
            known = dict(zip(names, args, strict=True)) | {solved: ans}
            point = [known[k] for k in given]
            by_solved = partial(function, given.index(solved))(*point)
            if which == probability:
                return 1 / by_solved
            return -partial(function, given.index(which))(*point) / by_solved

        return by

    differentiable = [k for k in names if k == probability or k in _differentiable(function, given)]
    ufunc(name, arguments, **{k: Partial(slope(k), ("ans", *names)) for k in differentiable})


def _differentiable(function: Any, given: list[str]) -> set[str]:
    """The arguments by which a declared ufunc is differentiated."""
    return set(RULES[function].vjps) & set(given)


# Densities.


def gamma_density(a: Any, x: Any) -> Any:
    """x^(a - 1) exp(-x) / gamma(a), DLMF 8.8.13."""
    in_logarithms = np.exp(sc.xlogy(a - 1, x) - x - sc.gammaln(a))
    end = np.equal(x, 0)  # where log(x) has no derivative
    return (
        np.where(end, np.power(x, a - 1) * np.exp(-x - sc.gammaln(a)), in_logarithms) if np.any(end) else in_logarithms
    )


def beta_density(a: Any, b: Any, x: Any) -> Any:
    """x^(a - 1) (1 - x)^(b - 1) / B(a, b), DLMF 8.17.1."""
    in_logarithms = np.exp(sc.xlogy(a - 1, x) + sc.xlog1py(b - 1, -x) - sc.betaln(a, b))
    end = np.equal(x, 0) | np.equal(x, 1)
    if not np.any(end):
        return in_logarithms
    return np.where(end, np.power(x, a - 1) * np.power(1 - x, b - 1) * np.exp(-sc.betaln(a, b)), in_logarithms)


def f_density(dfn: Any, dfd: Any, x: Any) -> Any:
    """The density of Fisher's F: that of beta at y = dfn x / (dfd + dfn x), times dy/dx."""
    whole = dfd + dfn * x
    return beta_density(dfn / 2, dfd / 2, dfn * x / whole) * dfn * dfd / (whole * whole)


def t_density(df: Any, t: Any) -> Any:
    """The density of Student's t."""
    constant = sc.gammaln((df + 1) / 2) - sc.gammaln(df / 2) - np.log(np.pi * df) / 2
    return np.exp(constant - (df + 1) / 2 * np.log1p(t * t / df))


_pair("gammainc", "gammaincc", "a x", "a", x=gamma_density)
_pair("betainc", "betaincc", "a b x", "a b", x=beta_density)
_inverse("gammaincinv", "a p", "gammainc", "a x", "x", "p")
_inverse("gammainccinv", "a p", "gammaincc", "a x", "x", "p")
_inverse("betaincinv", "a b p", "betainc", "a b x", "x", "p")
_inverse("betainccinv", "a b p", "betaincc", "a b x", "x", "p")
_inverse("btdtria", "p b x", "betainc", "a b x", "a", "p")
_inverse("btdtrib", "a p x", "betainc", "a b x", "b", "p")

# Chi-squared, gamma, F and t.
_pair("chdtr", "chdtrc", "v x", "v", x=lambda v, x: gamma_density(v / 2, x / 2) / 2)
_inverse("chdtri", "v p", "chdtrc", "v x", "x", "p")
_inverse("chdtriv", "p x", "chdtr", "v x", "v", "p")
_pair(
    "gdtr",
    "gdtrc",
    "a b x",
    "b",
    a=lambda a, b, x: x * gamma_density(b, a * x),
    x=lambda a, b, x: a * gamma_density(b, a * x),
)
_inverse("gdtria", "p b x", "gdtr", "a b x", "a", "p")
_inverse("gdtrib", "a p x", "gdtr", "a b x", "b", "p")
_inverse("gdtrix", "a b p", "gdtr", "a b x", "x", "p")
_pair("fdtr", "fdtrc", "dfn dfd x", "dfn dfd", x=f_density)
_inverse("fdtri", "dfn dfd p", "fdtr", "dfn dfd x", "x", "p")
_inverse("fdtridfd", "dfn p x", "fdtr", "dfn dfd x", "dfd", "p")


def _mirrored_t(df: Any, t: Any) -> Any:
    return sc.stdtr(df, -t)


ufunc("stdtr", "df t", df=_by_shape(sc.stdtr, _mirrored_t, "df t", "df"), t=t_density)
_inverse("stdtrit", "df p", "stdtr", "df t", "t", "p")
_inverse("stdtridf", "p t", "stdtr", "df t", "df", "p")

# Counts: binomial, negative binomial and Poisson, as incomplete beta and gamma functions (DLMF 8.17.5, 8.4.10).
_pair("bdtr", "bdtrc", "k n p", "", p=lambda k, n, p: -beta_density(np.floor(k) + 1, n - np.floor(k), p))
_inverse("bdtri", "k n y", "bdtr", "k n p", "p", "y")
_pair("nbdtr", "nbdtrc", "k n p", "", p=lambda k, n, p: beta_density(n, k + 1, p))
_inverse("nbdtri", "k n y", "nbdtr", "k n p", "p", "y")
_pair("pdtr", "pdtrc", "k m", "", m=lambda k, m: -gamma_density(np.floor(k) + 1, m))
_inverse("pdtri", "k y", "pdtr", "k m", "m", "y")

# Normal, by mean and standard deviation.
ufunc(
    "nrdtrimn",
    "p std x",
    p=lambda p, std: -std * np.sqrt(2 * np.pi) * np.exp(sc.ndtri(p) ** 2 / 2),
    std=lambda p: -sc.ndtri(p),
    x=lambda x: 1 + 0 * x,
)
ufunc(
    "nrdtrisd",
    "mn p x",
    mn=lambda p: -1 / sc.ndtri(p),
    p=lambda ans, p: -ans / sc.ndtri(p) * np.sqrt(2 * np.pi) * np.exp(sc.ndtri(p) ** 2 / 2),
    x=lambda p: 1 / sc.ndtri(p),
)


# Noncentral distributions. The density of chi-squared by 0F1; f(x; df + 2) and F(x; df + 2) give the derivative by nc.


def noncentral_density(x: Any, df: Any, nc: Any) -> Any:
    return gamma_density(df / 2, x / 2) / 2 * np.exp(-nc / 2) * sc.hyp0f1(df / 2, nc * x / 4)


ufunc(
    "chndtr",
    "x df nc",
    x=noncentral_density,
    df=derivative_by("df", sc.chndtr, "x df nc", positive(1)),
    nc=lambda ans, x, df, nc: (sc.chndtr(x, df + 2, nc) - ans) / 2,
)
_inverse("chndtrix", "p df nc", "chndtr", "x df nc", "x", "p")
_inverse("chndtridf", "x p nc", "chndtr", "x df nc", "df", "p")
_inverse("chndtrinc", "x df p", "chndtr", "x df nc", "nc", "p")
_F, _T = "dfn dfd nc f", "df nc t"
ufunc("ncfdtr", _F, **{k: derivative_by(k, sc.ncfdtr, _F, positive(i)) for i, k in enumerate(_F.split())})
_inverse("ncfdtri", "dfn dfd nc p", "ncfdtr", _F, "f", "p")
_inverse("ncfdtrinc", "dfn dfd p f", "ncfdtr", _F, "nc", "p")
ufunc(
    "nctdtr",
    _T,
    df=derivative_by("df", sc.nctdtr, _T, positive(0)),
    nc=derivative_by("nc", sc.nctdtr, _T),
    t=derivative_by("t", sc.nctdtr, _T),
)
_inverse("nctdtrit", "df nc p", "nctdtr", _T, "t", "p")
_inverse("nctdtridf", "p nc t", "nctdtr", _T, "df", "p")
_inverse("nctdtrinc", "df p t", "nctdtr", _T, "nc", "p")

# Kolmogorov's distribution is analytic for x > 0.
ufunc("kolmogorov", "x", x=derivative_by("x", sc.kolmogorov, "x", lambda x: np.minimum(0.1, x / 8)))
_inverse("kolmogi", "p", "kolmogorov", "x", "x", "p")
