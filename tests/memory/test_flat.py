"""Leaves of the tape in flat memory."""

import gc

import numpy as np
import pytest

import allgrad as ag
from allgrad.memory import flatten


def leaf(value, dtype=np.float32):
    return ag.tensor(np.asarray(value, dtype), requires_grad=True)


def test_values_move_and_gradients_are_written_into_the_arena():
    w, b = leaf([[1, 2], [3, 4]]), leaf([5, 6])
    flat = flatten([("w", w), ("b", b)])
    assert w.tolist() == [[1, 2], [3, 4]]
    assert np.shares_memory(w.value, flat.params.flat[np.dtype("float32")])
    y = np.ones((3, 2), np.float32) @ w + b
    np.sum(y * y).backward()
    assert np.shares_memory(w.grad, flat.grads.flat[np.dtype("float32")])
    assert (flat.grads["b"] == b.grad).all()
    assert flat.grads["b"].any()


def test_a_gradient_that_is_there_moves_too():
    w = leaf([1, 2])
    np.sum(3 * w).backward()
    flat = flatten([w])
    assert flat.grads["parameter0"].tolist() == [3, 3]
    assert w.grad is flat.grads["parameter0"]


def test_second_call_finds_the_first_and_so_does_a_part():
    w, b = leaf([1]), leaf([2])
    flat = flatten([w, b])
    assert flatten([w, b]) is flat
    assert flatten([b]) is flat
    assert flat.name_of(b) == "parameter1"


def test_it_is_forgotten_with_its_last_holder():
    w = leaf([1, 2])
    flatten([w])
    gc.collect()
    assert flatten([("again", w)]).name_of(w) == "again"
    assert w.tolist() == [1, 2]


def test_no_reference_cycle():
    import weakref

    w = leaf([1])
    flat = flatten([w])
    watch = weakref.ref(flat)
    gc.disable()
    try:
        del flat
        assert watch() is None
    finally:
        gc.enable()


def test_tied_leaves_have_one_slot():
    w, b = leaf([1, 2, 3]), leaf([4])
    flat = flatten([("embedding", w), ("bias", b), ("head", w)], [0, 1, 0])
    assert [slot.name for slot in flat.layout.slots] == ["embedding", "bias"]
    assert flat.layout["bias"].group == 1


def test_empty_gradients_are_known():
    w, b = leaf([1.0]), leaf([2.0])
    flat = flatten([("w", w), ("b", b)])
    np.sum(w * 2).backward()
    assert flat.without_gradient() == {"b"}
    flat.zero_grad()
    assert flat.without_gradient() == {"w", "b"}


def test_touch_guards_saved_arrays():
    w = leaf([1.0, 2.0])
    flat = flatten([("w", w)])
    loss = np.sum(w * w)
    flat.params["w"][...] = 0
    flat.touch()
    with pytest.raises(ag.autodiff.errors.SavedArrayError):
        loss.backward()


def test_refusals():
    a, b = leaf([1]), leaf([2])
    with pytest.raises(ValueError, match="there are no parameters"):
        flatten([])
    with pytest.raises(TypeError, match=r"parameter 0 must be an nn.Parameter .* Got ndarray"):
        flatten([np.zeros(3)])
    with pytest.raises(TypeError, match="Got a Tensor that is not a leaf"):
        flatten([a * 2])
    with pytest.raises(ValueError, match="two parameters are named 'a'"):
        flatten([("a", a), ("a", b)])
    with pytest.raises(ValueError, match="one number per parameter"):
        flatten([a, b], [0])
    kept = flatten([a])
    with pytest.raises(ValueError, match="Flatten the whole model first"):
        flatten([a, b])
    other = flatten([b])
    with pytest.raises(ValueError, match="are in 2 flat memories"):
        flatten([a, b])
    assert kept is not other
