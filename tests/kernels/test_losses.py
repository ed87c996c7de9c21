"""Cross-entropy from logits."""

import numpy as np
import pytest


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (7, 10), (500, 65), (3, 30_000)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels(kernels, dtype, close, rng, rows, classes, smoothing):
    logits = rng.normal(0, 3, size=(rows, classes)).astype(dtype)
    labels = rng.integers(0, classes, size=rows)
    labels[rows // 2] = -100
    kept = labels != -100
    losses, probabilities = kernels.cross_entropy_forward(logits, labels, label_smoothing=smoothing)
    logp = log_softmax(logits.astype(float))
    target = np.full((rows, classes), smoothing / classes)
    target[kept, labels[kept]] += 1 - smoothing
    close(losses, np.where(kept, -(target * logp).sum(-1), 0))
    close(probabilities, np.exp(logp), 64)
    scale = rng.normal(size=rows).astype(dtype)
    for s in (0.25, scale):
        d = kernels.cross_entropy_backward(s, probabilities, labels, label_smoothing=smoothing)
        full = np.broadcast_to(s, (rows,)) * kept
        close(d, full[:, None] * (np.exp(logp) - target), 64)
    in_place = kernels.cross_entropy_forward(logits, labels, label_smoothing=smoothing, out=logits)[1]
    assert in_place is logits
    assert (in_place == probabilities).all()
    again = kernels.cross_entropy_backward(scale, in_place, labels, label_smoothing=smoothing, out=in_place)
    assert (again == d).all()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64, 100, 128, 129, 1000])
def test_a_scaled_sum_has_the_bits_of_numpy(kernels, dtype, rng, size):
    entries = (rng.normal(size=size) * 10.0 ** rng.uniform(-3, 3, size)).astype(dtype)
    for given in (entries, entries[::2], entries.reshape(1, -1)):
        found = kernels.scaled_sum(given, 0.1)
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype) == ((), dtype)
        assert found == np.add.reduce(given, axis=None) * dtype.type(0.1)


def test_equals_torch(kernels, dtype, close, rng):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    logits, labels = rng.normal(size=(40, 12)).astype(dtype), rng.integers(0, 12, size=40)
    labels[::5] = 3
    leaf = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(leaf, torch.tensor(labels), ignore_index=3, label_smoothing=0.2)
    loss.backward()
    losses, p = kernels.cross_entropy_forward(logits, labels, ignore_index=3, label_smoothing=0.2)
    count = int((labels != 3).sum())
    close(losses.sum(keepdims=True) / dtype.type(count), loss.detach().numpy()[None])
    d = kernels.cross_entropy_backward(1 / count, p, labels, ignore_index=3, label_smoothing=0.2)
    close(d, leaf.grad.numpy())


def test_soft_labels(kernels, dtype, close, rng):
    logits, targets = rng.normal(size=(30, 70)).astype(dtype), rng.random((30, 70)).astype(dtype)
    losses, p = kernels.soft_cross_entropy_forward(logits, targets)
    logp, t = log_softmax(logits.astype(float)), targets.astype(float)
    close(losses, -(t * logp).sum(-1), 64)
    scale = rng.normal(size=30).astype(dtype)
    d = kernels.soft_cross_entropy_backward(scale, p, targets)
    close(d, scale[:, None] * (np.exp(logp) * t.sum(-1, keepdims=True) - t), 128)


def test_all_rows_ignored(kernels, dtype):
    losses, p = kernels.cross_entropy_forward(np.zeros((3, 4), dtype), np.full(3, -1), ignore_index=-1)
    assert not losses.any()
    assert not kernels.cross_entropy_backward(1.0, p, np.full(3, -1), ignore_index=-1).any()
