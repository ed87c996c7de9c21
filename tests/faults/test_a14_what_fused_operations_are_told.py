"""Indices, labels and masks that the user overwrote before backward crashed the process, or gave a wrong gradient."""

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn
from allgrad.autodiff import Fused


def gradient(model, call, write):
    """The gradient of the first parameter, with `write` between forward and backward."""
    model.zero_grad()
    y = call()
    write()
    y.backward()
    return next(iter(model.parameters())).grad.copy()


@pytest.mark.parametrize("size", [2, 3_000])
@pytest.mark.parametrize("bad", [3, 10**10])
def test_indices_of_an_embedding(size, bad):
    e = nn.Embedding(1000, 4, rng=0)
    rows = np.arange(size) % 1000
    expected = gradient(e, lambda: np.sum(e(rows) ** 2), lambda: None)
    changed = rows.copy()
    got = gradient(e, lambda: np.sum(e(changed) ** 2), lambda: changed.fill(bad))
    np.testing.assert_array_equal(got, expected)


def test_labels_of_a_loss_and_inputs_of_a_layer():
    layer = nn.Linear(3, 5, rng=0)
    x = np.random.default_rng(0).standard_normal((400, 3)).astype(np.float32)
    labels = np.arange(400) % 5

    def loss(x, labels):
        return nn.CrossEntropyLoss()(layer(x), labels)

    expected = gradient(layer, lambda: loss(x, labels), lambda: None)
    x_too, labels_too = x.copy(), labels.copy()

    def write():
        x_too[:] = np.nan
        labels_too[:] = 10**9

    np.testing.assert_array_equal(gradient(layer, lambda: loss(x_too, labels_too), write), expected)


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: (a, [a])], ids=["an array", "nested"])
def test_any_static_array_of_a_fused_operation(wrap):
    def first(static):
        return static if isinstance(static, np.ndarray) else static[1][0]

    scaled = Fused(
        lambda x, *, factor: (x * first(factor), None),
        lambda g, residuals, *, needs, factor: (g * first(factor),),
        name="scaled",
        reference=lambda x, *, factor: x * first(factor),
    )
    factor = np.array([2.0, 3.0])
    x = ag.tensor([1.0, 1.0], requires_grad=True)
    y = np.sum(scaled(x, factor=wrap(factor)))
    factor[:] = 0.0
    y.backward()
    assert x.grad.tolist() == [2.0, 3.0]


def test_a_leaf_that_a_fused_operation_without_a_reference_used():
    scaled = Fused(
        lambda x, w: (x * w, (x, w)),
        lambda g, residuals, *, needs: (g * residuals[1], g * residuals[0]),
        name="scaled",
    )
    w = ag.tensor([2.0], requires_grad=True)
    y = np.sum(scaled(w * 1.0, w))
    w.assign([3.0])
    with pytest.raises(ag.autodiff.errors.SavedArrayError, match="scaled"):
        y.backward()
