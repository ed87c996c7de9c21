"""Piecewise cubic interpolation: CubicSpline, PchipInterpolator, Akima1DInterpolator, CubicHermiteSpline, and PPoly.

All are differentiated by the values y, by the sites x, and by the points at which they are evaluated. The slopes at the sites
are computed on the tape, and with them each interpolant is a Hermite cubic in every interval. Which interval a point is
in is a constant; at a site, derivatives are those of the interval on its right.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.scipy.linalg.solvers import banded
from allgrad.scipy.registry import TABLE, Row, operand, tracked, value
from scipy import interpolate


class Piecewise:
    """A piecewise polynomial on the tape: sum over k of c[k, i] (t - x[i])^(K - k) in interval i.

    Args:
        c: (degree + 1, intervals, ...) float.
        x: (intervals + 1,) float, increasing.
        extrapolate: whether the first and last polynomial go on outside; otherwise the values there are NaN.
        axis: where the points' axes go in the result.
    """

    def __init__(self, c: Any, x: Any, extrapolate: Any = True, axis: int = 0) -> None:
        if extrapolate == "periodic":
            raise NotDifferentiableError(
                "extrapolate='periodic' is not differentiated; wrap the points with np.remainder."
            )
        self.c, self.x, self.extrapolate, self.axis = operand(c), operand(x), bool(extrapolate), axis

    def __call__(self, x: Any, nu: int = 0, extrapolate: Any = None) -> Any:
        """The value, or the derivative of order nu, at x: any shape."""
        points = operand(x)
        inside = self._extrapolated(extrapolate)
        plain, sites = value(points), value(self.x)
        i = np.clip(np.searchsorted(sites, plain, "right") - 1, 0, len(sites) - 2)
        trailing = self.c.ndim - 2
        t = np.reshape(points - self.x[i], (*points.shape, *[1] * trailing))
        total: Any = 0.0
        degree = self.c.shape[0] - 1
        for k in range(degree + 1 - nu):
            power = degree - k
            factor = float(np.prod(np.arange(power - nu + 1, power + 1)))
            total = total * t + factor * self.c[k][i]
        total = total + np.zeros((*points.shape, *self.c.shape[2:]))
        if not inside:
            outside = (plain < sites[0]) | (plain > sites[-1])
            total = np.where(np.reshape(outside, t.shape), np.nan, total)
        return placed(total, points.ndim, self.axis)

    def _extrapolated(self, override: Any) -> bool:
        return self.extrapolate if override is None else bool(override)

    def derivative(self, nu: int = 1) -> Piecewise:
        """The derivative of order nu, as a piecewise polynomial."""
        degree = self.c.shape[0] - 1
        factors = [float(np.prod(np.arange(p - nu + 1, p + 1))) for p in range(degree, nu - 1, -1)]
        shape = (-1, *[1] * (self.c.ndim - 1))
        return Piecewise(self.c[: degree + 1 - nu] * np.reshape(factors, shape), self.x, self.extrapolate, self.axis)

    def antiderivative(self, nu: int = 1) -> Piecewise:
        """The antiderivative of order nu that is 0 at the first site."""
        degree = self.c.shape[0]
        powers = np.reshape(np.arange(degree, 0, -1.0), (-1, *[1] * (self.c.ndim - 1)))
        raised = self.c / powers
        h = np.reshape(np.diff(self.x), (-1, *[1] * (self.c.ndim - 2)))
        increments: Any = 0.0
        for k in range(degree):
            increments = (increments + raised[k]) * h
        starts = np.concatenate([np.zeros((1, *increments.shape[1:])), np.cumsum(increments, axis=0)[:-1]])
        made = Piecewise(np.concatenate([raised, starts[None]]), self.x, self.extrapolate, self.axis)
        return made if nu == 1 else made.antiderivative(nu - 1)

    def integrate(self, a: Any, b: Any, extrapolate: Any = None) -> Any:
        """The integral from a to b, by both."""
        primitive = self.antiderivative()
        return primitive(b, 0, extrapolate) - primitive(a, 0, extrapolate)


def placed(result: Any, count: int, axis: int) -> Any:
    """The first `count` axes of a result, those of the points, moved to `axis`."""
    return np.moveaxis(result, list(range(count)), list(range(axis, axis + count))) if axis else result


def _sites(x: Any, y: Any, axis: int) -> tuple[Any, Any, Any, int]:
    """x, y with `axis` first, the steps shaped to divide y's differences, and the axis from the front."""
    x, y = operand(x), operand(y)
    axis = axis % y.ndim
    y = np.moveaxis(y, axis, 0)
    return x, y, np.reshape(np.diff(x), (-1, *[1] * (y.ndim - 1))), axis


def _hermite(x: Any, y: Any, slopes: Any, extrapolate: Any, axis: int) -> Piecewise:
    """The cubics with the values y and the slopes given at the sites x."""
    h = np.reshape(np.diff(x), (-1, *[1] * (y.ndim - 1)))
    secant = np.diff(y, axis=0) / h
    t = (slopes[:-1] + slopes[1:] - 2 * secant) / h
    return Piecewise(np.stack([t / h, (secant - slopes[:-1]) / h - t, slopes[:-1], y[:-1]]), x, extrapolate, axis)


def cubic_hermite(x: Any, y: Any, dydx: Any, axis: int = 0, extrapolate: Any = None) -> Piecewise:
    x, y, _, axis = _sites(x, y, axis)
    slopes = np.moveaxis(operand(dydx), axis, 0)
    return _hermite(x, y, slopes, extrapolate is None or extrapolate, axis)


def _end_condition(kind: Any, first: bool) -> tuple[int, Any]:
    """A boundary condition as (order of the derivative, value); 3 stands for not-a-knot."""
    names = {"not-a-knot": (3, 0.0), "clamped": (1, 0.0), "natural": (2, 0.0)}
    if isinstance(kind, str):
        if kind not in names:
            raise NotDifferentiableError(
                f"CubicSpline(bc_type={kind!r}) is not differentiated; {', '.join(names)} are."
            )
        return names[kind]
    order, given = kind[0 if first else 1] if not isinstance(kind[0], int) else kind
    return (order, given) if not isinstance(order, str) else names[order]


def cubic_spline(x: Any, y: Any, axis: int = 0, bc_type: Any = "not-a-knot", extrapolate: Any = None) -> Piecewise:
    """The slopes of the C2 cubic solve a tridiagonal system (de Boor, A Practical Guide to Splines, chapter IV)."""
    x, y, h, axis = _sites(x, y, axis)
    n = x.shape[0]
    if n < 4:
        raise NotDifferentiableError(f"CubicSpline of Tensors needs at least 4 sites, got {n}.")
    ends = [_end_condition(bc_type if isinstance(bc_type, str) else bc_type[i], i == 0) for i in range(2)]
    steps = np.diff(x)
    secant = np.diff(y, axis=0) / h
    right = 3 * (h[1:] * secant[:-1] + h[:-1] * secant[1:])
    main, above, below = 2 * (steps[:-1] + steps[1:]), steps[:-1], steps[1:]
    (d0, u0, r0), (d1, u1, r1) = (
        _end_row(ends[0], steps[0], steps[1], secant[0], secant[1]),
        _end_row(ends[1], steps[-1], steps[-2], secant[-1], secant[-2], last=True),
    )
    zero = np.zeros(1)
    ab = np.stack(
        [
            np.concatenate([zero, np.reshape(u0, (1,)), above]),
            np.concatenate([np.reshape(d0, (1,)), main, np.reshape(d1, (1,))]),
            np.concatenate([below, np.reshape(u1, (1,)), zero]),
        ]
    )
    b = np.concatenate([np.expand_dims(r0, 0), right, np.expand_dims(r1, 0)])
    slopes = np.reshape(banded(ab, np.reshape(b, (n, -1)), lower=1, upper=1), b.shape)
    return _hermite(x, y, slopes, extrapolate is None or extrapolate, axis)


def _end_row(
    condition: tuple[int, Any], h0: Any, h1: Any, s0: Any, s1: Any, last: bool = False
) -> tuple[Any, Any, Any]:
    """The diagonal, its neighbour and the right-hand side of the first (or last) equation; s0 is the secant at the end."""
    order, given = condition
    if order == 3:
        both = h0 + h1
        return h1, both, ((h0 + 2 * both) * h1 * s0 + h0 * h0 * s1) / both
    if order == 1:
        return 1.0 + 0.0 * h0, 0.0 * h0, operand(given) + 0.0 * s0
    sign = -1.0 if last else 1.0
    return 2 * h0, h0, 3 * h0 * s0 - sign * h0 * h0 * operand(given) / 2


def pchip(x: Any, y: Any, axis: int = 0, extrapolate: Any = None) -> Piecewise:
    """Slopes that keep monotony (Fritsch and Butland 1984): a weighted harmonic mean, 0 where the secants change sign."""
    x, y, h, axis = _sites(x, y, axis)
    secant = np.diff(y, axis=0) / h
    before, after = secant[:-1], secant[1:]
    monotone = value(before) * value(after) > 0
    safe_before, safe_after = np.where(monotone, before, 1.0), np.where(monotone, after, 1.0)
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    inner = np.where(monotone, (w1 + w2) / (w1 / safe_before + w2 / safe_after), 0.0)
    first = _one_sided(h[0], h[1], secant[0], secant[1])
    last = _one_sided(h[-1], h[-2], secant[-1], secant[-2])
    return _hermite(x, y, np.concatenate([first[None], inner, last[None]]), extrapolate is None or extrapolate, axis)


def _one_sided(h0: Any, h1: Any, s0: Any, s1: Any) -> Any:
    """The slope at an end: of the parabola, unless that breaks monotony (Moler, Numerical Computing with MATLAB, 3.6)."""
    slope = ((2 * h0 + h1) * s0 - h0 * s1) / (h0 + h1)
    turned = np.sign(value(slope)) != np.sign(value(s0))
    steep = (np.sign(value(s0)) != np.sign(value(s1))) & (np.abs(value(slope)) > 3 * np.abs(value(s0)))
    return np.where(turned, 0.0, np.where(steep, 3 * s0, slope))


def akima(x: Any, y: Any, axis: int = 0, *, method: str = "akima", extrapolate: Any = None) -> Piecewise:
    """Slopes weighted by the changes of the secants on the other side (Akima 1970)."""
    if method != "akima":
        raise NotDifferentiableError(f"Akima1DInterpolator(method={method!r}) is not differentiated; 'akima' is.")
    x, y, h, axis = _sites(x, y, axis)
    m = np.diff(y, axis=0) / h
    left1 = 2 * m[:1] - m[1:2]
    right1 = 2 * m[-1:] - m[-2:-1]
    m = np.concatenate([2 * left1 - m[:1], left1, m, right1, 2 * right1 - m[-1:]])
    change = np.abs(np.diff(m, axis=0))
    after, before = change[2:], change[:-2]
    total = after + before
    flat = value(total) <= 1e-9 * np.max(value(total), initial=0.0)
    weighted = (after * m[1:-2] + before * m[2:-1]) / np.where(flat, 1.0, total)
    slopes = np.where(flat, (m[1:-2] + m[2:-1]) / 2, weighted)
    return _hermite(x, y, slopes, extrapolate or False, axis)


class Interpolator:
    """One of SciPy's interpolators: its own on plain numbers, on the tape where the data or the points are Tensors."""

    theirs: Any
    ours: Any

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self._given = args, keywords
        self._plain = None if tracked((args, keywords)) else type(self).theirs(*args, **keywords)
        self._made: Piecewise | None = None

    @property
    def _tape(self) -> Any:
        if self._made is None:
            args, keywords = self._given
            self._made = type(self).ours(*args, **keywords)
        return self._made

    def __call__(self, x: Any, *args: Any, **keywords: Any) -> Any:
        if self._plain is not None and not tracked(x):
            return self._plain(x, *args, **keywords)
        return self._tape(x, *args, **keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._tape if self._plain is None else self._plain, name)

    def integrate(self, a: Any, b: Any, extrapolate: Any = None) -> Any:
        """The integral from a to b."""
        if self._plain is not None and not tracked((a, b)):
            return self._plain.integrate(a, b, extrapolate)
        return self._tape.integrate(a, b, extrapolate)


def interpolator(name: str, ours: Any) -> type[Interpolator]:
    """A class of the given name that is listed by `coverage()`."""
    TABLE.add(Row(name, "interpolate", "differentiated"))
    documentation = f"`scipy.interpolate.{name}`, by values, sites and points."
    fields = {"theirs": getattr(interpolate, name), "ours": staticmethod(ours), "__doc__": documentation}
    return type(name, (Interpolator,), fields)


CubicSpline = interpolator("CubicSpline", cubic_spline)
PchipInterpolator = interpolator("PchipInterpolator", pchip)
Akima1DInterpolator = interpolator("Akima1DInterpolator", akima)
CubicHermiteSpline = interpolator("CubicHermiteSpline", cubic_hermite)
PPoly = interpolator("PPoly", Piecewise)
