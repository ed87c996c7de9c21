"""What a dropout layer draws depends on its place in the running model, not on what was called, listed, or printed before."""

from __future__ import annotations

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn
from allgrad.memory import flatten

X = np.ones((4, 64))


class Model(nn.Module):
    def __init__(self, drop: nn.Dropout) -> None:
        self.first = nn.ReLU()
        self.drop = drop

    def forward(self, x):
        return self.drop(self.first(x))


class Wrapped(nn.Module):
    def __init__(self, drop: nn.Dropout) -> None:
        self.inner = Model(drop)

    def forward(self, x):
        return self.inner(x)


def draw(model, **stream):
    with nn.random_stream(seed=7, **stream):
        return model(X).tolist()


@pytest.mark.parametrize(
    "before",
    [
        lambda drop: Wrapped(drop)(X),
        lambda drop: repr(Wrapped(drop)),
        lambda drop: list(Wrapped(drop).parameters()),
        lambda drop: drop(X),
        lambda drop: Wrapped(drop).state_dict(),
    ],
    ids=["called", "printed", "listed", "used alone", "saved"],
)
def test_what_happened_before_does_not_matter(before) -> None:
    drop = nn.Dropout(0.5)
    model = Model(drop)
    expected = draw(Model(nn.Dropout(0.5)))
    before(drop)
    assert draw(model) == expected
    before(drop)
    assert draw(model) == expected


def test_a_layer_of_two_models_has_a_path_in_each() -> None:
    drop = nn.Dropout(0.5)
    one, other = Model(drop), Wrapped(drop)
    first, second = draw(one), draw(other)
    assert first != second
    assert (draw(one), draw(other)) == (first, second)
    assert first == draw(Model(nn.Dropout(0.5)))
    assert second == draw(Wrapped(nn.Dropout(0.5)))


def test_two_models_in_one_stream_draw_different_numbers() -> None:
    one, other = nn.Dropout(0.5), nn.Dropout(0.5)
    with nn.random_stream(seed=7):
        assert one(X).tolist() != other(X).tolist()


def test_a_part_that_is_called_by_itself_has_its_place_in_the_model_of_the_stream() -> None:
    model = Wrapped(nn.Dropout(0.5))
    whole = draw(model)
    with nn.random_stream(seed=7, model=model):
        assert model.inner.drop(X).tolist() == whole
    with nn.random_stream(seed=7):
        assert model.inner.drop(X).tolist() != whole


def test_a_module_that_is_exchanged_gets_its_place_at_once() -> None:
    model = Model(nn.Dropout(0.5))
    expected = draw(model)
    model.drop = nn.Dropout(0.5)
    assert draw(model) == expected
    model.other, model.drop = model.drop, nn.Dropout(0.5)
    assert draw(model) == expected


def test_a_recomputed_part_draws_as_in_the_whole_model() -> None:
    class Recomputed(Model):
        def forward(self, x):
            return ag.checkpoint(self.drop)(self.first(x))

    gradients = []
    for kind in (Model, Recomputed):
        x = ag.tensor(X, requires_grad=True)
        with nn.random_stream(seed=7):
            y = kind(nn.Dropout(0.5))(x)
        np.sum(y).backward()
        assert y.tolist() == x.grad.tolist()
        gradients.append(x.grad.tolist())
    assert gradients[0] == gradients[1]


def test_names_of_parameters_do_not_depend_on_the_first_call() -> None:
    for called in (False, True):
        model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=0))
        if called:
            model(np.ones((1, 2), np.float32))
        flat = flatten([*model[0].parameters(), *model[1].parameters()])
        assert list(flat.leaves) == ["weight", "bias", "weight#2", "bias#3"]


def test_messages_name_the_place_in_the_running_model() -> None:
    layer = nn.Linear(2, 2, rng=0)
    model = nn.Sequential(nn.ReLU(), layer)
    with pytest.raises(ValueError, match=r"^Linear '1': expects"):
        model(np.ones((1, 3), np.float32))
    with pytest.raises(ValueError, match=r"^Linear: expects"):
        layer(np.ones((1, 3), np.float32))
