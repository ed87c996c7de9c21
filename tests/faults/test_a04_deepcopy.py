"""copy.deepcopy of a tracked Tensor lost its tangent. A copy depends on what it was copied from."""

import copy

import numpy as np

import allgrad as ag


def test_a_deep_copy_is_differentiated_in_both_modes():
    def f(x):
        state = copy.deepcopy({"x": x * x, "others": [x, 1.0]})
        return np.sum(np.sin(state["x"]) * copy.copy(state["others"][0]))

    ag.check_grads(f, np.array([0.3, 0.7]))


def test_a_deep_copy_of_a_leaf_is_a_new_leaf():
    x = ag.tensor([1.0], requires_grad=True)
    twin = copy.deepcopy(x)
    np.sum(twin * twin).backward()
    assert (x.grad, twin.grad.tolist()) == (None, [2.0])


def test_writing_to_a_deep_copy_leaves_the_original():
    x = ag.tensor([1.0, 2.0], requires_grad=True) * 1.0
    twin = copy.deepcopy(x)
    twin[0] = 9.0
    assert x.tolist() == [1.0, 2.0]
