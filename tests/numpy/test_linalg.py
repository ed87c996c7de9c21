"""np.linalg against numerical differentiation and other packages; singular points, gauges and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from cases import check, drawn
from cases_linalg import CASES

import allgrad as ag
from allgrad.autodiff.errors import NoRuleError


@pytest.mark.parametrize("case", CASES, ids=str)
@drawn
def test_rule(case, seed):
    check(case, seed)


# Singular points.


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_gradient_of_det_of_a_singular_matrix_is_its_cofactors(rank):
    """A singular point: HIPS autograd 1.9.1 raises LinAlgError."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, rank)) @ rng.standard_normal((rank, 3))
    want = [[(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in range(3)] for i in range(3)]
    np.testing.assert_allclose(ag.grad(np.linalg.det)(a), want, atol=1e-12)
    t = rng.standard_normal((3, 3))
    np.testing.assert_allclose(ag.jvp(np.linalg.det, (a,), (t,))[1], np.sum(t * want), atol=1e-12)


def test_the_second_derivative_of_det_of_a_singular_matrix_raises():
    with pytest.raises(np.linalg.LinAlgError):
        ag.hessian(np.linalg.det)(np.zeros((2, 2)))


@pytest.mark.parametrize("order", [None, 2, 3])
def test_the_gradient_of_the_norm_at_zero_is_zero_in_both_modes(order):
    zero = np.zeros(3)  # HIPS autograd 1.9.1 gives NaN
    np.testing.assert_array_equal(ag.grad(lambda x: np.linalg.norm(x, order))(zero), zero)
    assert ag.jvp(lambda x: np.linalg.norm(x, order), (zero,), (np.ones(3),))[1] == 0


def test_the_norm_of_rows_of_which_one_is_zero():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    g = ag.grad(lambda x: np.sum(np.linalg.norm(x, axis=1)))(x)
    np.testing.assert_allclose(g, [[0.6, 0.8], [0.0, 0.0]])


def test_equal_eigenvalues_have_a_derivative_and_their_vectors_none():
    a = np.eye(3)
    np.testing.assert_allclose(ag.grad(lambda a: np.sum(np.exp(np.linalg.eigvalsh(a))))(a), np.e * a, rtol=1e-12)
    np.testing.assert_allclose(ag.grad(lambda a: np.sum(np.linalg.eigvals(a).real ** 2))(a), 2 * a, rtol=1e-12)
    np.testing.assert_allclose(ag.grad(lambda a: np.sum(np.exp(np.linalg.svdvals(a))))(a), np.e * a, rtol=1e-12)

    def rebuilt(a):
        w, V = np.linalg.eigh(a)
        return np.sum((V * w) @ V.T)

    def rebuilt_from_singular_values(a):
        U, s, Vh = np.linalg.svd(a)
        return np.sum((U * s) @ Vh)

    for f in (rebuilt, rebuilt_from_singular_values):  # 0 times inf: better a NaN than a number that looks right
        with np.errstate(invalid="ignore"):
            assert np.isnan(ag.grad(f)(a)).any()
            assert np.isnan(ag.jvp(f, (a,), (np.ones((3, 3)),))[1])


@pytest.mark.parametrize("values", [np.linalg.eigvalsh, np.linalg.eigvals, np.linalg.svdvals])
def test_equal_eigenvalues_move_in_forward_mode(values):
    np.testing.assert_allclose(ag.jvp(lambda a: np.sum(values(a)), (np.eye(3),), (np.ones((3, 3)),))[1], 3.0)


def test_singular_values_of_a_matrix_of_low_rank():
    a = np.outer([1.0, 2.0], [3.0, 4.0, 5.0])
    g = ag.grad(lambda a: np.linalg.norm(a, 2))(a)
    np.testing.assert_allclose(g, a / np.linalg.norm(a), rtol=1e-12)


# Gauges.


def test_a_cotangent_of_one_triangle_is_shared_by_both():
    a = np.array([[2.0, 0.5], [0.5, 1.0]])
    for f in (lambda a: np.linalg.cholesky(a)[1, 0], lambda a: np.linalg.eigvalsh(a)[0]):
        g = ag.grad(f)(a)
        np.testing.assert_allclose(g, g.T)


def test_real_matrices_with_complex_eigenvalues_have_real_gradients():
    a = np.array([[0.0, 1.0], [-2.0, 0.5]])
    g = ag.grad(lambda a: np.sum(np.abs(np.linalg.eigvals(a))))(a)
    assert g.dtype == np.float64
    np.testing.assert_allclose(g, ag.numerical_grad(lambda a: np.sum(np.abs(np.linalg.eigvals(a))), a), atol=1e-6)


@pytest.mark.parametrize("imaginary", [0, 0.3j])
def test_eigenvectors_move_in_the_gauge_that_lapack_gives_them(imaginary):
    """Columns of unit length with a real largest entry: the raw vectors, against differences."""
    a = np.array([[1.0, 1.5, 0.2], [-1.2, 0.8, 0.1], [0.3, -0.2, 3.0]]) + imaginary * np.arange(9.0).reshape(3, 3)
    t = np.random.default_rng(0).standard_normal((3, 3))
    moved = ag.jvp(lambda a: np.linalg.eig(a)[1], (a,), (t,))[1]
    difference = (np.linalg.eig(a + 1e-6 * t)[1] - np.linalg.eig(a - 1e-6 * t)[1]) / 2e-6
    np.testing.assert_allclose(moved, difference, atol=1e-8)


def test_named_results():
    x = ag.tensor(np.array([[2.0, 1.0], [1.0, 3.0]]), requires_grad=True)
    assert np.linalg.eigh(x).eigenvalues.shape == (2,)
    assert np.linalg.slogdet(x).logabsdet.shape == ()
    assert np.linalg.svd(x, full_matrices=False).Vh.shape == (2, 2)
    assert np.linalg.qr(x).R.shape == (2, 2)


def test_matrix_power_zero_is_constant_and_the_rank_an_integer():
    x = ag.tensor(np.array([[2.0, 1.0], [1.0, 3.0]]), requires_grad=True)
    assert not np.linalg.matrix_power(x, 0).requires_grad
    assert np.linalg.matrix_rank(x) == 2


# Refusals.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: np.linalg.svd(t), "full_matrices=False"),
        (lambda t: np.linalg.svd(t, full_matrices=False, hermitian=True), "svd.*hermitian="),
        (lambda t: np.linalg.pinv(t, hermitian=True), "pinv.*hermitian="),
        (lambda t: np.linalg.qr(t, mode="complete"), "mode='reduced'"),
        (lambda t: np.linalg.qr(t, mode="raw"), "'raw'"),
        (lambda t: np.linalg.norm(t, "nuclear"), "'nuclear'"),
        (lambda t: np.linalg.norm(t[0], "fro"), "'fro'"),
        (lambda t: np.linalg.norm(np.stack([t, t]), 2), "one axis or two"),
        (lambda t: np.linalg.multi_dot([t]), "at least two"),
        (lambda t: np.linalg.tensorinv(t, 0), "positive"),
        (lambda t: np.linalg.outer(t, t), "one-dimensional"),
    ],
)
def test_what_is_not_differentiated_is_refused_by_name(call, message):
    with pytest.raises((NoRuleError, ValueError), match=message):
        call(ag.tensor(np.ones((3, 2)), requires_grad=True))


@pytest.mark.parametrize("name", ["inv", "det", "solve", "tensorsolve"])
def test_shapes_that_do_not_fit_raise_numpys_error(name):
    t = ag.tensor(np.ones((3, 2)), requires_grad=True)
    with pytest.raises(np.linalg.LinAlgError):
        getattr(np.linalg, name)(*((t, np.ones(3)) if "solve" in name else (t,)))


# Other packages.


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("inv", np.linalg.inv, lambda t: t.linalg.inv),
        ("pinv", np.linalg.pinv, lambda t: t.linalg.pinv),
        ("det", np.linalg.det, lambda t: t.linalg.det),
        ("logdet", lambda x: np.linalg.slogdet(x)[1], lambda t: lambda x: t.linalg.slogdet(x)[1]),
        ("qr", lambda x: np.linalg.qr(x)[1], lambda t: lambda x: t.linalg.qr(x)[1]),
        ("svdvals", np.linalg.svdvals, lambda t: t.linalg.svdvals),
        ("nuclear", lambda x: np.linalg.norm(x, "nuc"), lambda t: lambda x: t.linalg.norm(x, "nuc")),
        (
            "cholesky",
            lambda x: np.linalg.cholesky(x @ np.conj(x.T)),
            lambda t: lambda x: t.linalg.cholesky(x @ x.conj().T),
        ),
        (
            "eigh",
            lambda x: np.abs(np.linalg.eigh(x @ np.conj(x.T))[1]),
            lambda t: lambda x: t.linalg.eigh(x @ x.conj().T)[1].abs(),
        ),
        (
            "eig",
            lambda x: np.abs(np.linalg.inv(np.linalg.eig(x)[1])),
            lambda t: lambda x: t.linalg.inv(t.linalg.eig(x)[1]).abs(),
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_torch_agrees_up_to_conjugation(name, ours, theirs, dtype):
    """torch's gradient is df/dx + i df/dy, ours df/dx - i df/dy."""
    torch = pytest.importorskip("torch", reason="torch is the peer here")
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 3)).astype(dtype)
    if dtype == np.complex128:
        x = x + 1j * rng.standard_normal((3, 3))
    g = ag.grad(lambda x: np.sum(np.abs(ours(x)) ** 2))(x)
    t = torch.tensor(x, requires_grad=True)
    theirs(torch)(t).abs().pow(2).sum().backward()
    np.testing.assert_allclose(g, np.conj(t.grad.numpy()), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["inv", "det", "pinv", "norm"])
def test_hips_autograd_agrees(name):
    peer = pytest.importorskip("autograd", reason="HIPS autograd is the peer here")
    x = np.random.default_rng(0).standard_normal((3, 3))
    want = peer.grad(lambda x: peer.numpy.sum(getattr(peer.numpy.linalg, name)(x) ** 2))(x)
    np.testing.assert_allclose(ag.grad(lambda x: np.sum(getattr(np.linalg, name)(x) ** 2))(x), want, rtol=1e-8)
