"""B-splines by their coefficients and points, interp1d, RegularGridInterpolator, interpn and BarycentricInterpolator."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.scipy.interpolate.piecewise import interpolator, placed
from allgrad.scipy.registry import differentiates, operand, tracked, value
from scipy import interpolate

# B-splines: S(x) = sum of c_i B_i(x), linear in c; the derivative by x is a B-spline of lower degree.


def _evaluated(x: Any, c: Any, *, t: Any, k: int, nu: int, extrapolate: Any) -> Any:
    """c: (n, m); x: any shape. The result has the shape (*x.shape, m)."""
    return interpolate.BSpline(t, c, k, extrapolate=extrapolate)(x, nu)


def _by_points(g: Any, x: Any, c: Any, *, nu: int, **spline: Any) -> Any:
    return np.sum(g * bspline(x, c, nu=nu + 1, **spline), axis=-1)


def _by_coefficients(g: Any, x: Any, *, t: Any, k: int, **spline: Any) -> Any:
    basis = bspline(x, np.eye(len(t) - k - 1), t=t, k=k, **spline)
    return np.tensordot(basis, g, (list(range(x.ndim)), list(range(x.ndim))))


bspline: Primitive = Primitive(
    _evaluated,
    name="BSpline",
    vjp={
        "x": lambda g, x, c, *, t, k, nu, extrapolate: _by_points(g, x, c, t=t, k=k, nu=nu, extrapolate=extrapolate),
        "c": lambda g, x, *, t, k, nu, extrapolate: _by_coefficients(g, x, t=t, k=k, nu=nu, extrapolate=extrapolate),
    },
    jvp={
        "x": lambda s, x, c, *, t, k, nu, extrapolate: (
            np.expand_dims(s, -1) * bspline(x, c, t=t, k=k, nu=nu + 1, extrapolate=extrapolate)
        ),
        "c": LINEAR,
    },
)


class _Spline:
    """A B-spline whose knots are constant."""

    def __init__(self, t: Any, c: Any, k: int, extrapolate: Any = True, axis: int = 0) -> None:
        if tracked(t):
            raise NotDifferentiableError("BSpline is not differentiated by its knots; pass them with .detach().")
        self.t, self.k, self.extrapolate, self.axis = np.asarray(t, dtype=float), int(k), extrapolate, axis
        self.c = np.moveaxis(operand(c), axis, 0)

    def __call__(self, x: Any, nu: int = 0, extrapolate: Any = None) -> Any:
        points = operand(x)
        trailing = self.c.shape[1:]
        spread = self.extrapolate if extrapolate is None else extrapolate
        coefficients = np.reshape(self.c[: len(self.t) - self.k - 1], (len(self.t) - self.k - 1, -1))
        result = bspline(points, coefficients, t=self.t, k=self.k, nu=nu, extrapolate=spread)
        result = np.reshape(result, (*points.shape, *trailing))
        return placed(result, points.ndim, self.axis)

    def derivative(self, nu: int = 1) -> Any:
        return lambda x: self(x, nu)

    def integrate(self, a: Any, b: Any, extrapolate: Any = None) -> Any:
        """The integral from a to b, by both limits and the coefficients."""
        antiderivative = interpolate.BSpline(self.t, np.eye(len(self.t) - self.k - 1), self.k).antiderivative()
        padded = np.tensordot(antiderivative.c[: len(antiderivative.t) - self.k - 2], self.c, 1)
        spline = _Spline(antiderivative.t, padded, self.k + 1, self.extrapolate)
        return spline(b, 0, extrapolate) - spline(a, 0, extrapolate)


BSpline = interpolator("BSpline", _Spline)


def _weights_of_values(x: Any, k: int, t: Any, bc_type: Any) -> Any:
    """The spline through unit values: its coefficients are the matrix from values to coefficients."""
    return interpolate.make_interp_spline(x, np.eye(len(x)), k, t, bc_type)


@differentiates(interpolate.make_interp_spline, "interpolate")
def make_interp_spline(x: Any, y: Any, k: int = 3, t: Any = None, bc_type: Any = None, axis: int = 0) -> Any:
    """The interpolating B-spline, by the values y; the sites and knots are constants. `bc_type` without values."""
    if tracked((x, t)):
        raise NotDifferentiableError("make_interp_spline is differentiated by y; CubicSpline by the sites x as well.")
    y = operand(y)
    spline = _weights_of_values(np.asarray(x), k, t, bc_type)
    c = np.tensordot(spline.c, np.moveaxis(y, axis, 0), 1)
    return _Spline(spline.t, np.moveaxis(c, 0, axis % y.ndim), k, axis=axis % y.ndim)


# interp1d.


class _Interp1d:
    """Linear, nearest, previous, next, and splines of order 0 to 3; by values and points, and (linear) by the sites."""

    def __init__(
        self,
        x: Any,
        y: Any,
        kind: Any = "linear",
        axis: int = -1,
        copy: bool = True,  # noqa: ARG002
        bounds_error: Any = None,
        fill_value: Any = np.nan,
        assume_sorted: bool = False,
    ) -> None:
        x, y = operand(x), operand(y)
        self.axis = axis % y.ndim
        self.y = np.moveaxis(y, self.axis, 0)
        self.x = x
        if not assume_sorted:
            order = np.argsort(value(x), kind="mergesort")
            self.x, self.y = x[order], self.y[order]
        orders = {"zero": 0, "slinear": 1, "quadratic": 2, "cubic": 3}
        self.kind, self.fill_value = kind, fill_value
        self.extrapolate = isinstance(fill_value, str) and fill_value == "extrapolate"
        self.bounds_error = not self.extrapolate and fill_value is np.nan if bounds_error is None else bounds_error
        order = orders.get(kind, kind)
        self.spline = make_interp_spline(value(self.x), self.y, order) if order in (2, 3) and kind != "linear" else None
        if self.spline is None and kind not in ("linear", "slinear", 1, "nearest", "previous", "next"):
            raise NotDifferentiableError(
                f"interp1d(kind={kind!r}) is not differentiated; use 'linear', 'quadratic' or 'cubic'."
            )
        if self.spline is not None and tracked(x):
            raise NotDifferentiableError(f"interp1d(kind={kind!r}) is differentiated by y; CubicSpline by x as well.")

    def __call__(self, x: Any) -> Any:
        points = operand(x)
        plain, sites = value(points), value(self.x)
        below, above = plain < sites[0], plain > sites[-1]
        if self.bounds_error and np.any(below | above):
            raise ValueError(
                "A value is outside the range of interp1d; pass fill_value='extrapolate' or bounds_error=False."
            )
        result = self.spline(points) if self.spline is not None else self._piecewise(points, plain, sites)
        if not self.extrapolate:
            low, high = self.fill_value if isinstance(self.fill_value, tuple) else (self.fill_value, self.fill_value)
            shape = (*points.shape, *[1] * (self.y.ndim - 1))
            result = np.where(np.reshape(below, shape), low, np.where(np.reshape(above, shape), high, result))
        return placed(result, points.ndim, self.axis)

    def _piecewise(self, points: Any, plain: Any, sites: Any) -> Any:
        last = len(sites) - 1
        if self.kind == "nearest":
            return self.y[np.clip(np.searchsorted((sites[1:] + sites[:-1]) / 2, plain, "left"), 0, last)]
        if self.kind == "previous":
            return self.y[np.clip(np.searchsorted(sites, plain, "right") - 1, 0, last)]
        if self.kind == "next":
            return self.y[np.clip(np.searchsorted(sites, plain, "left"), 0, last)]
        i = np.clip(np.searchsorted(sites, plain, "right") - 1, 0, last - 1)
        part = (points - self.x[i]) / (self.x[i + 1] - self.x[i])
        part = np.reshape(part, (*points.shape, *[1] * (self.y.ndim - 1)))
        return self.y[i] + part * (self.y[i + 1] - self.y[i])


interp1d = interpolator("interp1d", _Interp1d)


# Regular grids.


class _Grid:
    """Linear (or nearest) interpolation on a grid, by the values, the points, and the grid's coordinates."""

    def __init__(
        self, points: Any, values: Any, method: str = "linear", bounds_error: bool = True, fill_value: Any = np.nan
    ) -> None:
        if method not in ("linear", "nearest"):
            raise NotDifferentiableError(
                f"RegularGridInterpolator(method={method!r}) is not differentiated; 'linear' is."
            )
        self.grid = [operand(p) for p in points]
        self.values, self.method = operand(values), method
        self.bounds_error, self.fill_value = bounds_error, fill_value

    def __call__(self, xi: Any, method: str | None = None) -> Any:
        if method not in (None, self.method):
            return _Grid(self.grid, self.values, method or "linear", self.bounds_error, self.fill_value)(xi)
        xi = np.stack(np.broadcast_arrays(*map(operand, xi)), axis=-1) if isinstance(xi, tuple) else operand(xi)
        outside = np.zeros(xi.shape[:-1], dtype=bool)
        choices = []
        for d, sites in enumerate(self.grid):
            place, plain = xi[..., d], value(xi)[..., d]
            outside |= (plain < value(sites)[0]) | (plain > value(sites)[-1])
            i = np.clip(np.searchsorted(value(sites), plain) - 1, 0, sites.shape[0] - 2)
            part = (place - sites[i]) / (sites[i + 1] - sites[i])
            if self.method == "nearest":
                choices.append([(np.where(value(part) <= 0.5, i, i + 1), None)])
            else:
                choices.append([(i, 1 - part), (i + 1, part)])
        if self.bounds_error and np.any(outside):
            raise ValueError("A point is outside the grid; pass bounds_error=False.")
        total: Any = 0.0
        trailing = (1,) * (self.values.ndim - len(self.grid))
        for corner in itertools.product(*choices):
            term = self.values[tuple(i for i, _ in corner)]
            for _, weight in corner:
                if weight is not None:
                    term = term * np.reshape(weight, (*weight.shape, *trailing))
            total = total + term
        if not self.bounds_error and self.fill_value is not None:
            total = np.where(np.reshape(outside, (*outside.shape, *trailing)), self.fill_value, total)
        return total


RegularGridInterpolator = interpolator("RegularGridInterpolator", _Grid)


@differentiates(interpolate.interpn, "interpolate")
def interpn(
    points: Any, values: Any, xi: Any, method: str = "linear", bounds_error: bool = True, fill_value: Any = np.nan
) -> Any:
    return _Grid(points, values, method, bounds_error, fill_value)(xi)


# Polynomials through all sites.


class _Barycentric:
    """The polynomial through all sites, by the values, the sites and the points (Berrut and Trefethen 2004)."""

    def __init__(self, xi: Any, yi: Any = None, axis: int = 0) -> None:
        self.x = operand(xi)
        self.y = np.moveaxis(operand(yi), axis, 0)
        self.axis = axis % self.y.ndim

    def __call__(self, x: Any) -> Any:
        points = operand(x)
        flat = np.reshape(points, (-1, 1))
        n = self.x.shape[0]
        # Lagrange's product form: no division by x - x_i, so that a point may be a site.
        basis = []
        for i in range(n):
            others = np.delete(np.arange(n), i)
            basis.append(np.prod((flat - self.x[others]) / (self.x[i] - self.x[others]), axis=1))
        result = np.tensordot(np.stack(basis, axis=1), self.y, 1)
        result = np.reshape(result, (*points.shape, *self.y.shape[1:]))
        return placed(result, points.ndim, self.axis)


BarycentricInterpolator = interpolator("BarycentricInterpolator", _Barycentric)
KroghInterpolator = interpolator("KroghInterpolator", _Barycentric)


# Radial basis functions.

KERNELS: dict[str, Any] = {
    "linear": lambda r: -r,
    "cubic": lambda r: r**3,
    "quintic": lambda r: -(r**5),
    "thin_plate_spline": lambda r: r * r * np.log(np.where(value(r) == 0, 1.0, r)),
    "multiquadric": lambda r: -np.sqrt(1 + r * r),
    "inverse_multiquadric": lambda r: 1 / np.sqrt(1 + r * r),
    "inverse_quadratic": lambda r: 1 / (1 + r * r),
    "gaussian": lambda r: np.exp(-r * r),
}


class _Radial:
    """A combination of radial functions and a polynomial, by the values and the points (and the sites)."""

    def __init__(
        self,
        y: Any,
        d: Any,
        neighbors: Any = None,
        smoothing: Any = 0.0,
        kernel: str = "thin_plate_spline",
        epsilon: Any = None,
        degree: Any = None,
    ) -> None:
        scale_invariant = ("linear", "thin_plate_spline", "cubic", "quintic")
        if neighbors is not None or (epsilon is None and kernel not in scale_invariant):
            raise NotDifferentiableError("RBFInterpolator needs neighbors=None, and epsilon= for this kernel.")
        least = {"multiquadric": 0, "linear": 0, "thin_plate_spline": 1, "cubic": 1, "quintic": 2}.get(kernel, -1)
        self.degree = max(least, 0) if degree is None else degree
        self.kernel, self.epsilon = KERNELS[kernel], 1.0 if epsilon is None else epsilon
        self.sites = operand(y)
        data = operand(d)
        self.shape = data.shape[1:]
        data = np.reshape(data, (data.shape[0], -1))
        n, dimension = self.sites.shape
        exponents = [e for e in itertools.product(range(self.degree + 1), repeat=dimension) if sum(e) <= self.degree]
        self.exponents = np.array(exponents if self.degree >= 0 else np.zeros((0, dimension)), dtype=int)
        P = self._polynomials(self.sites)
        K = self._kernel(self.sites) + np.diag(np.broadcast_to(smoothing, (n,)) * np.ones(n))
        m = P.shape[1]
        system = np.concatenate(
            [np.concatenate([K, P], axis=1), np.concatenate([np.swapaxes(P, 0, 1), np.zeros((m, m))], axis=1)]
        )
        self.coefficients = np.linalg.solve(system, np.concatenate([data, np.zeros((m, data.shape[1]))]))

    def _kernel(self, points: Any) -> Any:
        difference = points[:, None] - self.sites[None]
        return self.kernel(self.epsilon * np.linalg.norm(difference, axis=-1))

    def _polynomials(self, points: Any) -> Any:
        if len(self.exponents) == 0:
            return np.zeros((points.shape[0], 0))
        return np.stack([np.prod(points ** e[None], axis=1) for e in self.exponents], axis=1)

    def __call__(self, x: Any) -> Any:
        points = operand(x)
        basis = np.concatenate([self._kernel(points), self._polynomials(points)], axis=1)
        return np.reshape(np.matmul(basis, self.coefficients), (points.shape[0], *self.shape))


RBFInterpolator = interpolator("RBFInterpolator", _Radial)
