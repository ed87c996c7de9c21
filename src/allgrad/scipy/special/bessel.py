"""Bessel functions and their kin: Airy, Struve, Kelvin and parabolic cylinder functions (DLMF chapters 9 to 12).

By the argument the derivative is a combination of neighbouring orders (DLMF 10.6.1, 10.29.1). By a real order there is no
such formula: see `allgrad.scipy.spectral`, accurate to about 12 digits. Whole orders of `jn`, `yn`, `kn` have no derivative.

Exponentially scaled functions (`jve`, `ive`, ...) of a complex argument are scaled by the modulus of a real part, so they are
not holomorphic: a complex argument raises.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.scipy.registry import ufunc, ufunc_of_many
from allgrad.scipy.spectral import derivative_by

if TYPE_CHECKING:
    from collections.abc import Callable


def _difference(f: Any) -> Callable[..., Any]:
    return lambda v, z: (f(v - 1, z) - f(v + 1, z)) / 2


def _mean(f: Any) -> Callable[..., Any]:
    return lambda v, z: (f(v - 1, z) + f(v + 1, z)) / 2


def _real(z: Any, name: str) -> Any:
    if np.iscomplexobj(getattr(z, "value", z)):
        raise NotDifferentiableError(
            f"{name} of a complex argument is not holomorphic and has no derivative; use the unscaled function."
        )
    return z


def _of_real_order(name: str, slope: Callable[..., Any]) -> None:
    f = getattr(sc, name)
    ufunc(name, "v z", v=derivative_by("v", f, "v z"), z=slope)


_of_real_order("jv", _difference(sc.jv))
_of_real_order("yv", _difference(sc.yv))
_of_real_order("iv", _mean(sc.iv))
_of_real_order("kv", lambda v, z: -_mean(sc.kv)(v, z))
_of_real_order("hankel1", _difference(sc.hankel1))
_of_real_order("hankel2", _difference(sc.hankel2))
_of_real_order("hankel1e", lambda v, z: _difference(sc.hankel1e)(v, z) - 1j * sc.hankel1e(v, z))
_of_real_order("hankel2e", lambda v, z: _difference(sc.hankel2e)(v, z) + 1j * sc.hankel2e(v, z))
_of_real_order("jve", lambda v, z: _difference(sc.jve)(v, _real(z, "jve")))
_of_real_order("yve", lambda v, z: _difference(sc.yve)(v, _real(z, "yve")))
_of_real_order("ive", lambda v, z: _mean(sc.ive)(v, _real(z, "ive")) - np.sign(z) * sc.ive(v, z))
_of_real_order("kve", lambda v, z: sc.kve(v, z) - _mean(sc.kve)(v, z))

ufunc("j0", "x", x=lambda x: -sc.j1(x))
ufunc("j1", "x", x=lambda x: (sc.j0(x) - sc.jv(2.0, x)) / 2)
ufunc("y0", "x", x=lambda x: -sc.y1(x))
ufunc("y1", "x", x=lambda x: (sc.y0(x) - sc.yv(2.0, x)) / 2)
ufunc("i0", "x", x=lambda x: sc.i1(x))
ufunc("i1", "x", x=lambda x: (sc.i0(x) + sc.iv(2.0, x)) / 2)
ufunc("k0", "x", x=lambda x: -sc.k1(x))
ufunc("k1", "x", x=lambda x: -(sc.k0(x) + sc.kv(2.0, x)) / 2)
ufunc("i0e", "x", x=lambda x, ans: sc.i1e(x) - np.sign(x) * ans)
ufunc("i1e", "x", x=lambda x, ans: (sc.i0e(x) + sc.ive(2.0, x)) / 2 - np.sign(x) * ans)
ufunc("k0e", "x", x=lambda x, ans: ans - sc.k1e(x))
ufunc("k1e", "x", x=lambda x, ans: ans - (sc.k0e(x) + sc.kve(2.0, x)) / 2)
ufunc("yn", "n x", x=lambda n, x: sc.yv(n - 1.0, x) / 2 - sc.yv(n + 1.0, x) / 2)
ufunc("kn", "n x", x=lambda n, x: -(sc.kv(n - 1.0, x) + sc.kv(n + 1.0, x)) / 2)

# Integrals: the integrand at the end of the interval.
ufunc_of_many("itj0y0", "x", x=lambda x: (sc.j0(x), sc.y0(x)))
ufunc_of_many("iti0k0", "x", x=lambda x: (sc.i0(x), sc.k0(x)))
ufunc_of_many("it2j0y0", "x", x=lambda x: ((1 - sc.j0(x)) / x, -sc.y0(x) / x))
ufunc_of_many("it2i0k0", "x", x=lambda x: ((sc.i0(x) - 1) / x, -sc.k0(x) / x))
ufunc(
    "besselpoly",
    "a lmb nu",
    a=lambda a, lmb, nu: sc.besselpoly(a, lmb + 1, nu - 1) - sc.besselpoly(a, lmb + 1, nu + 1),
    lmb=derivative_by("lmb", sc.besselpoly, "a lmb nu"),
    nu=derivative_by("nu", sc.besselpoly, "a lmb nu"),
)
ufunc("wright_bessel", "a b x", x=lambda a, b, x: sc.wright_bessel(a, a + b, x))
ufunc("log_wright_bessel", "a b x", x=lambda ans, a, b, x: np.exp(sc.log_wright_bessel(a, a + b, x) - ans))


# Struve functions, DLMF 11.4.27 and 11.4.29 with the recurrences 11.4.23 and 11.4.25.


def _struve_term(v: Any, x: Any) -> Any:
    return (x / 2) ** v * sc.rgamma(v + 1.5) / (2 * sqrt(pi))


ufunc(
    "struve",
    "v x",
    v=derivative_by("v", sc.struve, "v x"),
    x=lambda v, x: _difference(sc.struve)(v, x) + _struve_term(v, x),
)
ufunc(
    "modstruve",
    "v x",
    v=derivative_by("v", sc.modstruve, "v x"),
    x=lambda v, x: _mean(sc.modstruve)(v, x) + _struve_term(v, x),
)
ufunc("itstruve0", "x", x=lambda x: sc.struve(0.0, x))
ufunc("it2struve0", "x", x=lambda x: -sc.struve(0.0, x) / x)
ufunc("itmodstruve0", "x", x=lambda x: sc.modstruve(0.0, x))

# Airy functions: w'' = z w. The scaled ones are Ai exp(2/3 z^1.5) and Bi exp(-|Re 2/3 z^1.5|).


def _scaled_airy(ans: Any, z: Any) -> Any:
    ai, aip, bi, bip = ans
    root = np.sqrt(_real(z, "airye"))
    positive = np.where(z > 0, root, 0.0)
    return (aip + root * ai, z * ai + root * aip, bip - positive * bi, z * bi - positive * bip)


ufunc_of_many("airy", "z", z=lambda ans, z: (ans[1], z * ans[0], ans[3], z * ans[2]))
ufunc_of_many("airye", "z", z=_scaled_airy)


def _airy_integrands(x: Any) -> Any:
    (ai, _, bi, _), (mirrored_ai, _, mirrored_bi, _) = sc.airy(x), sc.airy(-x)
    return (ai, bi, mirrored_ai, mirrored_bi)


ufunc_of_many("itairy", "x", x=_airy_integrands)

# Kelvin functions (DLMF 10.61): with w = ber + i bei, or ker + i kei, w'' = i w - w' / x.
ufunc("ber", "x", x=lambda x: sc.berp(x))
ufunc("bei", "x", x=lambda x: sc.beip(x))
ufunc("ker", "x", x=lambda x: sc.kerp(x))
ufunc("kei", "x", x=lambda x: sc.keip(x))
ufunc("berp", "x", x=lambda x, ans: -sc.bei(x) - ans / x)
ufunc("beip", "x", x=lambda x, ans: sc.ber(x) - ans / x)
ufunc("kerp", "x", x=lambda x, ans: -sc.kei(x) - ans / x)
ufunc("keip", "x", x=lambda x, ans: sc.ker(x) - ans / x)
ufunc_of_many("kelvin", "x", x=lambda ans, x: (ans[2], ans[3], 1j * ans[0] - ans[2] / x, 1j * ans[1] - ans[3] / x))

# Parabolic cylinder functions: the results are the function and its derivative (DLMF 12.2.2 and 12.2.4).
ufunc_of_many("pbdv", "v x", x=lambda ans, v, x: (ans[1], (x * x / 4 - v - 0.5) * ans[0]))
ufunc_of_many("pbvv", "v x", x=lambda ans, v, x: (ans[1], (x * x / 4 - v - 0.5) * ans[0]))
ufunc_of_many("pbwa", "a x", x=lambda ans, a, x: (ans[1], (a - x * x / 4) * ans[0]))
