"""Cases for np.linalg. Where factors are free up to phases or read one triangle, the function under test takes that out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from cases import Case, away_from_zero, normal, shape, shapes_that_broadcast


def regular(rng, n, batch=()):
    """Well-conditioned: singular values near 1, 2, 3, ..."""
    Q, R = (np.linalg.qr(rng.standard_normal((*batch, n, n)))[0] for _ in range(2))
    return Q * (1.0 + np.arange(n) + rng.uniform(-0.2, 0.2, n)) @ R


def tall(rng, m, n, batch=()):
    k = min(m, n)
    Q = np.linalg.qr(rng.standard_normal((*batch, m, m)))[0][..., :k]
    R = np.linalg.qr(rng.standard_normal((*batch, n, n)))[0][..., :k, :]
    return Q * (1.0 + np.arange(k) + rng.uniform(-0.2, 0.2, k)) @ R


def batch(rng):
    return shape(rng, high=1)


def H(x):
    return np.conj(np.swapaxes(x, -1, -2))


def square(rng):
    return (regular(rng, int(rng.integers(1, 4)), batch(rng)),), {}


def rectangle(rng):
    m, n = (int(k) for k in rng.integers(1, 4, 2))
    return (tall(rng, m, n, batch(rng)),), {}


def solve(rng):
    n = int(rng.integers(1, 4))
    a, b = shapes_that_broadcast(rng, 2)
    if rng.random() < 0.3:
        return (regular(rng, n, a), normal(rng, (n,))), {}
    return (regular(rng, n, a[-1:]), normal(rng, (*b[-1:], n, 2))), {}


def cholesky(x, upper=False):
    """Of a positive definite matrix made of x; both triangles move."""
    return np.linalg.cholesky(x @ H(x) + 2 * np.eye(x.shape[-1], dtype=x.dtype), upper=upper)


def eigh(x, UPLO="L"):
    """Eigenvalues, and what does not depend on phases: the sizes of the vectors' entries, and a function of the matrix."""
    w, V = np.linalg.eigh(x + H(x), UPLO)
    return w, np.abs(V) ** 2, (V * np.sin(w)[..., None, :]) @ H(V)


def eigvalsh(x):
    return np.linalg.eigvalsh(x + H(x))


def svd(x, **keywords):
    U, s, Vh = np.linalg.svd(x, **keywords)
    return s, np.abs(U) ** 2, np.abs(Vh) ** 2, (U * np.sin(s)[..., None, :]) @ Vh


def spread(rng):
    """A real matrix with real eigenvalues near 1, 2, 3, or one with a complex pair."""
    X = regular(rng, 3)
    D = np.diag([1.0, 2.0, 3.0]) if rng.random() < 0.5 else np.array([[1.0, 1.5, 0], [-1.5, 1.0, 0], [0, 0, 3.0]])
    return (X @ (D + 0.1 * rng.standard_normal((3, 3))) @ np.linalg.inv(X),), {}


def eig(a):
    """Eigenvalues, and what does not depend on the gauge: the entry that is made real changes where two are equally large."""
    w, V = np.linalg.eig(a)
    return w, np.abs(V) ** 2, V * np.swapaxes(np.linalg.inv(V), -1, -2)


def norm(rng):
    x = away_from_zero(rng, [(3,), (2, 3), (3, 2)][rng.integers(3)])
    orders = [None, 1, 2, -1, -2, np.inf, -np.inf] + ([3, 0.5, 2.5, 0, -3] if x.ndim == 1 else ["fro", "nuc"])
    order = orders[rng.integers(len(orders))]
    return (x, order) if order is not None else (x,), {"keepdims": True} if rng.random() < 0.4 else {}


def norm_over_axes(rng):
    x = away_from_zero(rng, (2, 3, 4))
    if rng.random() < 0.5:
        return (x,), {"ord": [None, 1, 3, np.inf, 0][rng.integers(5)], "axis": int(rng.integers(-3, 3))}
    axis = [(0, 1), (-1, 0), (2, 1)][rng.integers(3)]
    return (x,), {"ord": [None, "fro", "nuc", 1, -1, 2, -2, np.inf][rng.integers(8)], "axis": axis, "keepdims": True}


def vector_norm(rng):
    x = away_from_zero(rng, (2, 3, 4))
    axis = [None, 1, -1, (0, 2), (1, 0)][rng.integers(5)]
    return (x,), {"axis": axis, "ord": [2, 1, 3, np.inf, 0.5][rng.integers(5)], "keepdims": bool(rng.random() < 0.5)}


def matrix_norm(rng):
    return (away_from_zero(rng, (2, 3, 2)),), {"ord": ["fro", "nuc", 1, 2, -2, np.inf][rng.integers(6)]}


def chain(rng):
    sizes = [int(n) for n in rng.integers(1, 5, int(rng.integers(3, 6)))]
    arrays = [normal(rng, pair) for pair in pairwise(sizes)]
    if rng.random() < 0.4:
        arrays[0] = normal(rng, (sizes[1],))
    if rng.random() < 0.4 and len(arrays) > 1:
        arrays[-1] = normal(rng, (sizes[-2],))
    return (arrays,), {}


def power(rng):
    return (regular(rng, 2, batch(rng)), [-3, -1, 1, 2, 3, 5, 7][rng.integers(7)]), {}


def lstsq(a, b):
    x, residuals, _, s = np.linalg.lstsq(a, b)
    return x, residuals, s


def least_squares(rng):
    m, n = (int(k) for k in rng.integers(1, 5, 2))
    return (tall(rng, m, n), normal(rng, (m,) if rng.random() < 0.5 else (m, 2))), {}


def tensorsolve(rng):
    if rng.random() < 0.5:
        return (regular(rng, 6).reshape(2, 3, 6), normal(rng, (2, 3))), {}
    return (regular(rng, 6).reshape(2, 3, 6).transpose(2, 0, 1), normal(rng, (2, 3))), {"axes": (0,)}


CASES = [
    Case("inv", np.linalg.inv, square, complex=True),
    Case("solve", np.linalg.solve, solve, (0, 1), complex=True),
    Case("pinv", np.linalg.pinv, rectangle, complex=True),
    Case("lstsq", lstsq, least_squares, (0, 1), complex=True, spellings=False, covers=(np.linalg.lstsq,)),
    Case("tensorsolve", np.linalg.tensorsolve, tensorsolve, (0, 1), complex=True),
    Case("tensorinv", np.linalg.tensorinv, lambda rng: ((regular(rng, 6).reshape(6, 2, 3),), {"ind": 1}), complex=True),
    Case("det", np.linalg.det, square, complex=True),
    Case("slogdet", np.linalg.slogdet, square, complex=True),
    Case("matrix_power", np.linalg.matrix_power, power, complex=True, rtol32=2e-2),
    Case("multi_dot", np.linalg.multi_dot, chain, complex=True),
    Case("cholesky", cholesky, square, complex=True, spellings=False, covers=(np.linalg.cholesky,)),
    Case(
        "cholesky, upper",
        cholesky,
        lambda rng: (square(rng)[0], {"upper": True}),
        complex=True,
        spellings=False,
        covers=(np.linalg.cholesky,),
    ),
    Case("qr", np.linalg.qr, rectangle, complex=True),
    Case("qr, r", np.linalg.qr, lambda rng: (rectangle(rng)[0], {"mode": "r"}), complex=True),
    Case("qr, complete", np.linalg.qr, lambda rng: ((tall(rng, 2, int(rng.integers(2, 5))),), {"mode": "complete"})),
    Case("eigh", eigh, square, complex=True, spellings=False, covers=(np.linalg.eigh,)),
    Case(
        "eigh, U",
        eigh,
        lambda rng: (square(rng)[0], {"UPLO": "U"}),
        complex=True,
        spellings=False,
        covers=(np.linalg.eigh,),
    ),
    Case("eigvalsh", eigvalsh, square, complex=True, spellings=False, covers=(np.linalg.eigvalsh,)),
    Case("eig", eig, spread, complex=True, rtol=1e-5, spellings=False, covers=(np.linalg.eig,)),
    Case("eigvals", np.linalg.eigvals, spread, complex=True, rtol=1e-5),
    Case(
        "svd",
        svd,
        lambda rng: (rectangle(rng)[0], {"full_matrices": False}),
        complex=True,
        spellings=False,
        covers=(np.linalg.svd,),
    ),
    Case("svd of a square", svd, square, complex=True, spellings=False, covers=(np.linalg.svd,)),
    Case("svd, values alone", np.linalg.svd, lambda rng: (rectangle(rng)[0], {"compute_uv": False}), complex=True),
    Case("svdvals", np.linalg.svdvals, rectangle, complex=True),
    Case("norm", np.linalg.norm, norm, complex=True),
    Case("norm over axes", np.linalg.norm, norm_over_axes, complex=True),
    Case("vector_norm", np.linalg.vector_norm, vector_norm, complex=True),
    Case("matrix_norm", np.linalg.matrix_norm, matrix_norm, complex=True),
    Case(
        "cond",
        np.linalg.cond,
        lambda rng: ((regular(rng, 3), [None, 2, -2, 1, "fro", np.inf][rng.integers(6)]), {}),
        rtol32=2e-2,
    ),
    Case(
        "linalg.trace", np.linalg.trace, lambda rng: ((normal(rng, (2, 3, 4)),), {"offset": int(rng.integers(-1, 2))})
    ),
    Case(
        "linalg.diagonal",
        np.linalg.diagonal,
        lambda rng: ((normal(rng, (2, 3, 4)),), {"offset": int(rng.integers(-1, 2))}),
    ),
    Case("linalg.matrix_transpose", np.linalg.matrix_transpose, lambda rng: ((normal(rng, (2, 3, 4)),), {})),
    Case("linalg.cross", np.linalg.cross, lambda rng: ((normal(rng, (2, 3)), normal(rng, (2, 3))), {}), (0, 1)),
    Case("linalg.outer", np.linalg.outer, lambda rng: ((normal(rng, (2,)), normal(rng, (3,))), {}), (0, 1)),
    Case("linalg.matmul", np.linalg.matmul, lambda rng: ((normal(rng, (2, 3)), normal(rng, (3, 2))), {}), (0, 1)),
    Case(
        "linalg.tensordot",
        np.linalg.tensordot,
        lambda rng: ((normal(rng, (2, 3)), normal(rng, (3, 2))), {"axes": 1}),
        (0, 1),
    ),
    Case(
        "linalg.vecdot",
        np.linalg.vecdot,
        lambda rng: ((normal(rng, (2, 3)), normal(rng, (2, 3))), {"axis": 0}),
        (0, 1),
        complex=True,
    ),
]
