"""Trap 1: a value used many times, and graphs that are deep or wide."""

import numpy as np

import allgrad as ag


def test_a_value_used_twice_gets_both_contributions():
    a = ag.tensor(3.0, requires_grad=True)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad == 4.0


def test_a_product_with_itself():
    a = ag.tensor([3.0, -2.0], requires_grad=True)
    np.sum(a * a).backward()
    assert np.array_equal(a.grad, [6.0, -4.0])


def test_a_chain_of_50_000_operations_neither_recurses_nor_slows_down():
    x = ag.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(50_000):
        y = y + 1.0
    y.backward()
    assert x.grad == 1.0
    del y  # freeing the graph must not recurse either


def test_a_deep_graph_that_was_never_walked_is_freed_without_recursion():
    y = ag.tensor(1.0, requires_grad=True)
    for _ in range(50_000):
        y = np.sin(y)
    del y


def test_a_diamond_of_60_levels_is_walked_once_a_node():
    x = ag.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(60):
        y = y + y  # 2**60 paths: the age of the universe, if each were walked
    y.backward()
    assert x.grad == 2.0**60


def test_a_million_parameters_in_a_hundred_arrays():
    parameters = [ag.tensor(np.full(10_000, float(i)), requires_grad=True) for i in range(100)]
    total = np.sum(parameters[0])
    for p in parameters[1:]:
        total = total + np.sum(p * 2.0)
    total.backward()
    assert np.array_equal(parameters[0].grad, np.ones(10_000))
    assert all(np.array_equal(p.grad, np.full(10_000, 2.0)) for p in parameters[1:])
