"""Derivatives with respect to parameters for which no formula in known functions exists.

The order of a Bessel function, the shape of an incomplete gamma function, the degrees of freedom of Student's distribution:
SciPy evaluates such a function f to nearly full accuracy for real parameters, and f is analytic in them. So f is sampled at
Chebyshev points in the interval [a - r, a + r] and the interpolating polynomial is differentiated (Trefethen, Approximation
Theory and Approximation Practice, 2013, chapters 8 and 21).

* **Truncation**: the error of the polynomial of degree N = 15 shrinks like (r / 2D)^N, where D is the distance to the nearest
  singularity (a pole, or a complex zero where a logarithm is taken). With r <= D / 4 it is below 1e-13.
* **Rounding**: the n-th derivative carries an error of about 10^n eps max|f| / r^n. A first derivative is accurate to 12
  or 13 digits, a second one to 11, a third to 9, relative to the size of f near a and for r around 1.

The result is a primitive again, and so are its derivatives by every argument, to any order:

    d/da of D_n f is D_(n+1) f,      d/db of D_n f is D_n of df/db

where df/db is taken from f's own rules. Functions with a wide range (tails of distributions) are given as a logarithm.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.transforms import jvp
from allgrad.scipy.registry import Partial, elementwise

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.autodiff.primitive import Primitive

NODES = 16


@lru_cache
def _weights(n: int) -> tuple[Any, Any]:
    """Chebyshev points in [-1, 1], and the weights that give the n-th derivative at 0 of their interpolant."""
    chebyshev = np.polynomial.chebyshev
    points = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    # Coefficients from values: discrete orthogonality of the Chebyshev polynomials at their own zeros.
    to_coefficients = 2 / NODES * chebyshev.chebvander(points, NODES - 1).T
    to_coefficients[0] /= 2
    at_zero = np.array([chebyshev.chebval(0.0, chebyshev.chebder(np.eye(NODES)[k], n)) for k in range(NODES)])
    weights = at_zero @ to_coefficients
    # The derivative of a constant is exactly 0, and symmetric errors cancel: even weights for even n, odd for odd n.
    return points, (weights + (-1) ** n * weights[::-1]) / 2


def _evaluate(f: Callable[..., Any], args: Any, at: int, n: int, radius: Callable[..., Any]) -> Any:
    """The n-th derivative of f by its argument number `at`, computed in double precision."""
    dtype = np.result_type(*[a if isinstance(a, np.ndarray) else np.asarray(a, dtype=np.float64) for a in args])
    wide = [np.asarray(a, dtype=complex if np.iscomplexobj(a) else float) for a in args]
    with np.errstate(all="ignore"):
        r = np.asarray(radius(*wide), dtype=float)
        center = f(*wide)
        total = np.zeros(np.shape(center), dtype=np.asarray(center).dtype)
        for point, weight in zip(*_weights(n), strict=True):
            # Differences to the central value: the size of f beyond its variation does not round into the result.
            total = total + weight * (f(*wide[:at], wide[at] + r * point, *wide[at + 1 :]) - center)
        result = total / r**n
    if dtype.kind != "c" and dtype.itemsize < 8:
        result = result.astype(np.complex64 if result.dtype.kind == "c" else dtype)
    return result


def unit_distance(*args: Any) -> Any:  # noqa: ARG001
    """The radius for functions that are entire in the parameter and vary on a scale of 1."""
    return 0.25


@cache
def spectral(
    f: Callable[..., Any], arguments: str, at: int, n: int = 1, radius: Callable[..., Any] = unit_distance
) -> Primitive:
    """The n-th derivative of an elementwise f by its argument number `at`, as a primitive.

    Args:
        f: an elementwise function of arrays or Tensors. Keep one object per function: the result is cached by identity.
        arguments: the names of f's arguments.
        at: which argument.
        n: order of the derivative.
        radius: from the arguments, the half-width of the interval in which f is sampled.
    """
    names = tuple(arguments.split())

    def factor(j: int) -> Partial:
        def by(*args: Any) -> Any:
            if j == at:
                return spectral(f, arguments, at, n + 1, radius)(*args)
            return spectral(partial(f, j), arguments, at, n, radius)(*args)

        return Partial(by, names)

    return elementwise(
        lambda *args: _evaluate(f, args, at, n, radius),
        arguments,
        f"derivative of {getattr(f, '__name__', 'f')} by {names[at]}",
        **{name: factor(j) for j, name in enumerate(names)},
    )


def derivative_by(
    argument: str, f: Callable[..., Any], arguments: str, radius: Callable[..., Any] = unit_distance
) -> Partial:
    """The first derivative of f by an argument, as a partial derivative to declare a ufunc with."""
    names = tuple(arguments.split())
    return Partial(spectral(f, arguments, names.index(argument), 1, radius), names)


@cache
def partial(f: Callable[..., Any], j: int) -> Callable[..., Any]:
    """The partial derivative of an elementwise f by its argument number j, from f's own rules."""

    def by(*args: Any) -> Any:
        shape = np.broadcast_shapes(*[np.shape(a) for a in args])
        x = np.broadcast_to(args[j] if isinstance(args[j], Tensor) else np.asarray(args[j], float), shape)
        return jvp(lambda x: f(*args[:j], x, *args[j + 1 :]), (x,), (np.ones(shape),))[1]

    return by
