"""The MLP against a PyTorch Sequential of the same names; determinism of ten steps."""

from __future__ import annotations

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

from allgrad import nn, optim

X = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_equals_torch(activation: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    t = torch.nn
    bend = {"relu": t.ReLU, "gelu": t.GELU, "tanh": t.Tanh}[activation]
    layers = t.Sequential(t.Linear(5, 7), bend(), t.Linear(7, 8), bend(), t.Linear(8, 3))
    theirs = t.ModuleDict({"layers": layers})
    check_against_torch(
        nn.models.MLP([5, 7, 8, 3], activation=activation), theirs, X, run_theirs=lambda m, x: m["layers"](x)
    )


def test_dropout_keeps_pytorchs_names() -> None:
    names = [name for name, _ in nn.models.MLP([5, 7, 3], dropout=0.1).named_parameters()]
    assert names == ["layers.0.weight", "layers.0.bias", "layers.3.weight", "layers.3.bias"]


def test_images_are_flattened() -> None:
    model = nn.models.MLP([12, 3])
    images = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    np.testing.assert_array_equal(model(images).value, model(images.reshape(2, 12)).value)


def test_second_order() -> None:
    model = nn.models.MLP([5, 4, 1], activation="tanh", dtype=np.float64)
    check_derivatives(model, [X.astype(np.float64)])


def ten_steps(offset: int, dropout: float = 0.2) -> list[bytes]:
    """Ten steps of training with every array `offset` elements into a bigger one."""

    def moved(a: np.ndarray) -> np.ndarray:
        memory = np.empty(a.size + offset, a.dtype)
        memory[offset:] = a.reshape(-1)
        return memory[offset:].reshape(a.shape)

    model = nn.models.MLP([5, 16, 16, 3], activation="gelu", dropout=dropout, rng=3)
    for p in model.parameters():
        p.bind(value=moved(p.value), grad=moved(np.zeros_like(p.value)))
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    x, labels = moved(X), np.arange(6) % 3
    ballast = [np.empty(1000 * i + offset) for i in range(5)]  # what comes later lands elsewhere too
    for step in range(10):
        model.zero_grad()
        with nn.random_stream(seed=0, step=step):
            loss(model(x), labels).backward()
        for p in model.parameters():
            p.assign(p.value - np.float32(0.1) * p.grad)
    del ballast
    return [p.value.tobytes() for p in model.parameters()]


def test_two_runs_give_the_same_bits_and_so_do_other_addresses() -> None:
    first = ten_steps(0)
    assert first == ten_steps(0)
    for offset in (1, 3, 7):
        assert first == ten_steps(offset)


def test_it_learns() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 2)).astype(np.float32)
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    model = nn.models.MLP([2, 32, 2], rng=0)
    adam = optim.Adam(model.named_parameters(), lr=0.01)
    loss = nn.CrossEntropyLoss()
    for _ in range(200):
        adam.zero_grad()
        loss(model(x), labels).backward()
        adam.step()
    assert np.mean(np.argmax(model(x).value, axis=1) == labels) > 0.97


def test_too_few_sizes() -> None:
    with pytest.raises(ValueError, match="sizes must be"):
        nn.models.MLP([5])
