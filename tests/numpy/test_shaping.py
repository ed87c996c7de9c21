"""The functions that move, repeat and pad entries, against numerical differentiation."""

from __future__ import annotations

import numpy as np
import pytest
from cases import check, drawn
from cases_shaping import CASES

import allgrad as ag


@pytest.mark.parametrize("case", CASES, ids=str)
@drawn
def test_rule(case, seed):
    check(case, seed)


@pytest.mark.parametrize("shift", [(1, 2), (1, -1), 3])
def test_roll_with_a_tuple_of_shifts(shift):
    """HIPS autograd 1.9.1 negates a tuple as if it were a number: TypeError."""
    x, axis = np.arange(12.0).reshape(3, 4), (0, 1)
    w = np.random.default_rng(0).standard_normal((3, 4))
    g = ag.grad(lambda x: np.sum(np.roll(x, shift, axis) * w))(x)
    np.testing.assert_array_equal(g, np.roll(w, tuple(-s for s in np.broadcast_to(shift, 2)), axis))


@pytest.mark.parametrize("axis", range(-3, 3))
@pytest.mark.parametrize("start", range(-3, 4))
def test_rollaxis_from_everywhere_to_everywhere(axis, start):
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(np.rollaxis(ag.tensor(x), axis, start).value, np.rollaxis(x, axis, start))


def test_pad_empty_leaves_the_inside_and_its_gradient():
    x = ag.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    y = np.pad(x, ((1, 0), (2, 3)), mode="empty")
    assert y.shape == (3, 8)
    np.testing.assert_array_equal(y.value[1:, 2:5], x.value)
    y.backward(np.ones((3, 8)))
    np.testing.assert_array_equal(x.grad, np.ones((2, 3)))


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
@pytest.mark.parametrize("kind", ["even", "odd"])
def test_reflections_longer_than_the_array(n, mode, kind):
    x = np.random.default_rng(n).standard_normal(n)
    for width in [(0, 0), (1, 7), (13, 2), (20, 20)]:
        got = np.pad(ag.tensor(x, requires_grad=True), width, mode, reflect_type=kind)
        np.testing.assert_allclose(got.value, np.pad(x, width, mode, reflect_type=kind), atol=1e-12)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "constant"])
def test_pad_agrees_with_torch(mode):
    torch = pytest.importorskip("torch", reason="torch is the peer here")
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((1, 5, 6)), rng.standard_normal((1, 10, 9))
    t = torch.tensor(x, requires_grad=True)
    (torch.nn.functional.pad(t[None], (1, 2, 3, 2), mode=mode)[0] * torch.tensor(w)).sum().backward()
    ours = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    g = ag.grad(lambda x: np.sum(np.pad(x, ((0, 0), (3, 2), (1, 2)), ours) * w))(x)
    np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: np.pad(t, 1, mode="mirror"), "'mirror'"),
        (lambda t: np.pad(t, 1, mode=lambda *a: None), "mode must be one of"),
        (lambda t: np.pad(t, 1, mode="edge", stat_length=3), "takes no .'stat_length'"),
        (lambda t: np.pad(t, -1), "must not be negative"),
        (lambda t: np.pad(t, 1, mode="reflect", reflect_type="queer"), "reflect_type"),
        (lambda t: np.pad(t, 1, mode="mean", stat_length=0), "at least 1"),
        (lambda t: np.reshape(t, 4, copy=True), "reshape.*copy="),
        (lambda t: np.squeeze(t, axis=0), "not of length 1"),
        (lambda t: np.moveaxis(t, (0, 1), 0), "cannot go"),
        (lambda t: np.moveaxis(t, (0, 0), (0, 1)), "twice"),
        (lambda t: np.expand_dims(t, 5), "out of bounds"),
        (lambda t: np.rot90(t, axes=(0, -2)), "must be different"),
        (lambda t: np.fliplr(t[0]), "at least 2 axes"),
        (lambda t: np.resize(t, -1), "at least 0"),
        (lambda t: np.ravel(np.swapaxes(np.stack([t, t]), 0, 1), order="K"), "contiguous in neither"),
        (lambda t: np.full_like(t, 1.0, order="F"), "full_like.*order="),
        (lambda t: np.broadcast_to(t, (2, 2), subok=True), "broadcast_to.*subok="),
    ],
)
def test_what_is_not_differentiated_is_refused_by_name(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(ag.tensor(np.ones((2, 2)), requires_grad=True))


def test_fortran_order_follows_the_array_in_memory():
    x = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    for order in "CFAK":
        t = ag.tensor(x, requires_grad=True)
        np.testing.assert_array_equal(np.ravel(t, order).value, np.ravel(t.value, order))
        np.testing.assert_array_equal(
            ag.grad(lambda x, o=order: np.sum(np.ravel(x, o) * np.arange(6.0)))(x).shape, (2, 3)
        )
