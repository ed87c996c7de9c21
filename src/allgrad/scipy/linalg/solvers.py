"""Linear systems and matrix equations: triangular, banded, factored, Toeplitz, Sylvester, Lyapunov and Riccati.

For A x = b with the solution x and a cotangent g: gb = A^-T g and gA = -gb x^T, kept to the entries of A that the solver
reads. The derivative of a matrix equation is the same equation with another right-hand side (Giles 2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.numpy.arguments import conjugate
from allgrad.numpy.factorizations import H, T
from allgrad.scipy.registry import differentiates, operand, value
from scipy import linalg

# Whole matrices.


def _columns(b: Any) -> tuple[Any, bool]:
    """b as a matrix of right-hand sides, and whether it was a vector."""
    b = operand(b)
    return (np.expand_dims(b, 1), True) if b.ndim == 1 else (b, False)


def _triangle(a: Any, lower: bool, k: int = 0) -> Any:
    return np.tril(a, -k) if lower else np.triu(a, k)


def hermitian_from(a: Any, lower: bool) -> Any:
    """The Hermitian matrix of which only one triangle is read."""
    strict = _triangle(a, lower, 1)
    return _triangle(a, lower) + H(strict)


@differentiates(linalg.solve, "linalg")
def solve(
    a: Any,
    b: Any,
    lower: bool = False,
    assume_a: str | None = None,
    transposed: bool = False,
) -> Any:
    """x with a x = b. Where `assume_a` makes SciPy read one triangle, the derivative is by that triangle's entries."""
    a = operand(a)
    if assume_a in ("sym", "symmetric"):
        strict = _triangle(a, lower, 1)
        a = _triangle(a, lower) + T(strict)
    elif assume_a in ("her", "hermitian", "pos", "positive definite"):
        a = hermitian_from(a, lower)
    elif assume_a in ("lower triangular", "upper triangular"):
        a = _triangle(a, assume_a.startswith("lower"))
    columns, vector = _columns(b)
    x = np.linalg.solve(T(a) if transposed else a, columns)
    return x[..., 0] if vector else x


@differentiates(linalg.inv, "linalg")
def inv(a: Any) -> Any:
    return np.linalg.inv(operand(a))


@differentiates(linalg.det, "linalg")
def det(a: Any) -> Any:
    return np.linalg.det(operand(a))


@differentiates(linalg.pinv, "linalg")
def pinv(a: Any, *, atol: Any = None, rtol: Any = None, return_rank: bool = False) -> Any:
    a = operand(a)
    if atol:
        largest = np.linalg.norm(value(a), 2)
        rtol = max(rtol or 0.0, atol / largest)
    rtol = max(a.shape[-2:]) * np.finfo(a.dtype).eps if rtol is None else rtol
    result = np.linalg.pinv(a, rtol=rtol)
    return (result, int(np.linalg.matrix_rank(value(a), rtol=rtol))) if return_rank else result


@differentiates(linalg.lstsq, "linalg")
def lstsq(a: Any, b: Any, cond: Any = None) -> Any:
    """x, residues, rank, singular values; differentiated at constant rank."""
    a = operand(a)
    return np.linalg.lstsq(a, b, rcond=np.finfo(a.dtype).eps if cond is None else cond)


# Triangular systems.


def _triangular_value(a: Any, b: Any, *, lower: bool, unit: bool) -> Any:
    return np.asarray(linalg.solve_triangular(a, b, lower=lower, unit_diagonal=unit))


def _triangular_vjp(g: Any, a: Any, ans: Any, *, lower: bool, unit: bool, needs: tuple[bool, ...]) -> Any:
    gb = triangular(T(a), g, lower=not lower, unit=unit)
    return (-_triangle(np.matmul(gb, T(ans)), lower, int(unit)) if needs[0] else None), gb


def _triangular_jvp(t: Any, a: Any, ans: Any, *, lower: bool, unit: bool) -> Any:
    return -triangular(a, np.matmul(_triangle(t, lower, int(unit)), ans), lower=lower, unit=unit)


triangular: Primitive = Primitive(
    _triangular_value, name="solve_triangular", joint=_triangular_vjp, jvp={"a": _triangular_jvp, "b": LINEAR}
)


@differentiates(linalg.solve_triangular, "linalg")
def solve_triangular(
    a: Any,
    b: Any,
    trans: Any = 0,
    lower: bool = False,
    unit_diagonal: bool = False,
) -> Any:
    a = operand(a)
    if trans not in (0, "N"):
        a, lower = (H(a) if trans in (2, "C") else T(a)), not lower
    columns, vector = _columns(b)
    x = triangular(a, columns, lower=bool(lower), unit=unit_diagonal)
    return x[..., 0] if vector else x


@differentiates(linalg.cho_solve, "linalg")
def cho_solve(c_and_lower: Any, b: Any) -> Any:
    """x with A x = b, for the factor that `cho_factor` gives."""
    c, lower = c_and_lower
    c = operand(c)
    columns, vector = _columns(b)
    first, second = (c, H(c)) if lower else (H(c), c)
    x = triangular(second, triangular(first, columns, lower=True, unit=False), lower=False, unit=False)
    return x[..., 0] if vector else x


@differentiates(linalg.lu_solve, "linalg")
def lu_solve(lu_and_piv: Any, b: Any, trans: int = 0) -> Any:
    """x with A x = b (trans=0), A^T x = b (1) or A^H x = b (2), for the factors that `lu_factor` gives."""
    lu, piv = lu_and_piv
    lu = operand(lu)
    order = row_order(value(piv))
    columns, vector = _columns(b)
    if trans == 0:
        x = triangular(lu, triangular(lu, columns[order], lower=True, unit=True), lower=False, unit=False)
    else:
        flipped = H(lu) if trans == 2 else T(lu)
        y = triangular(flipped, triangular(flipped, columns, lower=True, unit=False), lower=False, unit=True)
        x = y[np.argsort(order)]
    return x[..., 0] if vector else x


def row_order(piv: Any) -> Any:
    """LAPACK's successive row exchanges as one permutation of the rows."""
    order = np.arange(len(piv))
    for i, j in enumerate(piv):
        order[[i, j]] = order[[j, i]]
    return order


# Banded systems: ab[u + i - j, j] = a[i, j].


def _transposed_band(ab: Any, lower: int, upper: int) -> Any:
    """The band storage of the transpose, which has `upper` diagonals below."""
    n = ab.shape[-1]
    rows = []
    for k in range(-lower, upper + 1):  # a's diagonal k is row lower + k of the result, moved by k
        row, zeros = ab[upper - k], np.zeros(min(abs(k), n), dtype=ab.dtype)
        rows.append(np.concatenate([row[k:], zeros] if k >= 0 else [zeros, row[:k]]))
    return np.stack(rows)


def _band_of_product(left: Any, right: Any, lower: int, upper: int) -> Any:
    """The band of left right^T, in band storage."""
    n = left.shape[0]
    rows = []
    for k in range(upper, -lower - 1, -1):
        zeros = np.zeros(min(abs(k), n), dtype=left.dtype)
        if k >= 0:
            entries = np.sum(left[: n - k] * right[k:], axis=-1)
            rows.append(np.concatenate([zeros, entries]))
        else:
            entries = np.sum(left[-k:] * right[:k], axis=-1)
            rows.append(np.concatenate([entries, zeros]))
    return np.stack(rows)


def _banded_times(ab: Any, x: Any, lower: int, upper: int) -> Any:
    n = ab.shape[-1]
    total: Any = 0.0
    for k in range(-lower, upper + 1):
        zeros = np.zeros((min(abs(k), n), x.shape[-1]), dtype=x.dtype)
        scaled = np.expand_dims(ab[upper - k], -1) * x
        total = total + np.concatenate([scaled[k:], zeros] if k >= 0 else [zeros, scaled[:k]])
    return total


def _banded_vjp(g: Any, ab: Any, ans: Any, *, lower: int, upper: int, needs: tuple[bool, ...]) -> Any:
    gb = banded(_transposed_band(ab, lower, upper), g, lower=upper, upper=lower)
    return (-_band_of_product(gb, ans, lower, upper) if needs[0] else None), gb


banded: Primitive = Primitive(
    lambda ab, b, *, lower, upper: linalg.solve_banded((lower, upper), ab, b),
    name="solve_banded",
    joint=_banded_vjp,
    jvp={
        "ab": lambda t, ab, ans, *, lower, upper: (
            -banded(ab, _banded_times(t, ans, lower, upper), lower=lower, upper=upper)
        ),
        "b": LINEAR,
    },
)


@differentiates(linalg.solve_banded, "linalg")
def solve_banded(l_and_u: Any, ab: Any, b: Any) -> Any:
    lower, upper = map(int, l_and_u)
    columns, vector = _columns(b)
    x = banded(operand(ab), columns, lower=lower, upper=upper)
    return x[..., 0] if vector else x


@differentiates(linalg.solveh_banded, "linalg")
def solveh_banded(ab: Any, b: Any, lower: bool = False) -> Any:
    """By the stored half of a Hermitian band matrix; the other half is mirrored on the tape."""
    ab = operand(ab)
    width = ab.shape[0] - 1
    if lower:
        mirrored = conjugate(_transposed_band(ab, width, 0))
        full = np.concatenate([mirrored[:-1], ab])
    else:
        mirrored = conjugate(_transposed_band(ab, 0, width))
        full = np.concatenate([ab, mirrored[1:]])
    columns, vector = _columns(b)
    x = banded(full, columns, lower=width, upper=width)
    return x[..., 0] if vector else x


# Sylvester, Lyapunov, Riccati.


def _sylvester_vjp(g: Any, a: Any, b: Any, ans: Any, *, needs: tuple[bool, ...]) -> Any:
    z = sylvester(T(a), T(b), g)
    return (
        -np.matmul(z, T(ans)) if needs[0] else None,
        -np.matmul(T(ans), z) if needs[1] else None,
        z,
    )


sylvester: Primitive = Primitive(
    lambda a, b, q: linalg.solve_sylvester(a, b, q),
    name="solve_sylvester",
    joint=_sylvester_vjp,
    jvp={
        "a": lambda t, a, b, ans: -sylvester(a, b, np.matmul(t, ans)),
        "b": lambda t, a, b, ans: -sylvester(a, b, np.matmul(ans, t)),
        "q": LINEAR,
    },
)


@differentiates(linalg.solve_sylvester, "linalg")
def solve_sylvester(a: Any, b: Any, q: Any) -> Any:
    """X with A X + X B = Q."""
    return sylvester(operand(a), operand(b), operand(q))


@differentiates(linalg.solve_continuous_lyapunov, "linalg")
def solve_continuous_lyapunov(a: Any, q: Any) -> Any:
    """X with A X + X A^H = Q."""
    a = operand(a)
    return sylvester(a, H(a), operand(q))


def _discrete_vjp(g: Any, a: Any, b: Any, ans: Any, *, needs: tuple[bool, ...]) -> Any:
    z = discrete_sylvester(T(a), T(b), g)
    by_a = np.matmul(z, T(np.matmul(ans, b))) if needs[0] else None
    by_b = np.matmul(T(np.matmul(a, ans)), z) if needs[1] else None
    return by_a, by_b, z


def _discrete_value(a: Any, b: Any, q: Any) -> Any:
    """X - A X B = Q, as one linear system of n m unknowns."""
    n, m = q.shape
    system = np.eye(n * m) - np.kron(a, b.T)
    return np.linalg.solve(system, q.reshape(-1)).reshape(n, m).astype(np.result_type(a, b, q))


discrete_sylvester: Primitive = Primitive(
    _discrete_value,
    name="solve_discrete_lyapunov",
    joint=_discrete_vjp,
    jvp={
        "a": lambda t, a, b, ans: discrete_sylvester(a, b, np.matmul(np.matmul(t, ans), b)),
        "b": lambda t, a, b, ans: discrete_sylvester(a, b, np.matmul(np.matmul(a, ans), t)),
        "q": LINEAR,
    },
)


@differentiates(linalg.solve_discrete_lyapunov, "linalg")
def solve_discrete_lyapunov(a: Any, q: Any, method: Any = None) -> Any:  # noqa: ARG001
    """X with A X A^H - X + Q = 0. The system of n^2 unknowns is solved directly, whatever `method` says."""
    a = operand(a)
    return discrete_sylvester(a, H(a), operand(q))
