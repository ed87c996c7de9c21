"""Each `ag.Graph` left a hook on every leaf for good, so that a step became slower with every picture."""

import gc
import weakref

import numpy as np
import pytest

import allgrad as ag


def test_pictures_leave_nothing_on_the_leaves():
    w = ag.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(5):
        loss = np.sum(w * w)
        graph = ag.Graph(loss, w=w)
        loss.backward()
    assert w.node.hooks is None
    assert graph.vertices[0].gradient == pytest.approx(np.linalg.norm([2.0, 4.0]))
    gone = weakref.ref(graph)
    del graph
    gc.collect()
    assert gone() is None


def test_a_picture_sees_its_own_passes_only():
    w = ag.tensor([1.0, 2.0], requires_grad=True)
    first, second = np.sum(w * 3.0), np.sum(w * 5.0)
    graph = ag.Graph(first, w=w)
    second.backward()
    assert all(v.gradient is None for v in graph.vertices)
    first.backward()
    assert graph.vertices[0].gradient == pytest.approx(np.linalg.norm([3.0, 3.0]))
    assert w.grad.tolist() == [8.0, 8.0]


def test_gradients_and_events_are_the_same_with_a_picture():
    def run(picture):
        w, b = ag.tensor([1.0, 2.0], requires_grad=True), ag.tensor(0.5, requires_grad=True)
        w.register_hook(lambda g: g * 2.0)
        loss = np.sum(np.tanh(w * w + b) + w)
        graph = ag.Graph(loss) if picture else None
        events = []
        ag.FinalGradients([w, b], lambda leaf, used: events.append((leaf.grad.tolist(), used))).arm()
        loss.backward()
        return events, graph

    plain, _ = run(False)
    seen, graph = run(True)
    assert plain == seen
    assert graph.vertices[0].gradient == pytest.approx(np.linalg.norm(seen[0][0])) or graph.vertices[1].gradient


def test_constants_are_shown():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    text = ag.Graph(np.sum(x * np.array([3.0, 4.0]) * 2.0 + 1.0)).text()
    assert "multiply(%0, constant (2,))" in text
    assert "multiply(%1, 2)" in text
    assert "add(%2, constant)" in text  # addition keeps nothing, not even the number
