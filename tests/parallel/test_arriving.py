"""Parameters on their way: the first reader waits, whoever it is, and afterwards nothing is different."""

import copy

import numpy as np
import pytest

from allgrad import nn, optim
from allgrad.memory import flatten
from allgrad.parallel.arriving import let_arrive


class Delivery:
    """A collective that brings numbers when somebody waits for it."""

    def __init__(self, array, number):
        self.array, self.number, self.waits = array, number, 0

    def wait(self):
        self.waits += 1
        self.array[...] = self.number


@pytest.fixture
def model():
    made = nn.Sequential(nn.Linear(2, 3, rng=0), nn.Linear(3, 1, rng=1))
    made.flat = flatten(made.named_parameters())
    return made


def on_their_way(model):
    """Each layer's parameters are a bucket."""
    flat, found = model.flat, []
    for number, names in enumerate((["0.weight", "0.bias"], ["1.weight", "1.bias"])):
        found.append(Delivery(flat.params[names[0]], 7.0 + number))
    let_arrive(
        flat,
        [(names, each) for names, each in zip((["0.weight", "0.bias"], ["1.weight", "1.bias"]), found, strict=True)],
    )
    return found


def test_the_first_read_waits_for_its_bucket_only(model):
    first, second = on_their_way(model)
    layer = model[0]
    assert isinstance(layer.weight, nn.Parameter)
    assert (first.waits, second.waits) == (0, 0)
    assert (layer.weight.value == 7.0).all()
    assert (first.waits, second.waits) == (1, 0)
    assert type(layer.weight) is type(layer.bias) is nn.Parameter
    layer.bias.value  # noqa: B018 - it came with the weight
    assert (first.waits, second.waits) == (1, 0)


READERS = {
    "forward": lambda model: model(np.ones((4, 2), np.float32)),
    "state_dict": lambda model: model.state_dict(),
    "average": lambda model: optim.EMA(model.flat, 0.9).update(),
    "shape": lambda model: [p.shape for p in model.parameters()],
    "copy": lambda model: copy.deepcopy(list(model.parameters())),
    "assign": lambda model: [p.assign(np.zeros(p.shape, np.float32)) for p in model.parameters()],
}


@pytest.mark.parametrize("name", READERS)
def test_every_reader_waits(model, name):
    deliveries = on_their_way(model)
    READERS[name](model)
    assert all(each.waits for each in deliveries)
    assert all(type(p) is nn.Parameter for p in model.parameters())
    if name != "assign":
        assert (model[0].weight.value == 7.0).all()
        assert (model[1].weight.value == 8.0).all()
    else:
        assert not model[1].weight.value.any()
