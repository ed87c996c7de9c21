"""Trap 5: no reference cycles, and backward frees the graph as it walks."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import allgrad as ag


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_the_graph_is_gone_with_its_last_tensor(no_gc):
    x = ag.tensor(np.ones(3), requires_grad=True)
    y = np.exp(np.sin(x) * x)
    node, inner = weakref.ref(y.node), weakref.ref(y.node.parents[0])
    loss = np.sum(y)
    del y, loss
    assert node() is None
    assert inner() is None


def test_backward_frees_the_nodes_that_it_has_passed(no_gc):
    x = ag.tensor(np.ones(3), requires_grad=True)
    y = np.exp(np.sin(x) * x)
    inner = weakref.ref(y.node.parents[0])
    loss = np.sum(y)
    del y
    loss.backward()
    assert inner() is None  # though `loss` is alive


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: ag.grad(f)(np.ones(50_000)),
        lambda f: ag.hvp(f, np.ones(50_000), np.ones(50_000)),
        lambda f: ag.grad(lambda x: np.sum(ag.grad(f)(x)))(np.ones(50_000)),
        lambda f: ag.grad(ag.checkpoint(f))(np.ones(50_000)),
    ],
)
def test_memory_after_a_derivative_equals_memory_before(transform):
    def f(x):
        return np.sum(np.exp(np.sin(x) * x))

    tracemalloc.start()
    for _ in range(10):  # the interpreter's own caches fill
        transform(f)
    gc.collect()
    gc.disable()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        transform(f)
    gc.enable()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 400_000  # less than one array: what grew are the interpreter's free lists


def test_a_chain_keeps_one_array_an_operation_and_addition_none():
    def kept(op):
        x = ag.tensor(np.ones(10_000), requires_grad=True)
        y = op(x)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            y = op(y)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return grown / 80_000

    assert kept(np.sin) < 10.5  # its argument
    assert kept(np.tanh) < 10.5  # its result
    assert kept(lambda y: y * 2.0) < 1.5  # nothing but the newest: the constant is a number
    assert kept(lambda y: y + 1.0) < 1.5
