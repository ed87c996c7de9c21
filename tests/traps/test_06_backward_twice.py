"""Trap 6: backward twice needs retain_graph, and says so."""

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import GraphFreedError


def test_the_second_backward_says_what_to_do():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    loss = np.sum(np.sin(x))
    loss.backward()
    with pytest.raises(GraphFreedError, match="retain_graph=True"):
        loss.backward()


def test_a_freed_part_below_a_new_operation_is_found_before_anything_is_added():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    shared = np.sin(x)
    np.sum(shared).backward()
    before = x.grad.copy()
    with pytest.raises(GraphFreedError):
        np.sum(x + shared).backward()
    assert np.array_equal(x.grad, before)


def test_with_retain_graph_gradients_add_up():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    loss = np.sum(np.sin(x))
    loss.backward(retain_graph=True)
    loss.backward()
    assert np.allclose(x.grad, 2 * np.cos([1.0, 2.0]))
