"""Indices, labels, and padding masks given to fused operations: later changes by the caller do no harm, and an index out of
range is an IndexError that names the layer, before any kernel sees it."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
from allgrad import kernels, nn
from allgrad.errors import AllgradError


@pytest.fixture(params=["numpy", "numba"])
def any_kernels(request):
    kernels.use(request.param)
    yield
    kernels.use(None)


def test_indices_of_an_embedding_may_change_after_the_forward_pass(any_kernels) -> None:
    table = nn.Embedding(1000, 4, rng=0)
    indices = np.array([0, 1, 1])
    loss = np.sum(table(indices))
    indices[:] = 10**10
    loss.backward()
    assert table.weight.grad[:3].tolist() == [[1.0] * 4, [2.0] * 4, [0.0] * 4]


def test_labels_may_change_after_the_forward_pass(any_kernels) -> None:
    logits = ag.tensor(np.zeros((2, 3)), requires_grad=True)
    labels = np.array([0, 2])
    loss = nn.CrossEntropyLoss()(logits, labels)
    labels[:] = 10**10
    loss.backward()
    np.testing.assert_allclose(logits.grad, (1 / 3 - np.eye(3)[[0, 2]]) / 2)


def test_labels_of_the_negative_log_likelihood_may_change(any_kernels) -> None:
    logs = ag.tensor(np.zeros((2, 3)), requires_grad=True)
    labels = np.array([0, 2])
    loss = nn.NLLLoss()(logs, labels)
    labels[:] = 1
    loss.backward()
    assert logs.grad.tolist() == [[-0.5, 0, 0], [0, 0, -0.5]]


def test_a_padding_mask_may_change_after_the_forward_pass(any_kernels) -> None:
    layer = nn.MultiheadAttention(4, 2, rng=0, dtype=np.float64)
    values = np.random.default_rng(0).normal(size=(1, 40, 4))  # long enough that the scores are computed again
    gradients = []
    for change in (False, True):
        x, mask = ag.tensor(values, requires_grad=True), np.zeros((1, 40), bool)
        mask[0, -3:] = True
        loss = np.sum(layer(x, mask) ** 2)
        if change:
            mask[:] = True
        loss.backward()
        gradients.append(x.grad.tolist())
    assert gradients[0] == gradients[1]


@pytest.mark.parametrize("wrong", [-1, 10, 10**10, 2**62])
def test_an_index_out_of_range_is_named(any_kernels, wrong) -> None:
    model = nn.Sequential(nn.Embedding(10, 4, rng=0))
    with pytest.raises(
        IndexError, match=rf"Embedding '0': index {wrong} at position \(1, 0\) is out of range for 10 rows"
    ):
        model(np.array([[1], [wrong]]))


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.NLLLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)])
@pytest.mark.parametrize("wrong", [-1, 3, 10**10])
def test_a_label_out_of_range_is_named(any_kernels, loss, wrong) -> None:
    with pytest.raises(
        IndexError, match=rf"{type(loss).__name__}: label {wrong} at .* is out of range for 3 classes"
    ) as e:
        loss(np.zeros((2, 3)), np.array([0, wrong]))
    assert isinstance(e.value, AllgradError)


def test_ignored_labels_are_in_range() -> None:
    for loss in (nn.CrossEntropyLoss(), nn.NLLLoss()):
        assert loss(np.zeros((2, 3)), np.array([-100, -100])).item() == 0
