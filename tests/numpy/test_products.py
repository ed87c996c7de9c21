"""The products against numerical differentiation and other packages, and where the gradient of a weight is written."""

from __future__ import annotations

import numpy as np
import pytest
from cases import check, drawn
from cases_products import CASES

import allgrad as ag


@pytest.mark.parametrize("case", CASES, ids=str)
@drawn
def test_rule(case, seed):
    check(case, seed)


def _bound(rng, shape, dtype=np.float64):
    """A leaf whose gradient is written into an array full of sevens."""
    leaf = ag.tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)
    memory = np.full(shape, 7, dtype)
    leaf.bind(grad=memory)
    return leaf, memory


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (2, 1, 5, 3), (3,), (0, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_of_a_weight_is_written_into_the_memory_it_is_bound_to(shape, dtype):
    rng = np.random.default_rng(0)
    x, (w, memory) = rng.standard_normal(shape).astype(dtype), _bound(rng, (3, 4), dtype)
    np.sum(np.tanh(x @ w)).backward()
    assert w.grad is memory
    np.testing.assert_allclose(memory, ag.grad(lambda w: np.sum(np.tanh(x @ w)))(w.value), rtol=1e-5)


def test_the_gemm_itself_writes_into_bound_memory(monkeypatch):
    rng = np.random.default_rng(0)
    x, (w, memory) = rng.standard_normal((2, 5, 3)), _bound(rng, (3, 4))
    y = x @ w
    targets, matmul = [], np.matmul

    def watched(*args, out=None):
        targets.append(out)
        return matmul(*args, out=out)

    monkeypatch.setattr(np, "matmul", watched)
    y.backward(np.ones(y.shape))
    assert targets == [memory] or targets[0] is memory


def test_a_weight_used_twice_adds_the_second_contribution():
    rng = np.random.default_rng(0)
    x, (w, memory) = rng.standard_normal((5, 3)), _bound(rng, (3, 3))
    np.sum(np.tanh(x @ w) @ w).backward()
    np.testing.assert_allclose(memory, ag.grad(lambda w: np.sum(np.tanh(x @ w) @ w))(w.value))


def test_a_weight_on_both_sides_of_one_product():
    rng = np.random.default_rng(0)
    w, memory = _bound(rng, (3, 3))
    np.sum(w @ w).backward()
    ones = np.ones((3, 3))
    np.testing.assert_allclose(memory, ones @ w.value.T + w.value.T @ ones)


def test_a_gradient_of_another_dtype_is_cast_not_written():
    rng = np.random.default_rng(0)
    x, (w, memory) = rng.standard_normal((5, 3)), _bound(rng, (3, 4), np.float32)
    np.sum(x @ w).backward()
    np.testing.assert_allclose(memory, np.broadcast_to(x.sum(0)[:, None], (3, 4)).astype(np.float32), rtol=1e-6)


def test_a_stack_of_rows_times_a_matrix_is_one_product(monkeypatch):
    x = ag.tensor(np.ones((2, 3, 4, 5)), requires_grad=True)
    y = x @ np.ones((5, 6))
    ranks, matmul = [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b, **k: ranks.append(a.ndim) or matmul(a, b, **k))
    y.backward(np.ones((2, 3, 4, 6)))
    assert ranks == [2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: np.matmul(t, t, out=np.empty((2, 2))), "matmul.*out="),
        (lambda t: np.matmul(t, t, casting="unsafe"), "matmul.*casting="),
        (lambda t: np.dot(t, t, out=np.empty((2, 2))), "dot.*out="),
        (lambda t: np.einsum("ij->ji", t, order="F"), "einsum.*order="),
        (lambda t: np.einsum("i...->i", t), "ellipsis"),
        (lambda t: np.einsum("ijk->i", t), r"do not fit an operand of shape \(2, 2\)"),
        (lambda t: np.einsum("ij,jk->ik", t), "name 2 operands, but 1 were given"),
        (lambda t: np.tensordot(t, np.ones((3, 2))), "axes must agree"),
        (lambda t: np.cross(t, t), "length 3"),
        (lambda t: np.convolve(t, t), "one-dimensional"),
        (lambda t: np.convolve(t[0], t[0], mode="half"), "'half'"),
        (lambda t: np.vecdot(t, t, axes=[0, 0, 0]), "vecdot.*axes="),
    ],
)
def test_what_is_not_differentiated_is_refused_by_name(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(ag.tensor(np.ones((2, 2)), requires_grad=True))


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("m", [1, 2, 5, 6])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolve_and_correlate_have_numpys_values_at_all_lengths(n, m, mode):
    rng = np.random.default_rng(0)
    a, v = rng.standard_normal(n) + 1j * rng.standard_normal(n), rng.standard_normal(m) + 1j
    for f in (np.convolve, np.correlate):
        np.testing.assert_allclose(f(ag.tensor(a), v, mode).value, f(a, v, mode), atol=1e-12)


@pytest.mark.parametrize("form", ["bij,bjk->bik", "ij,jk,kl->il", "...ij,...jk", "ii->i", "bhqd,bhkd->bhqk"])
def test_einsum_agrees_with_torch(form):
    torch = pytest.importorskip("torch", reason="torch is the peer here")
    rng = np.random.default_rng(0)
    shapes = {"b": 2, "h": 2, "...": (2,)}
    terms = form.partition("->")[0].split(",")
    arrays = [
        rng.standard_normal(tuple(np.hstack([shapes.get(c, 3) for c in t.replace("...", "b")]).astype(int)))
        for t in terms
    ]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    explicit = form if "->" in form else form + "->...ik"
    (torch.einsum(explicit, *tensors) ** 2).sum().backward()
    ours = ag.grad(lambda *xs: np.sum(np.einsum(form, *xs) ** 2), argnums=tuple(range(len(arrays))))(*arrays)
    for got, want in zip(ours, tensors, strict=True):
        np.testing.assert_allclose(got, want.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_einsum_with_an_axis_of_size_1_under_a_larger_letter():
    """HIPS autograd 1.9.1 gives a gradient of shape (1,), without a word; the numerical derivative decides."""
    x, y = np.array([1.0, 2.0, 3.0]), np.array([2.0])
    gx, gy = ag.grad(lambda x, y: np.einsum("i,i->", x, y) ** 2, argnums=(0, 1))(x, y)
    np.testing.assert_allclose(gx, ag.numerical_grad(lambda x: np.einsum("i,i->", x, y) ** 2, x), rtol=1e-6)
    np.testing.assert_allclose(gy, ag.numerical_grad(lambda y: np.einsum("i,i->", x, y) ** 2, y), rtol=1e-6)


@pytest.mark.parametrize("name", ["matmul", "dot", "inner", "tensordot", "kron"])
def test_products_agree_with_hips_autograd(name):
    peer = pytest.importorskip("autograd", reason="HIPS autograd is the peer here")
    x, y = np.random.default_rng(0).standard_normal((2, 3, 3))
    ours = ag.grad(lambda x, y: np.sum(getattr(np, name)(x, y) ** 2), argnums=(0, 1))(x, y)
    theirs = peer.grad(lambda xy: peer.numpy.sum(getattr(peer.numpy, name)(*xy) ** 2))((x, y))
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10)
