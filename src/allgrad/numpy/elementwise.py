"""Derivatives of NumPy's elementwise functions (ufuncs). Most take one line: the factor that multiplies a cotangent or tangent.

Where a derivative is infinite at a point of the function's domain (log at 0, arcsin at 1), `quotient` keeps zero cotangents
zero; see singular.py. Conventions at kinks and jumps, the same in both modes:

* `maximum`, `minimum`, `fmax`, `fmin` of equal numbers: each argument gets half.
* `absolute`, `fabs`, `copysign`, `hypot`, and `sign` of a complex number, at 0: derivative 0.
* `logaddexp` of -inf and -inf: derivative 0 by both arguments.
* `remainder`, `fmod`, `modf`, `frexp`, `unwrap`, and rounding: jumps are ignored.

The first argument is called x and the second y, whatever NumPy calls them.
"""

from __future__ import annotations

from math import isfinite, log, pi
from typing import Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.autodiff.zeros import CUSP, KINK
from allgrad.numpy.arguments import is_complex, refuse
from allgrad.numpy.dispatch import elementwise, implements, inverse_slope, ufunc_rule
from allgrad.numpy.roots import rooted
from allgrad.numpy.singular import product, quotient


def _shift(ans: Any) -> Any:
    """The reference that exponents of a sum are taken relative to, so that each share of exp(-inf) + exp(-inf) is 0."""
    empty = np.isneginf(ans)
    return np.where(empty, 0, ans) if np.any(empty) else ans


def _root_of_one_and_square(x: Any) -> Any:
    """sqrt(1 + x^2), without overflow for large real x."""
    return np.sqrt(1 + x * x) if is_complex(x) else np.hypot(1, x)


def _infinite(ans: Any, x: Any) -> int:  # noqa: ARG001
    return 0 if isfinite(np.vdot(ans, ans).real) else KINK


def _cusp_at_zero(ans: Any, x: Any) -> int:  # noqa: ARG001
    return 0 if np.all(x) else CUSP


def _at_one(ans: Any, x: Any) -> int:  # noqa: ARG001
    return KINK if np.any(np.equal(np.abs(x), 1)) else 0


def _over_square(g: Any, h: Any) -> Any:
    """g / h^2, where h^2 itself might overflow or underflow."""
    return quotient(quotient(g, h), h)


# Arithmetic.
ufunc_rule(np.add, vjp={"x": lambda g: g, "y": lambda g: g}, jvp={"x": lambda t: t, "y": lambda t: t})
ufunc_rule(np.subtract, vjp={"x": lambda g: g, "y": lambda g: -g}, jvp={"x": lambda t: t, "y": lambda t: -t})
elementwise(np.multiply, x=lambda y: y, y=lambda x: x)
ufunc_rule(
    np.true_divide,
    vjp={"x": lambda g, y: quotient(g, y), "y": lambda g, ans, y: -quotient(product(g, ans), y)},
    jvp={"x": lambda t, y: quotient(t, y), "y": lambda t, ans, y: -quotient(product(t, ans), y)},
)
ufunc_rule(np.negative, vjp={"x": lambda g: -g}, jvp={"x": LINEAR})
ufunc_rule(np.positive, vjp={"x": lambda g: g}, jvp={"x": LINEAR})
elementwise(np.reciprocal, x=lambda ans: -(ans * ans))

# Exponentials and logarithms.
elementwise(np.exp, x=lambda ans: ans)
elementwise(np.exp2, x=lambda ans: ans * log(2))
elementwise(np.expm1, x=lambda x: np.exp(x))
inverse_slope(np.log, lambda x: x, singular=_infinite)
inverse_slope(np.log2, lambda x: x * log(2), singular=_infinite)
inverse_slope(np.log10, lambda x: x * log(10), singular=_infinite)
inverse_slope(np.log1p, lambda x: x + 1, singular=_infinite)
elementwise(np.logaddexp, x=lambda x, ans: np.exp(x - _shift(ans)), y=lambda y, ans: np.exp(y - _shift(ans)))
elementwise(np.logaddexp2, x=lambda x, ans: np.exp2(x - _shift(ans)), y=lambda y, ans: np.exp2(y - _shift(ans)))

# Roots.
inverse_slope(np.cbrt, lambda ans: 3 * (ans * ans), singular=_cusp_at_zero, at_end=False)

# Trigonometric and hyperbolic functions, and their inverses.
elementwise(np.sin, x=lambda x: np.cos(x))
elementwise(np.cos, x=lambda x: -np.sin(x))
elementwise(np.tan, x=lambda ans: 1 + ans * ans)
elementwise(np.sinh, x=lambda x: np.cosh(x))
elementwise(np.cosh, x=lambda x: np.sinh(x))
elementwise(np.tanh, x=lambda ans: 1 - ans * ans)
inverse_slope(np.arcsin, lambda x: np.sqrt(-(x - 1) * (1 + x)), singular=_at_one)
inverse_slope(np.arccos, lambda x: -np.sqrt(-(x - 1) * (1 + x)), singular=_at_one)
inverse_slope(np.arcsinh, lambda x: _root_of_one_and_square(x))
inverse_slope(np.arccosh, lambda x: np.sqrt(x - 1) * np.sqrt(x + 1), singular=_at_one)
inverse_slope(np.arctanh, lambda x: (1 - x) * (1 + x), singular=_at_one)
elementwise(np.deg2rad, x=lambda: pi / 180)
elementwise(np.rad2deg, x=lambda: 180 / pi)
elementwise(np.radians, x=lambda: pi / 180)
elementwise(np.degrees, x=lambda: 180 / pi)
_arctan_slope: dict[str, Any] = {"x": lambda g, x: _over_square(g, _root_of_one_and_square(x))}
ufunc_rule(np.arctan, vjp=_arctan_slope, jvp=_arctan_slope)
_arctan2_slopes: dict[str, Any] = {
    "x": lambda g, x, y: _arctan2_slope(g, y, np.hypot(x, y)),
    "y": lambda g, x, y: -_arctan2_slope(g, x, np.hypot(x, y)),
}


def _arctan2_slope(g: Any, leg: Any, h: Any) -> Any:
    return quotient(g * quotient(leg, h), h)


ufunc_rule(np.arctan2, vjp=_arctan2_slopes, jvp=_arctan2_slopes)
_hypot = elementwise(np.hypot, x=lambda x, ans: quotient(x, ans), y=lambda y, ans: quotient(y, ans))


@implements(np.hypot)
def hypot(x: Any, y: Any, /, **keywords: Any) -> Any:
    root = _hypot(x, y, **keywords)
    return root if keywords else rooted(root, lambda: x * x + y * y)


# Size, sign, rounding. (`absolute` is in complex_numbers.py.)
elementwise(np.fabs, x=lambda x: np.sign(x))
elementwise(np.copysign, x=lambda x, y: np.sign(x) * np.copysign(_one(x), y), y=lambda: 0.0)
elementwise(np.nextafter, x=lambda: 1.0, y=lambda: 0.0)
elementwise(np.heaviside, x=lambda: 0.0, y=lambda x: np.equal(x, 0))
elementwise(np.remainder, x=lambda: 1.0, y=lambda x, y: -np.floor_divide(x, y))
elementwise(np.fmod, x=lambda: 1.0, y=lambda x, y: -np.trunc(x / y))
ufunc_rule(np.ldexp, vjp={"x": lambda g, y: np.ldexp(g, y)}, jvp={"x": lambda t, y: np.ldexp(t, y)})


def _one(x: Any) -> Any:
    return np.ones((), getattr(x, "dtype", None))


@implements(np.divmod)
def divmod(x: Any, y: Any, /, **keywords: Any) -> tuple[Any, Any]:
    return np.floor_divide(x, y, **keywords), np.remainder(x, y, **keywords)


@implements(np.frexp)
def frexp(x: Any, /, **keywords: Any) -> tuple[Any, Any]:
    """Mantissa and exponent. The exponent is constant between jumps, so the mantissa is x times a constant."""
    refuse("np.frexp", **keywords)
    exponent = np.frexp(x.value)[1]
    return np.ldexp(x, -exponent), exponent


_modf = Primitive(
    np.modf,
    name="modf",
    arguments=("x",),
    outputs=True,
    vjp={"x": lambda g: g[0]},
    jvp={"x": lambda t: (t, np.zeros_like(t))},
)


@implements(np.modf)
def modf(x: Any, /, **keywords: Any) -> tuple[Any, Any]:
    refuse("np.modf", **keywords)
    fraction, whole = _modf(x)
    return fraction, whole


# The larger and the smaller of two.


def _share(mine: Any, other: Any, ans: Any) -> Any:
    """The derivative of an extremum by `mine`: 1 where it was chosen, 1/2 where both are equal, else 0."""
    chosen = np.equal(mine, ans)
    tied = np.equal(mine, other)
    return chosen * (1 - 0.5 * tied) if tied.any() else chosen


for _ufunc in (np.maximum, np.minimum, np.fmax, np.fmin):
    elementwise(_ufunc, x=lambda x, y, ans: _share(x, y, ans), y=lambda x, y, ans: _share(y, x, ans))
