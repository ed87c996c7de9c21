"""Derivatives of matrix factorizations: cholesky, qr, eigh, eig, svd, and eigenvalues and singular values alone.

The rules are the usual ones, for adjoints: given a cotangent G under <X, Y> = Re tr(X^H Y), they return the cotangent of A. The
tape works with transposes (no conjugation), so `_adjoint` conjugates the cotangent before and after each rule.

Conventions, where the matrix alone does not determine the factors:

* cholesky, eigh and eigvalsh read one triangle. They are differentiated as functions of the Hermitian matrix: only the
  Hermitian part of a tangent counts, and a cotangent is Hermitian (as in JAX and PyTorch).
* **Phases.** LAPACK chooses the phase of complex eigenvectors (eigh) and singular vectors. V^H dV gets a zero diagonal here
  (svd: U and V share the phase's motion evenly). That is right for results that do not depend on the phases.
* **Equal eigenvalues or singular values.** Their vectors are determined only up to a rotation and have no derivative. The same
  holds for the vectors of s = 0 of a matrix that is not square. The values themselves do have derivatives, and so do results
  that do not use these vectors: a cotangent of exactly 0 stays 0. Any other cotangent becomes inf or NaN, in both modes.
* eig has LAPACK's gauge: columns of unit length whose largest entry is real; both conditions are differentiated. A defective
  matrix has no inverse of eigenvectors and raises LinAlgError.
* qr has a real diagonal of R, of whatever sign LAPACK gives. The matrix does not determine the added columns of mode="complete"
  for tall matrices, so that call raises; so does svd(full_matrices=True) of a matrix that is not square.

Sources: Giles, An extended collection of matrix derivative results (2008); Seeger et al., Auto-differentiating linear
algebra (2017); Townsend, Differentiating the singular value decomposition (2016); for qr, Walter and Lehmann, Algorithmic
differentiation of linear algebra functions (2010).
"""

from __future__ import annotations

from collections import namedtuple
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.primitive import Primitive
from allgrad.numpy.arguments import conjugate, operand, real, refuse, value
from allgrad.numpy.dispatch import implements
from allgrad.numpy.singular import quotient

if TYPE_CHECKING:
    from collections.abc import Callable

QRResult = namedtuple("QRResult", ["Q", "R"])
EigResult = namedtuple("EigResult", ["eigenvalues", "eigenvectors"])
EighResult = namedtuple("EighResult", ["eigenvalues", "eigenvectors"])
SVDResult = namedtuple("SVDResult", ["U", "S", "Vh"])


def T(x: Any) -> Any:
    """The transpose of the last two axes."""
    return np.swapaxes(x, -1, -2)


def H(x: Any) -> Any:
    """The conjugate transpose of the last two axes."""
    return conjugate(T(x))


def hermitian(x: Any) -> Any:
    """The Hermitian part."""
    return (x + H(x)) / 2


def diagonal(x: Any) -> Any:
    return np.diagonal(x, 0, -2, -1)


def columns(x: Any, w: Any) -> Any:
    """x with its columns scaled by w."""
    return x * np.expand_dims(w, -2)


def _adjoint(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule for adjoints, turned into one for transposes by conjugating its cotangent and its result."""

    def vjp(g: Any, a: Any, ans: Any) -> Any:
        cotangent = tuple(conjugate(x) for x in g) if isinstance(g, tuple) else conjugate(g)
        return conjugate(rule(cotangent, a, ans))

    return vjp


def _vectors_may_have_none(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A jvp computes tangents of the vectors even if only the values are used, so NaN there is no reason to warn."""

    @wraps(rule)
    def quiet(t: Any, ans: Any) -> Any:
        with np.errstate(invalid="ignore"):
            return rule(t, ans)

    return quiet


def _over_gaps(x: Any, w: Any) -> Any:
    """F * x with F[i, j] = 1 / (w[j] - w[i]) off the diagonal, and 0 on it."""
    eye = np.eye(w.shape[-1], dtype=real(w).dtype)
    return quotient(x * (1 - eye), np.expand_dims(w, -2) - np.expand_dims(w, -1) + eye)


# Cholesky: A = L L^H; dL = L phi(L^-1 dA L^-H), where phi keeps the lower triangle and half the diagonal.


def _phi(x: Any) -> Any:
    return np.tril(x) - np.tril(np.triu(x)) / 2


def _congruence(L: Any, x: Any) -> Any:
    """L^-1 x L^-H."""
    return H(np.linalg.solve(L, H(np.linalg.solve(L, x))))


def _cholesky_adjoint(g: Any, a: Any, ans: Any) -> Any:  # noqa: ARG001
    inner = _phi(np.matmul(H(ans), g))
    return hermitian(np.linalg.solve(H(ans), H(np.linalg.solve(H(ans), H(inner)))))


_cholesky = Primitive(
    lambda a: np.linalg.cholesky(a),
    name="cholesky",
    vjp={"a": _adjoint(_cholesky_adjoint)},
    jvp={"a": lambda t, ans: np.matmul(ans, _phi(_congruence(ans, hermitian(t))))},
)


@implements(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    return H(_cholesky(H(a))) if upper else _cholesky(a)


# QR of a matrix at least as tall as wide. With M = Q^H dA R^-1 and W skew so that M - W is upper triangular with a real diagonal:
# dQ = dA R^-1 - Q (M - W), dR = (M - W) R.


def _solve_right(x: Any, R: Any) -> Any:
    """x R^-1."""
    return T(np.linalg.solve(T(R), T(x)))


def _qr_jvp(t: Any, ans: Any) -> Any:
    Q, R = ans
    C = _solve_right(t, R)
    M = np.matmul(H(Q), C)
    low = np.tril(M, -1)
    upper = M - low + H(low)
    if M.dtype.kind == "c":
        upper = upper - _imaginary_diagonal(M)
    return C - np.matmul(Q, upper), np.matmul(upper, R)


def _imaginary_diagonal(x: Any) -> Any:
    return 1j * np.imag(x) * np.eye(x.shape[-1], dtype=np.zeros((), x.dtype).real.dtype)


def _qr_adjoint(g: Any, a: Any, ans: Any) -> Any:  # noqa: ARG001
    (gQ, gR), (Q, R) = g, ans
    M = np.matmul(R, H(gR)) - np.matmul(H(gQ), Q)
    low = np.tril(M, -1)
    mirrored = low + H(low) + real(diagonal(M))[..., None] * np.eye(M.shape[-1], dtype=M.dtype)
    return _solve_right(gQ + np.matmul(Q, mirrored), H(R))


_qr = Primitive(
    lambda a: tuple(np.linalg.qr(a)), name="qr", vjp={"a": _adjoint(_qr_adjoint)}, jvp={"a": _qr_jvp}, outputs=True
)


@implements(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    m, n = a.shape[-2:]
    if mode not in ("reduced", "complete", "r"):
        raise NoRuleError(f"np.linalg.qr(mode={mode!r}) is not differentiated; use 'reduced', 'complete' or 'r'.")
    if mode == "complete" and m > n:
        raise NoRuleError(
            f"np.linalg.qr(mode='complete') of a tall matrix, {m} x {n}, is not differentiated: "
            "the added columns of Q are not determined by the matrix. Use mode='reduced'."
        )
    if m >= n:
        Q, R = _qr(a)
    else:
        Q, R = _qr(a[..., :m])
        R = np.concatenate([R, np.matmul(H(Q), a[..., m:])], axis=-1)
    return R if mode == "r" else QRResult(Q, R)


# Eigenvalues of Hermitian matrices: dw = diag(V^H dA V), dV = V (F * V^H dA V).


@_vectors_may_have_none
def _eigh_jvp(t: Any, ans: Any) -> Any:
    w, V = ans
    inner = np.matmul(np.matmul(H(V), hermitian(t)), V)
    return real(diagonal(inner)), np.matmul(V, _over_gaps(inner, w))


def _eigh_adjoint(g: Any, a: Any, ans: Any) -> Any:  # noqa: ARG001
    (gw, gV), (w, V) = g, ans
    inner = _over_gaps(np.matmul(H(V), gV), w)
    return hermitian(np.matmul(columns(V, gw) + np.matmul(V, inner), H(V)))


_eigh = Primitive(
    lambda a, *, UPLO: tuple(np.linalg.eigh(a, UPLO)),
    name="eigh",
    vjp={"a": _adjoint(_eigh_adjoint)},
    jvp={"a": _eigh_jvp},
    outputs=True,
)


@implements(np.linalg.eigh)
def eigh(a: Any, UPLO: str = "L") -> Any:
    return EighResult(*_eigh(a, UPLO=UPLO))


@implements(np.linalg.eigvalsh)
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return _eigh(a, UPLO=UPLO)[0]


# Eigenvalues of any matrix: dw = diag(V^-1 dA V); dV = V (F * V^-1 dA V) less what keeps the gauge.


def _largest(V: Any) -> Any:
    """An array that is 1 at the largest entry of each column (the entry that LAPACK makes real) and 0 elsewhere."""
    size = np.abs(value(V))
    first = np.argmax(size, axis=-2, keepdims=True)
    return (np.arange(V.shape[-2])[:, None] == first).astype(size.dtype)


@_vectors_may_have_none
def _eig_jvp(t: Any, ans: Any) -> Any:
    w, V = ans
    inner = np.linalg.solve(V, np.matmul(t, V))
    free = np.matmul(V, _over_gaps(inner, w))
    drift = np.sum(real(conjugate(V) * free), axis=-2, keepdims=True)
    if V.dtype.kind == "c":
        at = _largest(V)
        turn = np.sum(at * np.imag(free), axis=-2, keepdims=True) / np.sum(at * np.real(V), axis=-2, keepdims=True)
        drift = drift + 1j * turn
    return diagonal(inner), free - V * drift


def _eig_adjoint(g: Any, a: Any, ans: Any) -> Any:  # noqa: ARG001
    (gw, gV), (w, V) = g, ans
    along = np.sum(conjugate(V) * gV, axis=-2, keepdims=True)
    free = gV - real(along) * V
    if V.dtype.kind == "c":
        at = _largest(V)
        free = free - 1j * at * np.imag(along) / np.sum(at * np.real(V), axis=-2, keepdims=True)
    inner = _over_gaps(np.matmul(H(V), free), conjugate(w))
    inner = inner + columns(np.eye(w.shape[-1], dtype=w.dtype), gw)
    return np.matmul(np.linalg.solve(H(V), inner), H(V))


_eig = Primitive(
    lambda a: tuple(np.linalg.eig(a)), name="eig", vjp={"a": _adjoint(_eig_adjoint)}, jvp={"a": _eig_jvp}, outputs=True
)


@implements(np.linalg.eig)
def eig(a: Any) -> Any:
    return EigResult(*_eig(a))


@implements(np.linalg.eigvals)
def eigvals(a: Any) -> Any:
    return _eig(a)[0]


# Singular values: A = U S V^H, with P = U^H dA V: dS = diag(P), and the vectors turn by F * (P S + S P^H) and F * (S P + P^H S).


def _over(x: Any, s: Any) -> Any:
    """x with its columns divided by s."""
    return quotient(x, np.expand_dims(s, -2))


def _outside(U: Any, x: Any, s: Any) -> Any:
    """The part of x outside the space of U's columns, divided by s; zero if U is square."""
    return U * 0 if U.shape[-2] == U.shape[-1] else _over(x - np.matmul(U, np.matmul(H(U), x)), s)


@_vectors_may_have_none
def _svd_jvp(t: Any, ans: Any) -> Any:
    U, s, Vh = ans
    V = H(Vh)
    P = np.matmul(np.matmul(H(U), t), V)
    PS, SP = columns(P, s), np.expand_dims(s, -1) * P
    turn_U, turn_V = (_over_gaps(x, s * s) + _over_gaps(H(x), s * s) for x in (PS, SP))
    if P.dtype.kind == "c":
        phase = _over(_imaginary_diagonal(P), 2 * s)
        turn_U, turn_V = turn_U + phase, turn_V - phase
    tV, tU = np.matmul(t, V), np.matmul(H(t), U)
    dU = np.matmul(U, turn_U) + _outside(U, tV, s)
    dV = np.matmul(V, turn_V) + _outside(V, tU, s)
    return dU, real(diagonal(P)), H(dV)


def _svd_adjoint(g: Any, a: Any, ans: Any) -> Any:  # noqa: ARG001
    (gU, gs, gVh), (U, s, Vh) = g, ans
    V, gV = H(Vh), H(gVh)
    UgU, VgV = np.matmul(H(U), gU), np.matmul(Vh, gV)
    turn_U, turn_V = (_over_gaps(x, s * s) - _over_gaps(H(x), s * s) for x in (UgU, VgV))
    inner = columns(turn_U, s) + np.expand_dims(s, -1) * turn_V
    inner = inner + columns(np.eye(s.shape[-1], dtype=inner.dtype), gs)
    if inner.dtype.kind == "c":
        inner = inner + _over(_imaginary_diagonal(UgU - VgV), 2 * s)
    return np.matmul(np.matmul(U, inner) + _outside(U, gU, s), Vh) + np.matmul(U, H(_outside(V, gV, s)))


_svd = Primitive(
    lambda a: tuple(np.linalg.svd(a, full_matrices=False)),
    name="svd",
    vjp={"a": _adjoint(_svd_adjoint)},
    jvp={"a": _svd_jvp},
    outputs=True,
)


@implements(np.linalg.svd)
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    refuse("np.linalg.svd", hermitian=hermitian or None)
    if not compute_uv:
        return _svd(a)[1]
    m, n = a.shape[-2:]
    if full_matrices and m != n:
        raise NoRuleError(
            f"np.linalg.svd(full_matrices=True), the default, is not differentiated for a matrix of {m} x {n}: "
            "the added vectors are not determined by it. Pass full_matrices=False."
        )
    return SVDResult(*_svd(a))


@implements(np.linalg.svdvals)
def svdvals(x: Any, /) -> Any:
    return _svd(operand(x))[1]
