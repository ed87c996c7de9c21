"""`nn.Sequential` fuses neighbours of its own kind only: a subclass or instance with another `forward` is called as it is."""

from __future__ import annotations

import numpy as np
import pytest

from allgrad import nn

X = np.full((1, 2), 100.0, np.float32)
IMAGE = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)


class ReLU6(nn.ReLU):
    def forward(self, x):
        return np.minimum(super().forward(x), 6.0)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class SmallestPool(nn.MaxPool2d):
    def forward(self, x):
        return -super().forward(-x)


class Shifted(nn.BatchNorm1d):
    def forward(self, x, residual=None):
        return super().forward(x, residual) - 5


def one_by_one(model, x):
    for module in model:
        x = module(x)
    return x


def linear(kind=nn.Linear):
    layer = kind(2, 2, bias=False, rng=0)
    layer.weight.assign(np.eye(2))
    return layer


def test_an_activation_that_is_subclassed_is_called() -> None:
    assert nn.Sequential(linear(), ReLU6())(X).tolist() == [[6.0, 6.0]]


def test_a_layer_that_is_subclassed_is_called() -> None:
    assert nn.Sequential(linear(Doubled), nn.ReLU())(X).tolist() == [[200.0, 200.0]]


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), nn.ReLU(), SmallestPool(2)),
        nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), ReLU6(), nn.MaxPool2d(2)),
    ],
)
def test_pooling_that_is_subclassed_is_called(model) -> None:
    np.testing.assert_array_equal(model(IMAGE).value, one_by_one(model, IMAGE).value)


def test_a_norm_that_is_subclassed_is_called() -> None:
    model = nn.Sequential(Shifted(2), nn.ReLU())
    x = np.array([[0.0, 1.0], [2.0, 5.0]], np.float32)
    assert model(x).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_an_instance_with_its_own_forward_is_called() -> None:
    relu, layer = nn.ReLU(), linear()
    relu.forward = lambda x: x * 0 + 7
    assert nn.Sequential(linear(), relu)(X).tolist() == [[7.0, 7.0]]
    layer.forward = lambda x: x * 0 - 1
    assert nn.Sequential(layer, nn.ReLU())(X).tolist() == [[0.0, 0.0]]


def test_a_class_whose_forward_was_replaced_is_called(monkeypatch) -> None:
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x * 0 + 3)
    assert nn.Sequential(linear(), nn.ReLU())(X).tolist() == [[3.0, 3.0]]


def test_neighbours_of_its_own_kind_are_still_fused() -> None:
    from allgrad.nn.fusion import fused_calls

    plain = [nn.Conv2d(1, 2, 3, rng=0), nn.ReLU(), nn.MaxPool2d(2), nn.FlatLinear((3, 3, 2), 4, rng=0), nn.Tanh()]
    assert len(list(fused_calls(plain))) == 2
    assert len(list(fused_calls([nn.Conv2d(1, 2, 3, rng=0), nn.GELU(), nn.MaxPool2d(2)]))) == 2  # GELU is not monotonic


def test_what_is_decided_once_is_decided_again_after_a_change(monkeypatch) -> None:
    model = nn.Sequential(linear(), nn.ReLU())
    assert model(-X).tolist() == [[0.0, 0.0]]
    model[1].activation = nn.LeakyReLU(0.5).activation
    assert model(-X).tolist() == [[-50.0, -50.0]]
    model[1].forward = lambda x: x * 0 + 7
    assert model(-X).tolist() == [[7.0, 7.0]]
    del model[1].forward
    assert model(-X).tolist() == [[-50.0, -50.0]]
    setattr(model, "1", ReLU6())
    assert model(X).tolist() == [[6.0, 6.0]]
    setattr(model, "1", nn.Tanh())
    assert model(X).tolist() == [[1.0, 1.0]]
    monkeypatch.setattr(nn.Tanh, "forward", lambda self, x: x * 0 + 3)
    assert model(X).tolist() == [[3.0, 3.0]]
