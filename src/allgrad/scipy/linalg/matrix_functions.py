"""Functions of matrices: expm, logm, sqrtm, fractional powers, trigonometric and hyperbolic functions.

All of them get their derivative from one identity (Higham, Functions of Matrices, 2008, theorem 3.6): with L(A, E) the
derivative of f at A in the direction E,

    f([[A, E], [0, A]]) = [[f(A), L(A, E)], [0, f(A)]].

The transpose of L(A, .) is L(A^T, .). A derivative therefore costs one f of a matrix twice as large, and since the
block matrix is built on the tape, every order follows by recursion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.primitive import Primitive
from allgrad.numpy.factorizations import T
from allgrad.scipy.registry import differentiates, operand, tracked
from scipy import linalg

if TYPE_CHECKING:
    from collections.abc import Callable


def _derivative(a: Any, e: Any, *, function: Callable[..., Any]) -> Any:
    """L(A, E): the upper right block."""
    n = a.shape[-1]
    e = np.broadcast_to(e, a.shape) if e.shape != a.shape else e
    left = np.concatenate([a, np.zeros(a.shape, dtype=a.dtype)], axis=-2)
    right = np.concatenate([e, a], axis=-2)
    return matrix_function(np.concatenate([left, right], axis=-1), function=function)[..., :n, n:]


matrix_function: Primitive = Primitive(
    lambda a, *, function: np.asarray(function(a)),
    name="matrix function",
    vjp={"a": lambda g, a, *, function: _derivative(T(a), g, function=function)},
    jvp={"a": lambda t, a, *, function: _derivative(a, t, function=function)},
)


def _declare(function: Callable[..., Any]) -> Callable[..., Any]:
    @differentiates(function, "linalg")
    def of_matrix(A: Any) -> Any:
        return matrix_function(operand(A), function=function)

    of_matrix.__name__ = of_matrix.__qualname__ = function.__name__
    of_matrix.__doc__ = f"`scipy.linalg.{function.__name__}` of A: (..., n, n)."
    return of_matrix


expm = _declare(linalg.expm)
sqrtm = _declare(linalg.sqrtm)
cosm = _declare(linalg.cosm)
sinm = _declare(linalg.sinm)
tanm = _declare(linalg.tanm)
coshm = _declare(linalg.coshm)
sinhm = _declare(linalg.sinhm)
tanhm = _declare(linalg.tanhm)
logm = _declare(linalg.logm)


@differentiates(linalg.fractional_matrix_power, "linalg")
def fractional_matrix_power(A: Any, t: Any) -> Any:
    """A^t by the matrix and by t: d/dt A^t = log(A) A^t."""
    A = operand(A)
    if tracked(t):
        return matrix_function(t * logm(A), function=linalg.expm)
    return matrix_function(A, function=_Power(t))


class _Power:
    """A -> A^t, as a function that is equal to another one of the same t."""

    def __init__(self, t: float) -> None:
        self.t = float(t)  # an array of rank 0 could be overwritten before backward

    def __call__(self, a: Any) -> Any:
        if a.ndim == 2:
            return linalg.fractional_matrix_power(a, self.t)
        return np.stack([self(x) for x in a])


@differentiates(linalg.expm_frechet, "linalg")
def expm_frechet(A: Any, E: Any, method: Any = None, compute_expm: bool = True) -> Any:
    """expm(A) and its derivative in the direction E, both of shape (n, n)."""
    if method not in (None, "SPS", "blockEnlarge"):
        raise ValueError(f"expm_frechet knows the methods 'SPS' and 'blockEnlarge', got {method!r}.")
    A, E = operand(A), operand(E)
    L = _derivative(A, E, function=linalg.expm)
    return (expm(A), L) if compute_expm else L


def refused(name: str, why: str) -> Callable[..., Any]:
    """A function that raises on a Tensor and says why, and is SciPy's own otherwise."""

    @differentiates(getattr(linalg, name), "")
    def function(*args: Any, **keywords: Any) -> Any:  # noqa: ARG001
        raise NotDifferentiableError(f"scipy.linalg.{name} is not differentiated: {why}. Pass .detach()ed Tensors.")

    function.__name__ = function.__qualname__ = name
    return function
