"""Decompositions: cholesky, lu, qr, svd, eigenvalues, polar, and norms. The conventions are those of `allgrad.numpy.linalg`.

Where SciPy reads one triangle of a Hermitian matrix, the derivative is that of a function of Hermitian matrices: tangents
count by their Hermitian part, and cotangents are Hermitian. Eigenvectors and singular vectors of equal values have no
derivative.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.primitive import Primitive
from allgrad.numpy.factorizations import H, T
from allgrad.scipy.linalg.matrix_functions import refused, sqrtm
from allgrad.scipy.linalg.solvers import hermitian_from, row_order, triangular
from allgrad.scipy.registry import differentiates, operand, value
from scipy import linalg


@differentiates(linalg.cholesky, "linalg")
def cholesky(a: Any, lower: bool = False) -> Any:
    return np.linalg.cholesky(operand(a), upper=not lower)


@differentiates(linalg.cho_factor, "linalg")
def cho_factor(a: Any, lower: bool = False) -> Any:
    """(factor, lower). The unused triangle is 0, where SciPy leaves what was there."""
    return np.linalg.cholesky(operand(a), upper=not lower), lower


# LU with pivoting: with P^T A = L U and M = L^-1 P^T dA U^-1, dL = L tril(M, -1) and dU = triu(M) U.


def _between(L: Any, U: Any, t: Any) -> Any:
    """L^-1 t U^-1."""
    left = triangular(L, t, lower=True, unit=True)
    return T(triangular(T(U), T(left), lower=True, unit=False))


def _lu_jvp(t: Any, ans: Any) -> Any:
    L, U = ans
    M = _between(L, U, t)
    return np.matmul(L, np.tril(M, -1)), np.matmul(np.triu(M), U)


def _lu_vjp(g: Any, ans: Any) -> Any:
    (gL, gU), (L, U) = g, ans
    M = np.tril(np.matmul(T(L), gL), -1) + np.triu(np.matmul(gU, T(U)))
    left = triangular(T(L), M, lower=False, unit=True)
    return T(triangular(U, T(left), lower=False, unit=False))


def _lu_value(a: Any) -> tuple[Any, Any]:
    """L and U of a square matrix whose rows are in the order of the pivots."""
    lu, piv = linalg.lu_factor(a)
    assert np.array_equal(piv, np.arange(len(a))), "the rows are not in the order of the pivots"
    return np.tril(lu, -1) + np.eye(len(a), dtype=lu.dtype), np.triu(lu)


_lu = Primitive(_lu_value, name="lu", vjp={"a": _lu_vjp}, jvp={"a": _lu_jvp}, outputs=True)


def _pivoted(a: Any) -> tuple[Any, Any, Any]:
    """The order of a's rows, and L: (m, k), U: (k, n) of the reordered matrix, with k = min(m, n)."""
    m, n = a.shape
    k = min(m, n)
    piv = linalg.lu_factor(value(a))[1]
    order = row_order(np.concatenate([piv, np.arange(len(piv), m)]))
    rows = a[order]
    L, U = _lu(rows[:k, :k])
    if m > n:
        L = np.concatenate([L, T(triangular(T(U), T(rows[k:]), lower=True, unit=False))])
    elif n > m:
        U = np.concatenate([U, triangular(L, rows[:, k:], lower=True, unit=True)], axis=1)
    return order, L, U


@differentiates(linalg.lu, "linalg")
def lu(a: Any, permute_l: bool = False, p_indices: bool = False) -> Any:
    """P, L, U of a: (m, n); or P L and U with `permute_l`. P is constant."""
    a = operand(a)
    order, L, U = _pivoted(a)
    back = np.argsort(order)
    if permute_l:
        return L[back], U
    return (back if p_indices else np.eye(len(order), dtype=value(a).real.dtype)[back]), L, U


@differentiates(linalg.lu_factor, "linalg")
def lu_factor(a: Any) -> Any:
    """(lu, piv) of a square matrix: L below the diagonal, U on and above it."""
    a = operand(a)
    if a.shape[0] != a.shape[1]:
        raise NoRuleError(f"lu_factor of a Tensor takes a square matrix, got {a.shape}; use lu.")
    _, L, U = _pivoted(a)
    return np.tril(L, -1) + U, linalg.lu_factor(value(a))[1]


@differentiates(linalg.qr, "linalg")
def qr(
    a: Any,
    mode: str = "full",
    pivoting: bool = False,
) -> Any:
    """Q and R, or (R,) with mode='r'. With pivoting the order of the columns is constant."""
    a = operand(a)
    if mode == "raw":
        raise NoRuleError("scipy.linalg.qr(mode='raw') is not differentiated; use mode='economic'.")
    order = linalg.qr(value(a), mode="r", pivoting=True)[1] if pivoting else None
    columns = a[:, order] if pivoting else a
    if mode == "r":
        found: tuple[Any, ...] = (np.linalg.qr(columns, mode="r"),)
    else:
        found = tuple(np.linalg.qr(columns, mode="reduced" if mode == "economic" else "complete"))
    return (*found, order) if pivoting else found


@differentiates(linalg.svd, "linalg")
def svd(
    a: Any,
    full_matrices: bool = True,
    compute_uv: bool = True,
) -> Any:
    a = operand(a)
    return tuple(np.linalg.svd(a, full_matrices=full_matrices)) if compute_uv else np.linalg.svdvals(a)


@differentiates(linalg.svdvals, "linalg")
def svdvals(a: Any) -> Any:
    return np.linalg.svdvals(operand(a))


# Eigenvalues.


@differentiates(linalg.eigh, "linalg")
def eigh(
    a: Any,
    b: Any = None,
    *,
    lower: bool = True,
    eigvals_only: bool = False,
    type: int = 1,
    subset_by_index: Any = None,
    subset_by_value: Any = None,
) -> Any:
    """Eigenvalues and vectors of a Hermitian matrix, or of the problem a v = w b v with b positive definite (type 1)."""
    a = hermitian_from(operand(a), lower)
    if b is None:
        w, v = np.linalg.eigh(a)
    elif type != 1:
        raise NoRuleError(f"scipy.linalg.eigh(type={type}) is not differentiated; only type 1, a v = w b v.")
    else:
        L = np.linalg.cholesky(hermitian_from(operand(b), lower))
        inner = triangular(L, H(triangular(L, H(a), lower=True, unit=False)), lower=True, unit=False)
        w, y = np.linalg.eigh(inner)
        v = triangular(H(L), y, lower=False, unit=False)
    if subset_by_index is not None:
        chosen = slice(subset_by_index[0], subset_by_index[1] + 1)
        w, v = w[..., chosen], v[..., chosen]
    elif subset_by_value is not None:
        low, high = subset_by_value
        inside = np.flatnonzero((value(w) > low) & (value(w) <= high))
        w, v = w[inside], v[:, inside]
    return w if eigvals_only else (w, v)


@differentiates(linalg.eigvalsh, "linalg")
def eigvalsh(a: Any, b: Any = None, **keywords: Any) -> Any:
    return eigh(a, b, eigvals_only=True, **keywords)


def _tridiagonal(d: Any, e: Any) -> Any:
    d, e = operand(d), operand(e)
    return np.diag(d) + np.diag(e, 1) + np.diag(e, -1)


@differentiates(linalg.eigh_tridiagonal, "linalg")
def eigh_tridiagonal(d: Any, e: Any, eigvals_only: bool = False, select: str = "a") -> Any:
    """Of the symmetric matrix with the diagonal d and the off-diagonal e; all eigenvalues (select='a')."""
    if select not in ("a", "all"):
        raise NoRuleError(f"eigh_tridiagonal(select={select!r}) is not differentiated; slice the result of select='a'.")
    return eigh(_tridiagonal(d, e), eigvals_only=eigvals_only)


@differentiates(linalg.eigvalsh_tridiagonal, "linalg")
def eigvalsh_tridiagonal(d: Any, e: Any, select: str = "a") -> Any:
    return eigh_tridiagonal(d, e, eigvals_only=True, select=select)


@differentiates(linalg.eig, "linalg")
def eig(a: Any, b: Any = None, left: bool = False, right: bool = True) -> Any:
    """Eigenvalues and right eigenvectors, of a v = w b v if b is given."""
    if left:
        raise NoRuleError("scipy.linalg.eig(left=True) is not differentiated; take eig of the conjugate transpose.")
    a = operand(a)
    if b is not None:
        a = np.linalg.solve(operand(b), a)
    w, v = np.linalg.eig(a.astype(complex) if a.dtype.kind != "c" else a)
    return (w, v) if right else w


@differentiates(linalg.eigvals, "linalg")
def eigvals(a: Any, b: Any = None) -> Any:
    return eig(a, b, right=False)


# Polar decomposition, Procrustes, norms.


@differentiates(linalg.polar, "linalg")
def polar(a: Any, side: str = "right") -> Any:
    """u and p with a = u p (side='right') or a = p u, for a of full rank: p = sqrtm(a^H a), which has no equal-value trouble."""
    a = operand(a)
    if side == "left":
        u, p = polar(H(a))
        return H(u), p
    if a.shape[0] < a.shape[1]:
        raise NoRuleError(
            f"polar(side={side!r}) of a matrix of {a.shape} is not differentiated: p would be singular; use the other side."
        )
    p = sqrtm(np.matmul(H(a), a))
    return H(np.linalg.solve(p, H(a))), p


@differentiates(linalg.orthogonal_procrustes, "linalg")
def orthogonal_procrustes(A: Any, B: Any) -> Any:
    """The orthogonal R that minimizes |A R - B|, and the sum of the singular values of A^H B."""
    product = np.matmul(H(operand(A)), operand(B))
    return polar(product)[0], np.sum(np.linalg.svdvals(product))


@differentiates(linalg.norm, "linalg")
def norm(a: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    return np.linalg.norm(operand(a), ord, axis, keepdims)


_BASIS = "its columns are any orthonormal basis of the space, which is not determined by the matrix"
null_space = refused("null_space", _BASIS)
orth = refused("orth", _BASIS)
schur = refused("schur", "SciPy's order of the eigenvalues is not a continuous function of the matrix")
hessenberg = refused("hessenberg", "no rule has been written")
