"""Trap 18, and the hook contract as a whole: one final event a leaf, after its last contribution."""

import numpy as np
import pytest

import allgrad as ag


class Events:
    """Arms the leaves and notes, at each event, the leaf's name and the gradient that it had."""

    def __init__(self, **leaves):
        self.seen = []
        names = {id(t): n for n, t in leaves.items()}

        def note(leaf, used):
            self.seen.append((names[id(leaf)], used, None if leaf.grad is None else leaf.grad.copy()))

        self.watch = ag.FinalGradients(leaves.values(), note)
        self.watch.arm()

    @property
    def names(self):
        return [name for name, _, _ in self.seen]

    def check(self, leaf, name):
        """Its one event came when its gradient was what it is at the end."""
        ((_, used, gradient),) = [e for e in self.seen if e[0] == name]
        assert used
        assert np.array_equal(gradient, leaf.grad)


@pytest.fixture
def w():
    return ag.tensor([0.5, -1.0], requires_grad=True)


def test_tied_uses(w):
    events = Events(w=w)
    x = np.sin(w) * 2.0
    np.sum(np.cos(x * w) + w).backward()
    events.check(w, "w")


def test_two_branches_of_different_depth(w):
    v = ag.tensor([1.0, 1.0], requires_grad=True)
    events = Events(w=w, v=v)
    deep = w
    for _ in range(20):
        deep = np.sin(deep)
    np.sum(deep * v + w).backward()
    events.check(w, "w")
    events.check(v, "v")
    assert events.names == ["v", "w"]  # in the order in which they became final


def test_a_recomputed_region_that_captures_the_parameter(w):
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    block = ag.checkpoint(lambda x: np.tanh(x * w) * w)
    events = Events(w=w, x=x)
    y = block(block(x * w)) + w
    np.sum(y).backward()
    events.check(w, "w")
    events.check(x, "x")

    w2, x2 = ag.tensor(w.value, requires_grad=True), ag.tensor(x.value, requires_grad=True)
    plain = lambda x: np.tanh(x * w2) * w2  # noqa: E731
    np.sum(plain(plain(x2 * w2)) + w2).backward()
    assert np.allclose(w.grad, w2.grad)
    assert np.allclose(x.grad, x2.grad)


def test_nested_recomputation_with_several_results(w):
    inner = ag.checkpoint(lambda x: (np.sin(x * w), x + w))
    outer = ag.checkpoint(lambda x: inner(inner(x)[0])[1] * w)
    events = Events(w=w)
    np.sum(outer(np.array([0.3, 0.4]))).backward()
    events.check(w, "w")


def test_an_unused_leaf_has_its_event_at_the_end_in_the_given_order(w):
    a, b = ag.tensor([1.0], requires_grad=True), ag.tensor([1.0], requires_grad=True)
    events = Events(b=b, w=w, a=a)
    np.sum(w * 2.0).backward()
    assert events.names == ["w", "b", "a"]
    assert [used for _, used, _ in events.seen] == [True, False, False]


def test_a_leaf_reached_only_through_a_zero_contribution_still_has_its_event(w):
    v = ag.tensor([1.0, 1.0], requires_grad=True)
    events = Events(w=w, v=v)

    @ag.custom_vjp(x=lambda g: None)
    def stop(x):
        return x * 1.0

    np.sum(stop(w * 2.0) + v).backward()
    assert sorted(events.names) == ["v", "w"]


def test_the_second_backward_fires_nothing_unless_armed_again(w):
    events = Events(w=w)
    np.sum(w * 2.0).backward()
    np.sum(w * 3.0).backward()
    assert events.names == ["w"]
    events.watch.arm()
    np.sum(w * 3.0).backward()
    assert events.names == ["w", "w"]


def test_inner_walks_fire_nothing_and_touch_no_grad(w):
    events = Events(w=w)
    x = np.array([0.1, 0.2])
    residual = ag.derivative(ag.derivative(lambda x: np.sin(w * x)))(x)
    slope = ag.grad(lambda x: np.sum(np.sin(w * x)))(x)
    assert events.seen == []
    assert w.grad is None
    np.sum(residual * residual + slope * slope).backward()
    events.check(w, "w")

    def loss(w):
        return np.sum((-w * w * np.sin(w * x)) ** 2 + (w * np.cos(w * x)) ** 2)

    assert np.allclose(w.grad, ag.numerical_grad(loss, w.value))


def test_bound_gradients_are_written_where_they_belong(w):
    memory = np.full(2, 99.0)
    w.bind(grad=memory)
    events = Events(w=w)
    np.sum(w * w).backward()
    assert w.grad is memory
    assert np.array_equal(memory, 2 * w.value)
    events.check(w, "w")
    np.sum(w * w).backward()  # adds
    assert np.array_equal(memory, 4 * w.value)
    w.zero_grad()
    np.sum(w * 3.0).backward()  # writes anew
    assert np.array_equal(memory, [3.0, 3.0])


def test_a_matrix_product_writes_straight_into_the_bound_memory():
    w = ag.tensor(np.ones((3, 2)), requires_grad=True)
    memory = np.empty((3, 2))
    w.bind(grad=memory)
    x = np.random.default_rng(0).standard_normal((5, 3))
    np.sum(x @ w).backward()
    assert w.grad is memory
    assert np.allclose(memory, x.T @ np.ones((5, 2)))


def test_hooks_on_a_leaf_see_the_sum_once(w):
    seen = []
    w.register_hook(lambda g: seen.append(np.array(g)))
    events = Events(w=w)
    np.sum(w * 2.0 + w * 3.0).backward()
    assert np.array_equal(seen, [[5.0, 5.0]])
    events.check(w, "w")


def test_disarmed_and_several_watchers(w):
    first, second = Events(w=w), Events(w=w)
    first.watch.disarm()
    np.sum(w).backward()
    assert first.names == []
    assert second.names == ["w"]
