"""Algebraic Riccati equations, by the implicit function theorem at SciPy's solution.

The Jacobian of the equation has n^2 rows, so this is for systems of up to about 50 states.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.numpy.factorizations import T
from allgrad.scipy.implicit import root_at
from allgrad.scipy.registry import differentiates, operand, value
from scipy import linalg


def _operands(name: str, *matrices: Any, e: Any, s: Any, balanced: bool) -> list[Any]:
    if e is not None or s is not None or not balanced:
        raise NotDifferentiableError(f"{name} of Tensors takes a, b, q and r only; leave out e=, s= and balanced=.")
    found = [operand(m) for m in matrices]
    if any(m.dtype.kind == "c" for m in found):
        raise NotDifferentiableError(f"{name} is differentiated for real matrices.")
    return found


@differentiates(linalg.solve_continuous_are, "linalg")
def solve_continuous_are(a: Any, b: Any, q: Any, r: Any, e: Any = None, s: Any = None, balanced: bool = True) -> Any:
    """X with A^T X + X A - X B R^-1 B^T X + Q = 0."""
    a, b, q, r = _operands("solve_continuous_are", a, b, q, r, e=e, s=s, balanced=balanced)
    found = linalg.solve_continuous_are(*map(value, (a, b, q, r)))

    def residual(x: Any) -> Any:
        gain = np.linalg.solve(r, np.matmul(T(b), x))
        return np.matmul(T(a), x) + np.matmul(x, a) - np.matmul(np.matmul(x, b), gain) + q

    return root_at(residual, found)


@differentiates(linalg.solve_discrete_are, "linalg")
def solve_discrete_are(a: Any, b: Any, q: Any, r: Any, e: Any = None, s: Any = None, balanced: bool = True) -> Any:
    """X with A^T X A - X - A^T X B (R + B^T X B)^-1 B^T X A + Q = 0."""
    a, b, q, r = _operands("solve_discrete_are", a, b, q, r, e=e, s=s, balanced=balanced)
    found = linalg.solve_discrete_are(*map(value, (a, b, q, r)))

    def residual(x: Any) -> Any:
        moved = np.matmul(T(b), np.matmul(x, a))
        gain = np.linalg.solve(r + np.matmul(T(b), np.matmul(x, b)), moved)
        return np.matmul(T(a), np.matmul(x, a)) - x - np.matmul(T(moved), gain) + q

    return root_at(residual, found)
