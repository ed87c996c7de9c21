"""Clipping, averaging, and optimizers take what users have at hand, or say what to pass."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn, optim


def with_gradients():
    model = nn.Linear(3, 2, rng=0)
    np.sum(model(np.full((4, 3), 9, np.float32)) ** 2).backward()
    return model


def test_gradients_are_clipped_whatever_names_the_parameters() -> None:
    expected = None
    for way in (
        lambda m: m.parameters(),
        lambda m: m,
        lambda m: list(m.named_parameters()),
        lambda m: optim.SGD(m, lr=0.1),
        lambda m: optim.SGD(m, lr=0.1).flat,
    ):
        model = with_gradients()
        norm = optim.clip_norm(way(model), 1.0)
        clipped = model.weight.grad.tolist()
        expected = expected or (norm, clipped)
        assert (norm, clipped) == expected
        optim.clip_value(way(model), 0.01)
        assert np.abs(model.weight.grad).max() <= np.float32(0.01)


def test_clipping_does_not_move_parameters_into_flat_memory() -> None:
    model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=0))
    np.sum(model(np.ones((1, 2), np.float32))).backward()
    optim.clip_norm(model[0].parameters(), 1.0)
    assert len(optim.AdamW(model).steps) == 4


@pytest.mark.parametrize("given", [3.0, None, [np.zeros(3)], "weights"])
def test_anything_else_is_refused_with_what_to_pass(given) -> None:
    for call in (optim.clip_norm, optim.clip_value):
        with pytest.raises(TypeError, match=r"takes a model, its parameters \(model.parameters\(\)\), an optimizer"):
            call(given, 1.0)


def test_an_average_and_an_optimizer_take_a_model() -> None:
    model = nn.Linear(3, 2, rng=0)
    average, optimizer = optim.EMA(model, decay=0.5), optim.AdamW(model)
    assert list(optimizer.steps) == list(average.flat.leaves) == ["weight", "bias"]


def test_one_optimizer_for_two_models() -> None:
    one, other = nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1)
    optimizer = optim.SGD([*one.parameters(), *other.parameters()], lr=1.0)
    before = other.weight.value.copy()
    np.sum(other(one(np.ones((1, 2), np.float32)))).backward()
    optimizer.step()
    assert (other.weight.value != before).any()
    assert optimizer.state_dict()["groups"][0]["names"] == ["weight", "bias", "weight#2", "bias#3"]


def test_pairs_of_the_same_name_are_refused() -> None:
    one, other = (ag.tensor([1.0], requires_grad=True) for _ in range(2))
    with pytest.raises(ValueError, match="two parameters are named 'w'; give each pair another name"):
        optim.SGD([("w", one), ("w", other)], lr=1.0)
