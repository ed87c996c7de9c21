"""Elliptic integrals and functions (DLMF chapters 19 and 22), and the arithmetic-geometric mean.

Everything reduces to derivatives of Carlson's symmetric integrals, and those are integrals of the same kind with other powers:

    I(z_1, ..., z_n; k, p_1, ..., p_n) = integral over t > 0 of t^k (t + z_1)^-p_1 ... (t + z_n)^-p_n,
    dI / dz_j = -p_j I with p_j + 1.

So one primitive, evaluated by tanh-sinh quadrature on a logarithmic scale of t, serves every order without the
cancellation of the textbook formulas at equal arguments. It is accurate to about 12 digits for arguments whose ratio is below
1e8. An argument of 0 is allowed for the value; the derivative there is infinite. Where SciPy takes a Cauchy principal value
(`elliprj` with p < 0, `elliprc` with y < 0) the derivative is NaN.
"""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.autodiff.primitive import Primitive
from allgrad.scipy.registry import Partial, ufunc, ufunc_of_many

# Nodes of the double exponential rule for integrals over t > 0: t = scale * exp(pi/2 sinh u).
_U = np.linspace(-4.6, 4.6, 185)
_EXPONENTS = pi / 2 * np.sinh(_U)
_WEIGHTS = (_U[1] - _U[0]) * pi / 2 * np.cosh(_U)


def _integrate(x: Any, y: Any, z: Any, p: Any, *, k: int, powers: tuple[float, ...]) -> Any:
    """The integral over t > 0 of t^k (t + x)^-powers[0] ... (t + p)^-powers[3]; an argument with power 0 is not used."""
    dtype = np.result_type(*[np.asarray(a) for a in (x, y, z, p)])
    wide = [np.asarray(a, dtype=complex if dtype.kind == "c" else float) for a in (x, y, z, p)]
    terms = list(zip(wide, powers, strict=True))
    # The integrand changes where t is near an argument: the weighted geometric mean of those that are not 0 is the centre.
    weights = [np.where(a == 0, 0.0, power) for a, power in terms]
    logarithm = sum(w * np.log(np.where(a == 0, 1.0, np.abs(a))) for w, a in zip(weights, wide, strict=True)) / sum(
        weights
    )
    total: Any = 0.0
    for exponent, weight in zip(_EXPONENTS, _WEIGHTS, strict=True):
        t = np.exp(logarithm + exponent)
        total = total + np.prod(np.broadcast_arrays(weight * t ** (k + 1), *[(t + a) ** -q for a, q in terms]), axis=0)
    at_zero = sum(np.where(a == 0, power, 0.0) for a, power in terms)
    negative = sum((a.imag == 0) & (a.real < 0) for a in wide) > 0
    total = np.where(negative, np.nan, np.where(at_zero >= k + 1, np.inf, total))
    return np.asarray(total).astype(dtype)


def _raised(j: int) -> Any:
    def factor(x: Any, y: Any, z: Any, p: Any, k: int, powers: tuple[float, ...]) -> Any:
        higher = (*powers[:j], powers[j] + 1, *powers[j + 1 :])
        return -powers[j] * carlson(x, y, z, p, k=k, powers=higher)

    return lambda t, x, y, z, p, *, k, powers: t * factor(x, y, z, p, k, powers)


_RULES = {name: _raised(j) for j, name in enumerate("xyzp")}
carlson: Primitive = Primitive(_integrate, name="carlson", vjp=_RULES, jvp=_RULES)


def _declare(name: str, arguments: str, factor: float, k: int, powers: tuple[float, ...]) -> None:
    """A partial derivative of a Carlson integral is `factor` times I with one power raised by 1, times that power."""
    names = tuple(arguments.split())

    def partial(j: int) -> Partial:
        higher = (*powers[:j], powers[j] + 1, *powers[j + 1 :])

        def by(*args: Any) -> Any:
            padded = (*args, *[1.0] * (4 - len(args)))
            return factor * powers[j] * carlson(*padded, k=k, powers=higher)

        return Partial(by, names)

    ufunc(name, arguments, **{argument: partial(j) for j, argument in enumerate(names)})


# R_C, R_F, R_D, R_J as integrals: DLMF 19.16. R_G = R_(1/2): its derivatives come from 19.18.4 with B(1/2, 2) = 4/3.
_declare("elliprc", "x y", -1 / 2, 0, (0.5, 1.0, 0.0, 0.0))
_declare("elliprf", "x y z", -1 / 2, 0, (0.5, 0.5, 0.5, 0.0))
_declare("elliprd", "x y z", -3 / 2, 0, (0.5, 0.5, 1.5, 0.0))
_declare("elliprj", "x y z p", -3 / 2, 0, (0.5, 0.5, 0.5, 1.0))
_declare("elliprg", "x y z", 1 / 4, 1, (0.5, 0.5, 0.5, 0.0))

# Complete integrals, DLMF 19.25.1: dK/dm = R_D(0, 1, 1 - m) / 6 and dE/dm = -R_D(0, 1 - m, 1) / 6.
ufunc("ellipk", "m", m=lambda m: sc.elliprd(0.0, 1.0, 1 - m) / 6)
ufunc("ellipkm1", "p", p=lambda p: -sc.elliprd(0.0, 1.0, p) / 6)
ufunc("ellipe", "m", m=lambda m: -sc.elliprd(0.0, 1 - m, 1.0) / 6)


def _reduced(phi: Any) -> tuple[Any, Any, Any]:
    """phi less the nearest multiple of pi: its sine and squared cosine, and the multiple."""
    n = np.round(phi / pi)
    sine = np.sin(phi - n * pi)
    return sine, np.cos(phi - n * pi) ** 2, n


def _first_kind_by_m(phi: Any, m: Any) -> Any:
    """dF/dm: F(phi + n pi) = F(phi) + 2 n K (DLMF 19.2.10), and 19.25.5 for F in terms of R_F."""
    s, c2, n = _reduced(phi)
    return s**3 * sc.elliprd(c2, 1.0, 1 - m * s * s) / 6 + n * sc.elliprd(0.0, 1.0, 1 - m) / 3


def _second_kind_by_m(phi: Any, m: Any) -> Any:
    s, c2, n = _reduced(phi)
    return -(s**3 * sc.elliprd(c2, 1 - m * s * s, 1.0) / 6 + n * sc.elliprd(0.0, 1 - m, 1.0) / 3)


ufunc("ellipkinc", "phi m", phi=lambda phi, m: 1 / np.sqrt(1 - m * np.sin(phi) ** 2), m=_first_kind_by_m)
ufunc("ellipeinc", "phi m", phi=lambda phi, m: np.sqrt(1 - m * np.sin(phi) ** 2), m=_second_kind_by_m)


def _jacobi_by_m(ans: Any, m: Any) -> Any:
    """u = F(phi, m) is fixed, so dphi/dm = -dn dF/dm."""
    sn, cn, dn, phi = ans
    turn = -dn * _first_kind_by_m(phi, m)
    return (cn * turn, -sn * turn, -(sn * sn + 2 * m * sn * cn * turn) / (2 * dn), turn)


ufunc_of_many(
    "ellipj",
    "u m",
    u=lambda ans, m: (ans[1] * ans[2], -ans[0] * ans[2], -m * ans[0] * ans[1], ans[2]),
    m=_jacobi_by_m,
)


def _agm_slope(a: Any, b: Any) -> Any:
    """dM/da with M = pi a / (2 K(1 - b^2 / a^2)), DLMF 19.8.5: M / a - M K' / K 2 b^2 / a^3."""
    m = 1 - (b / a) ** 2
    k = sc.ellipk(m)
    return pi / (2 * k) * (1 - sc.elliprd(0.0, 1.0, 1 - m) * (b / a) ** 2 / (3 * k))


ufunc("agm", "a b", a=lambda a, b: _agm_slope(a, b), b=lambda a, b: _agm_slope(b, a))
