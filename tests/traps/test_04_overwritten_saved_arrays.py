"""Trap 4: an array that backward needs is overwritten after the forward pass: a right gradient, or an error with a name."""

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import SavedArrayError


@pytest.mark.parametrize("size", [4, 3_000, 100_000])
@pytest.mark.parametrize("write", ["one entry", "all", "shuffle", "two rows"])
def test_a_numpy_argument_overwritten_changes_no_gradient(size, write):
    constant = np.random.default_rng(0).standard_normal(size)
    original = constant.copy()
    x = ag.tensor(np.ones(size), requires_grad=True)
    y = np.sum(x * constant)
    if write == "one entry":
        constant[size // 2] += 1.0
    elif write == "all":
        constant[:] = 0.0
    elif write == "shuffle":
        constant[:] = constant[::-1].copy()
    else:
        rows = constant.reshape(-1, 2)
        rows[[0, 1]] = rows[[1, 0]]
    y.backward()
    assert np.array_equal(x.grad, original)


def test_a_write_through_the_base_or_another_view_changes_no_gradient():
    buffer = np.ones((2, 5))
    twin = buffer[0]
    x = ag.tensor(np.ones(5), requires_grad=True)
    y = np.sum(x * buffer[0])
    buffer[0, 3] = 8.0
    twin[1] = 7.0
    y.backward()
    assert np.array_equal(x.grad, np.ones(5))


def test_an_unused_write_does_no_harm():
    constant = np.ones(4)
    x = ag.tensor(np.ones(4), requires_grad=True)
    y = np.sum(x + constant)  # addition saves nothing
    constant[:] = 5.0
    y.backward()
    assert np.array_equal(x.grad, np.ones(4))


def test_a_parameter_assigned_between_forward_and_backward():
    w = ag.tensor([2.0], requires_grad=True)
    x = ag.tensor([3.0], requires_grad=True)
    y = np.sum(w * x)
    w.assign([5.0])
    with pytest.raises(SavedArrayError, match="multiply"):
        y.backward()


def test_a_view_of_a_parameter_is_guarded_too():
    w = ag.tensor([[2.0, 1.0], [0.0, 1.0]], requires_grad=True)
    y = np.sum(np.array([1.0, 1.0]) * np.sin(w.T))
    w.assign(np.zeros((2, 2)))
    with pytest.raises(SavedArrayError, match="sin"):
        y.backward()


def test_memory_written_by_an_optimizer_counts_after_touch():
    memory = np.zeros(1)
    w = ag.tensor([2.0], requires_grad=True)
    w.bind(value=memory)
    y = np.sum(w * w)
    memory -= 1.0
    w.touch()
    with pytest.raises(SavedArrayError):
        y.backward()


def test_the_update_after_backward_is_allowed():
    w = ag.tensor([2.0], requires_grad=True)
    for _ in range(3):
        w.zero_grad()
        np.sum(w * w).backward()
        w.assign(w.value - 0.1 * w.grad)
    assert np.allclose(w.value, 2.0 * 0.8**3)


def test_a_parameter_overwritten_inside_a_recomputed_region():
    w = ag.tensor([2.0], requires_grad=True)
    y = np.sum(ag.checkpoint(lambda x: np.sin(x * w))(ag.tensor([1.0], requires_grad=True)))
    w.assign([1.0])
    with pytest.raises(SavedArrayError, match="checkpoint"):
        y.backward()


def test_numpy_gives_a_read_only_view():
    x = ag.tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match="read-only"):
        (x * 2.0).numpy()[0] = 5.0
