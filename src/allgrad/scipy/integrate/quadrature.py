"""Adaptive quadrature: quad, quad_vec, dblquad, by the limits, `args`, and Tensors that the integrand captured.

SciPy integrates the plain function and says into which intervals it divided the range. The same integral is then taken
on the tape with 16 Gauss-Legendre nodes in each interval; the nodes move with the limits, so Leibniz's rule needs no code.
Where the two results differ (a singular end of the range, for which QUADPACK extrapolates) a tanh-sinh rule is used
instead, and if they still differ, QuadratureError says so. A derivative is as accurate as these rules are for the
derivative of the integrand: it may have singularities that the integrand does not have.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError, TapeError
from allgrad.autodiff.modes import no_grad
from allgrad.autodiff.tensor import Tensor
from allgrad.scipy.registry import differentiates, operand, tracked, value, values
from scipy import integrate

if TYPE_CHECKING:
    from collections.abc import Callable

_X, _W = np.polynomial.legendre.leggauss(16)
GAUSS = ((_X + 1) / 2, _W / 2)
"""Nodes and weights on (0, 1)."""

_U = np.linspace(-3.4, 3.4, 103)
DOUBLE_EXPONENTIAL = (
    1 / (1 + np.exp(-np.pi * np.sinh(_U))),
    (_U[1] - _U[0]) * np.pi / 2 * np.cosh(_U) / (2 * np.cosh(np.pi / 2 * np.sinh(_U)) ** 2),
)


class QuadratureError(TapeError, ArithmeticError):
    """An integral could not be reproduced on the tape to the accuracy that SciPy claims for it."""


def _captured(func: Callable[..., Any], a: Any, b: Any, args: Any = (), *_: Any, **__: Any) -> bool:
    """Whether the integrand captured a Tensor: it then returns one."""
    low, high = float(value(a)), float(value(b))
    low = (min(0.0, high - 1) if np.isfinite(high) else 0.0) if np.isinf(low) else low
    high = low + 1 if np.isinf(high) else high
    middle = low + 0.4321 * (high - low)
    return tracked(func(middle, *(args if isinstance(args, tuple) else (args,))))


@differentiates(integrate.quad, "integrate", also=_captured)
def quad(
    func: Callable[..., Any],
    a: Any,
    b: Any,
    args: Any = (),
    full_output: int = 0,
    epsabs: float = 1.49e-8,
    epsrel: float = 1.49e-8,
    limit: int = 50,
    points: Any = None,
    weight: Any = None,
    complex_func: bool = False,
) -> Any:
    """(integral, estimated error). `weight` and `complex_func` are refused: write them into the integrand."""
    if weight is not None or complex_func or full_output:
        raise NotDifferentiableError(
            "quad with weight=, complex_func= or full_output= is not differentiated; "
            "multiply the integrand by the weight, or integrate real and imaginary part."
        )
    args = args if isinstance(args, tuple) else (args,)
    plain_args, low, high = values(list(args)), float(value(a)), float(value(b))

    def plain(x: float) -> float:
        return float(value(func(x, *plain_args)))

    with no_grad():
        expected, error, info = integrate.quad(
            plain, low, high, full_output=1, epsabs=epsabs, epsrel=epsrel, limit=limit, points=points
        )[:3]
    edges = sorted({*info["alist"][: info["last"]], *info["blist"][: info["last"]]})
    return _on_tape(lambda x: func(x, *args), a, b, edges, expected, error), error


def _on_tape(f: Callable[[Any], Any], a: Any, b: Any, edges: list[float], expected: float, error: float) -> Any:
    """The integral over the given subdivision, checked against the value that SciPy found."""
    low, high = float(value(a)), float(value(b))
    if low == high:
        return operand(a) * 0.0 + operand(b) * 0.0 + (b - a) * f(operand(a))
    g, start, end = _finite_range(f, a, b)
    first, last = edges[0], edges[-1]
    allowed = max(10 * error, 1e-9 * abs(expected), 1e-12)
    for nodes, weights in (GAUSS, DOUBLE_EXPONENTIAL):
        parts = []
        for left, right in pairwise(edges):
            width = (right - left) / (last - first)
            for node, weight in zip(nodes, weights, strict=True):
                t = start + (end - start) * ((left - first) / (last - first) + node * width)
                parts.append(weight * width * g(t))
        result = (end - start) * sum(parts[1:], parts[0])
        if abs(float(value(result)) - expected) <= allowed:
            return result
    raise QuadratureError(
        f"quad: the integral on the tape is {float(value(result)):.12g}, and SciPy's is {expected:.12g} (error {error:.1g}). "
        "Split the range where the integrand is singular, or substitute a variable that removes the singularity."
    )


def _finite_range(f: Callable[[Any], Any], a: Any, b: Any) -> tuple[Callable[[Any], Any], Any, Any]:
    """The integrand and limits in QUADPACK's variable t for infinite ranges: x = c +- (1 - t) / t with t in (0, 1]."""
    sign = -1.0 if value(a) > value(b) else 1.0
    low, high = (a, b) if sign > 0 else (b, a)
    if np.isinf(value(low)) and np.isinf(value(high)):
        return lambda t: sign * (f((1 - t) / t) + f(-(1 - t) / t)) / (t * t), 0.0, 1.0
    if np.isinf(value(high)):
        return lambda t: sign * f(low + (1 - t) / t) / (t * t), 0.0, 1.0
    if np.isinf(value(low)):
        return lambda t: sign * f(high - (1 - t) / t) / (t * t), 0.0, 1.0
    return f, a, b


@differentiates(integrate.quad_vec, "integrate", also=_captured)
def quad_vec(
    f: Callable[..., Any], a: Any, b: Any, epsabs: float = 1e-200, epsrel: float = 1e-8, args: Any = (), **options: Any
) -> tuple[Any, float]:
    """(integral, estimated error) of a function with an array as value, over a finite range."""
    if np.isinf(value(a)) or np.isinf(value(b)):
        raise NotDifferentiableError("quad_vec of Tensors takes finite limits; substitute x = t / (1 - t).")
    plain_args = values(list(args))
    with no_grad():
        expected, error, info = integrate.quad_vec(
            lambda x: np.asarray(value(f(x, *plain_args))),
            float(value(a)),
            float(value(b)),
            epsabs=epsabs,
            epsrel=epsrel,
            **(options | {"full_output": True}),
        )
    low, high = float(value(a)), float(value(b))
    total: Any = 0.0
    for left, right in np.sort(info.intervals, axis=1):
        for node, weight in zip(*GAUSS, strict=True):
            part = (left + node * (right - left) - low) / (high - low)
            total = total + weight * (right - left) / (high - low) * f(a + (b - a) * part, *args)
    result = total * (b - a)
    if np.max(np.abs(value(result) - expected)) > max(10 * error, 1e-9 * np.max(np.abs(expected))):
        raise QuadratureError(
            "quad_vec: the integral on the tape differs from SciPy's; split the range at the singularity."
        )
    return result if isinstance(result, Tensor) else Tensor(result), error


def _captured_in_two_dimensions(func: Callable[..., Any], *_: Any, args: Any = (), **__: Any) -> bool:
    return tracked(func(0.5, 0.5, *args))


@differentiates(integrate.dblquad, "integrate", also=_captured_in_two_dimensions)
def dblquad(
    func: Callable[..., Any],
    a: Any,
    b: Any,
    gfun: Any,
    hfun: Any,
    args: Any = (),
    epsabs: float = 1.49e-8,
    epsrel: float = 1.49e-8,
) -> Any:
    """The integral of func(y, x) for x from a to b and y from gfun(x) to hfun(x), as one quad inside the other."""

    def limit(end: Any, x: Any) -> Any:
        return end(x) if callable(end) else end

    def inner(x: Any, *args: Any) -> Any:
        over_y = quad(lambda y: func(y, x, *args), limit(gfun, x), limit(hfun, x), epsabs=epsabs, epsrel=epsrel)
        return over_y[0]

    return quad(inner, a, b, args=args, epsabs=epsabs, epsrel=epsrel)
