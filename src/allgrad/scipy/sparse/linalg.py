"""`scipy.sparse.linalg` with derivatives: direct and iterative solvers, by the right-hand side and the matrix's entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse.linalg as _theirs

from allgrad.autodiff.errors import ImplicitError
from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.scipy.registry import TABLE, Row, operand, tracked
from allgrad.scipy.sparse.matrix import Pattern, SparseTensor, entries, multiply

if TYPE_CHECKING:
    from collections.abc import Callable


def _value(data: Any, b: Any, *, pattern: Pattern, solver: Callable[[Any, Any], Any]) -> Any:
    return np.asarray(solver(pattern.matrix(data), b))


def _pulled(
    g: Any, data: Any, ans: Any, *, pattern: Pattern, solver: Callable[[Any, Any], Any], needs: tuple[bool, ...]
) -> Any:
    """gb = A^-T g, and the entries of -gb x^T in the pattern."""
    gb = solve(data, g, pattern=pattern.transposed, solver=solver)
    return (-np.sum(gb[pattern.rows] * ans[pattern.columns], axis=-1) if needs[0] else None), gb


solve: Primitive = Primitive(
    _value,
    name="spsolve",
    joint=lambda g, data, b, ans, *, pattern, solver, needs: _pulled(  # noqa: ARG005
        g, data, ans, pattern=pattern, solver=solver, needs=needs
    ),
    jvp={
        "data": lambda t, data, ans, *, pattern, solver: (
            -solve(data, multiply(t, ans, pattern=pattern), pattern=pattern, solver=solver)
        ),
        "b": LINEAR,
    },
)
"""A^-1 b for data: (entries,) and b: (n, k)."""


def _direct(matrix: Any, b: Any) -> Any:
    return _theirs.splu(matrix.tocsc()).solve(np.asarray(b, dtype=np.result_type(matrix.dtype, b.dtype)))


def _solved(A: Any, b: Any, solver: Callable[[Any, Any], Any]) -> Any:
    data, pattern = entries(A)
    b = operand(b)
    if b.ndim == 1:
        return solve(data, np.expand_dims(b, 1), pattern=pattern, solver=solver)[:, 0]
    return solve(data, b, pattern=pattern, solver=solver)


def _needed(A: Any, b: Any) -> bool:
    return isinstance(A, SparseTensor) or tracked((A, b))


def spsolve(A: Any, b: Any, permc_spec: Any = None, use_umfpack: bool = True) -> Any:
    """x with A x = b for a sparse A: (n, n) and b: (n,) or (n, k).

    >>> import numpy as np, allgrad as ag
    >>> from allgrad.scipy import sparse
    >>> A = sparse.eye_array(3, format="csr") * 2.0
    >>> ag.grad(lambda b: np.sum(sparse.linalg.spsolve(A, b)))(np.ones(3))
    array([0.5, 0.5, 0.5])
    """
    return _solved(A, b, _direct) if _needed(A, b) else _theirs.spsolve(A, b, permc_spec, use_umfpack)


class _Iteration:
    """An iterative solver with its options, applied to each right-hand side; the transposed system takes the same one."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name, self.options = name, options

    def __call__(self, matrix: Any, b: Any) -> Any:
        columns = []
        for column in b.T:
            x, info = getattr(_theirs, self.name)(matrix, column, **self.options)
            if info:
                raise ImplicitError(f"scipy.sparse.linalg.{self.name} did not converge (info {info}); raise maxiter.")
            columns.append(x)
        return np.stack(columns, axis=1)


def _iterative(name: str) -> Callable[..., Any]:
    def function(A: Any, b: Any, x0: Any = None, **options: Any) -> Any:
        if not _needed(A, b):
            return getattr(_theirs, name)(A, b, x0, **options)
        return _solved(A, b, _Iteration(name, options)), 0

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"(x, 0) as `scipy.sparse.linalg.{name}`; raises ImplicitError without convergence. x0 is not used."
    )
    return function


cg, bicgstab, gmres, minres = map(_iterative, ("cg", "bicgstab", "gmres", "minres"))
for _name in ("spsolve", "cg", "bicgstab", "gmres", "minres"):
    TABLE.add(Row(_name, "sparse.linalg", "differentiated"))


def __getattr__(name: str) -> Any:
    return getattr(_theirs, name)
