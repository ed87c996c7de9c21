"""Joining, splitting, differences, ranges and polynomials against numerical differentiation."""

from __future__ import annotations

import numpy as np
import pytest
from cases import check, drawn
from cases_joining import CASES

import allgrad as ag


@pytest.mark.parametrize("case", CASES, ids=str)
@drawn
def test_rule(case, seed):
    check(case, seed)


@pytest.mark.parametrize("join", [np.concatenate, np.stack, np.vstack, np.hstack, np.dstack, np.column_stack, np.block])
def test_lists_of_tensors_and_arrays_mixed(join):
    x, y = ag.tensor([[1.0, 2.0]], requires_grad=True), np.array([[3.0, 4.0]])
    z = join([x, y])
    np.testing.assert_array_equal(z.value, join([x.value, y]))
    z.backward(np.ones(z.shape))
    np.testing.assert_array_equal(x.grad, [[1.0, 1.0]])


def test_integer_arrays_join_as_constants():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    np.sum(np.concatenate([x, np.array([3, 4])])).backward()
    np.testing.assert_array_equal(x.grad, [1.0, 1.0])


def test_the_ends_of_a_range_are_exact():
    a, b = 1.0, 1e-20  # 1 + (1e-20 - 1) is 0
    y = np.linspace(ag.tensor(a), ag.tensor(b), 7).value
    assert y[0] == a
    assert y[-1] == b


def test_linspace_sums_over_the_axes_along_which_an_end_was_broadcast():
    """HIPS autograd 1.9.1 gives a gradient of shape (3,) for the single start, without a word."""
    g = ag.grad(lambda a: np.sum(np.linspace(a, np.array([1.0, 2.0, 3.0]), 5)))(0.5)
    assert np.shape(g) == ()
    np.testing.assert_allclose(g, 3 * np.sum(1 - np.linspace(0, 1, 5)))


def test_gradient_with_spacings_agrees_with_torch():
    torch = pytest.importorskip("torch", reason="torch is the peer here")
    rng = np.random.default_rng(0)
    x, at, w = rng.standard_normal(6), np.cumsum(rng.uniform(0.5, 1.5, 6)), rng.standard_normal(6)
    for order in (1, 2):
        t = torch.tensor(x, requires_grad=True)
        (torch.gradient(t, spacing=(torch.tensor(at),), edge_order=order)[0] * torch.tensor(w)).sum().backward()
        g = ag.grad(lambda x, o=order: np.sum(np.gradient(x, at, edge_order=o) * w))(x)
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: np.concatenate([t, t], out=np.empty(4)), "concatenate.*out="),
        (lambda t: np.concatenate([t, t], casting="unsafe"), "concatenate.*casting="),
        (lambda t: np.concatenate([t[0], t[1]]), "at least one axis"),
        (lambda t: np.stack([t, t[:1]]), "one shape"),
        (lambda t: np.diff(t, n=-1), "at least 0"),
        (lambda t: np.gradient(t, edge_order=3), "edge_order is 1 or 2"),
        (lambda t: np.gradient(t, edge_order=2), "at least 3 entries"),
        (lambda t: np.gradient(t, 1.0, 2.0), "spacing"),
        (lambda t: np.gradient(t, np.ones(3)), "3 coordinates for 2 entries"),
        (lambda t: np.meshgrid(t, t, indexing="yx"), "'xy' or 'ij'"),
        (lambda t: np.split(t, 3), "equal division"),
        (lambda t: np.vsplit(t, 2), "out of bounds"),
        (lambda t: np.linspace(t, 1.0, -1), "must not be negative"),
        (lambda t: np.linspace(t, 1.0, 3, dtype=int), "rounds them away"),
        (lambda t: np.geomspace(t, 0.0), "cannot include zero"),
        (lambda t: np.polyder(t, -1), "must not be negative"),
    ],
)
def test_what_is_not_differentiated_is_refused_by_name(call, message):
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        call(ag.tensor(np.ones(2), requires_grad=True))
