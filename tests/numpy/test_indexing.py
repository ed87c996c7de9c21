"""Picking entries and putting them back, against numerical differentiation and other packages."""

from __future__ import annotations

import numpy as np
import pytest
from cases import check, drawn
from cases_indexing import CASES

import allgrad as ag


@pytest.mark.parametrize("case", CASES, ids=str)
@drawn
def test_rule(case, seed):
    check(case, seed)


def test_item_assignment_reads_as_numpy_and_is_differentiated():
    def f(x, v):
        y = x * 2
        y[1:3] = v
        y[0] += v[0]
        return np.sum(y * y)

    x, v = np.arange(4.0), np.array([5.0, 6.0])
    gx, gv = ag.grad(f, argnums=(0, 1))(x, v)
    np.testing.assert_allclose(gx, [20.0, 0.0, 0.0, 24.0])
    np.testing.assert_allclose(gv, [20.0, 12.0])


def test_of_values_assigned_to_one_entry_only_the_last_counts():
    def f(x, v):
        y = x * 1.0
        y[[0, 0, 1]] = v
        return np.sum(y * y)

    gx, gv = ag.grad(f, argnums=(0, 1))(np.ones(3), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(gx, [0.0, 0.0, 2.0])
    np.testing.assert_array_equal(gv, [0.0, 4.0, 6.0])


def test_assignment_changes_views_and_not_copies():
    y = ag.tensor(np.arange(4.0), requires_grad=True) * 1
    view = y[1:3]
    copies = y[[1, 2]], y[y > 1]  # advanced keys give copies
    y[1] = 5.0
    np.testing.assert_array_equal(view.value, [5.0, 2.0])
    np.testing.assert_array_equal(copies[0].value, [1.0, 2.0])


def test_assigning_tracked_values_to_integers_raises():
    y = ag.tensor(np.arange(3))
    with pytest.raises(ag.autodiff.errors.LostGradientError, match="astype"):
        y[0] = ag.tensor(1.5, requires_grad=True)


def test_integer_tensors_are_indices():
    x, i = ag.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True), ag.tensor(np.array([0, 0, 2]))
    np.sum(x[i] * 2 + np.take(x, i, axis=0)).backward()
    np.testing.assert_array_equal(x.grad, [[6.0, 6.0], [0.0, 0.0], [3.0, 3.0]])
    np.testing.assert_array_equal(x[ag.tensor(np.array(1))].value, [2.0, 3.0])
    np.testing.assert_array_equal(x[i[0] : i[2]].value, x.value[0:2])


def test_float_tensors_are_not():
    x = ag.tensor(np.arange(3.0), requires_grad=True)
    with pytest.raises(IndexError, match="integers or booleans"):
        x[ag.tensor(np.array([0.0]))]


def test_an_index_array_that_is_written_to_later_changes_nothing():
    x, i = ag.tensor(np.arange(3.0), requires_grad=True), np.array([0, 0])
    y = np.sum(x[i])
    i[:] = 2
    y.backward()
    np.testing.assert_array_equal(x.grad, [2.0, 0.0, 0.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_the_gradient_of_a_table_is_written_into_the_memory_it_is_bound_to(dtype):
    table = ag.tensor(np.ones((4, 3), dtype), requires_grad=True)
    memory = np.full((4, 3), 7, dtype)
    table.bind(grad=memory)
    rows = table[np.array([[1, 1], [3, -1]])]
    rows.backward(np.ones(rows.shape))
    assert table.grad is memory
    np.testing.assert_array_equal(memory, np.array([0, 2, 0, 2])[:, None] * np.ones((4, 3)))


@pytest.mark.parametrize("call", [np.fill_diagonal, lambda t, v: np.put(t, [0], v), lambda t, v: np.copyto(t, v)])
def test_functions_that_write_in_place_say_what_to_write_instead(call):
    with pytest.raises(ag.autodiff.errors.AssignmentError, match=r"x\.copy\(\)"):
        call(ag.tensor(np.ones((2, 2)), requires_grad=True), 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t[5], "out of bounds"),
        (lambda t: t[[0, 7]], "out of bounds"),
        (lambda t: t[0, 0, 0], "too many indices"),
        (lambda t: np.take(t, 0, mode="loop"), "'loop'"),
        (lambda t: np.take(t, 0, out=np.empty(())), "take.*out="),
        (lambda t: np.take(t, 0, axis=4), "out of bounds"),
        (lambda t: np.take_along_axis(t, np.array([0]), 0), "as many axes"),
        (lambda t: np.diag(np.stack([t, t])), "one or two dimensions"),
        (lambda t: np.compress([True], t, out=np.empty(1)), "compress.*out="),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises((TypeError, ValueError, IndexError), match=message):
        call(ag.tensor(np.ones((2, 2)), requires_grad=True))


@pytest.mark.parametrize("k", [-2, 0, 1])
def test_diag_of_a_matrix_that_is_not_square(k):
    """HIPS autograd 1.9.1 gives a gradient of shape (2, 2), without a word."""
    x = np.random.default_rng(0).standard_normal((2, 4))
    g = ag.grad(lambda x: np.sum(np.diag(x, k) ** 2))(x)
    np.testing.assert_allclose(g, 2 * x * np.eye(2, 4, k))


@pytest.mark.parametrize(
    "key", [([0, 0, 2],), (slice(None), [1, 1]), ([0, 1], [1, 1]), (None, 1), (Ellipsis, [[0], [2]])]
)
def test_getitem_agrees_with_torch(key):
    torch = pytest.importorskip("torch", reason="torch is the peer here")
    x = np.random.default_rng(0).standard_normal((3, 4))
    t = torch.tensor(x, requires_grad=True)
    (t[key] ** 2).sum().backward()
    np.testing.assert_allclose(ag.grad(lambda x: np.sum(x[key] ** 2))(x), t.grad.numpy(), rtol=1e-12)
