"""Sparse matrices and distances: values, both modes, second order, float32."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

import scipy.sparse
from cases import Case, check, drawn

import allgrad as ag
from allgrad.scipy import sparse
from allgrad.scipy.spatial import distance

A = scipy.sparse.random_array((4, 5), density=0.5, rng=np.random.default_rng(0), format="csr")
S = scipy.sparse.csr_array(np.diag([4.0, 5, 6, 7]) + np.diag([1.0, 0, 2], 1) + np.diag([0.0, 1, 1], -1))
P = scipy.sparse.csr_array(np.diag([4.0, 5, 6, 7]) + np.diag([1.0, 0.5, 2], 1) + np.diag([1.0, 0.5, 2], -1))
ROWS, COLUMNS = np.array([0, 1, 1, 2, 3]), np.array([0, 1, 2, 0, 2])


def case(name, function, *draws, label="", **options):
    options = {"spellings": False, "rtol": 1e-6} | options
    return Case(
        f"{name}{label}", function, lambda rng: (tuple(d(rng) for d in draws), {}), tuple(range(len(draws))), **options
    )


def m(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    return lambda rng: rng.uniform(0.5, 2, shape)


def tridiagonal(main, side):
    return sparse.diags_array([main + 6, side, side], offsets=[0, 1, -1])


def solve_tridiagonal(d, b):
    return sparse.linalg.spsolve(tridiagonal(d, d[1:]).tocsc(), b)


def dense(matrix):
    return matrix.toarray()


SPARSE = [
    case("A @ x", lambda x: A @ x, m(5), float32=False),
    case("A @ X", lambda x: A @ x, m(5, 2), float32=False),
    case("x @ A", lambda x: x @ A, m(4), float32=False),
    case("X @ A", lambda x: x @ A, m(2, 4), float32=False),
    *[
        case(f"{kind} @ x", lambda x, k=kind: getattr(A, f"to{k}")() @ x, m(5), float32=False)
        for kind in ("csc", "coo", "bsr", "lil")
    ],
    case("csr_matrix @ x", lambda x: scipy.sparse.csr_matrix(A) @ x, m(5), float32=False),
    case("coo_array", lambda d: dense(sparse.coo_array((d, (ROWS, COLUMNS)), (4, 3))), m(5)),
    case("csr_array", lambda d, x: sparse.csr_array((d, S.indices, S.indptr), S.shape) @ x, m(S.nnz), m(4)),
    case("diags_array", lambda main, side: dense(tridiagonal(main, side)), m(4), m(3)),
    case("sum", lambda main, side: dense(2 * tridiagonal(main, side) - A[:, :4]), m(4), m(3), float32=False),
    case("spsolve", lambda b: sparse.linalg.spsolve(S, b), m(4), float32=False),
    case("spsolve", lambda b: sparse.linalg.spsolve(S, b), m(4, 2), label=" of columns", float32=False),
    case(
        "spsolve",
        lambda d, b: solve_tridiagonal(d, b),
        m(4),
        m(4),
        label=" by entries",
        float32=False,
    ),
    *[
        case(name, lambda b, n=name: getattr(sparse.linalg, n)(P, b, rtol=1e-13, atol=0)[0], m(4), float32=False)
        for name in ("cg", "bicgstab", "gmres")
    ],
    case("minres", lambda b: sparse.linalg.minres(P, b, rtol=1e-14)[0], m(4), float32=False),
]

METRICS = {"cosine": {}, "correlation": {}, "canberra": {}, "braycurtis": {}, "euclidean": {}, "sqeuclidean": {}}
METRICS |= {"cityblock": {}, "chebyshev": {}, "jensenshannon": {}, "minkowski": {"p": 3}}
METRICS |= {"mahalanobis": {"VI": np.diag([1.0, 2.0, 3.0])}, "seuclidean": {"V": np.array([1.0, 2.0, 3.0])}}
DISTANCES = [
    *[
        case(
            name,
            lambda x, y, n=name, k=keywords: distance.cdist(x, y, n, **k),
            positive(4, 3),
            positive(2, 3),
            label=" of all pairs",
            float32=False,
        )
        for name, keywords in METRICS.items()
    ],
    *[
        case(
            name,
            lambda x, n=name, k=keywords: distance.pdist(x, n, **k),
            positive(4, 3),
            label=" within",
            float32=False,
        )
        for name, keywords in METRICS.items()
    ],
    *[
        case(
            name,
            lambda u, v, n=name, k=keywords: getattr(distance, n)(u, v, **k),
            positive(3),
            positive(3),
            float32=False,
        )
        for name, keywords in METRICS.items()
    ],
    case("squareform", distance.squareform, m(6)),
]


@pytest.mark.parametrize("case", [*SPARSE, *DISTANCES], ids=str)
@functools.partial(drawn, examples=1)
def test_rule(case, seed):
    check(case, seed)


def test_plain_products_stay_scipys():
    np.testing.assert_array_equal(A @ np.ones(5), A.toarray() @ np.ones(5))
    assert scipy.sparse.issparse(A @ A.T)


def test_distances_of_a_point_to_itself_have_derivative_zero():
    gradient = ag.grad(lambda x: np.sum(distance.cdist(x, x)))(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(gradient, [[-1.2, -1.6], [1.2, 1.6]])


def test_a_boolean_metric_is_refused():
    with pytest.raises(TypeError, match="the metric 'hamming' is not differentiated"):
        distance.pdist(ag.tensor(np.eye(2), requires_grad=True), "hamming")
