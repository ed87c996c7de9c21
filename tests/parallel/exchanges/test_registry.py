"""Gradient exchanges: chosen by name, and written by users."""

from __future__ import annotations

import numpy as np
import pytest

from allgrad import nn, optim, parallel
from allgrad.comm import World
from allgrad.parallel.exchanges import exchanges, make_exchange
from allgrad.stateful import Stateful
from allgrad.train.config import resolve


@pytest.fixture(autouse=True)
def _only_what_a_test_registers(monkeypatch):
    monkeypatch.setattr(exchanges, "_entries", dict(exchanges._entries))


def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((8, 4), dtype=np.float32), rng.standard_normal((8, 2), dtype=np.float32)


def step(replica, number=0):
    loss = lambda part: nn.MSELoss()(replica.model(part[0]), part[1])  # noqa: E731
    return replica.step(loss, replica.split(batch()), number)


def gradients(reduction, workers=3):
    model = nn.Linear(4, 2, rng=0)
    step(parallel.DataParallel(model, World(), virtual_workers=workers, reduction=reduction))
    return [p.grad.copy() for p in model.parameters()]


def test_names_and_mappings_and_objects_choose_the_same() -> None:
    expected = gradients("exact")
    for reduction in ({"name": "exact"}, make_exchange("exact"), "mpi"):  # one rank: nothing is exchanged
        for ours, theirs in zip(gradients(reduction), expected, strict=True):
            assert ours.tobytes() == theirs.tobytes()
    assert [make_exchange(name).same_bits for name in ("exact", "mpi")] == [True, False]


def test_what_is_no_exchange_is_named() -> None:
    with pytest.raises(ValueError, match=r"one of \[.*'exact'.*'mpi'.*\].*Got \{'name': 'exakt'\}"):
        make_exchange({"name": "exakt"})
    with pytest.raises(TypeError, match="takes no arguments"):
        make_exchange({"name": "exact", "bits": 8})


class TopEntries(parallel.Exchange):
    """Each worker sends only its largest entries, and keeps the others for the next step."""

    same_bits = True
    per_worker = True

    def __init__(self, *, keep: int = 2) -> None:
        self.keep = keep
        self.error: dict[str, np.ndarray] = {}

    def post(self, gradients, *, step, ready) -> None:
        total = np.zeros_like(gradients.out)
        for level, worker, array in gradients.nodes:
            assert level == 0
            key = f"{gradients.bucket.index}/{worker}"
            whole = array + self.error.get(key, 0)
            sent = np.where(np.abs(whole) >= np.sort(np.abs(whole))[-min(self.keep, whole.size)], whole, 0)
            self.error[key] = whole - sent
            total += sent
        gradients.out[:] = total

    def state_dict(self):
        return {key: array.copy() for key, array in self.error.items()}

    def load_state_dict(self, state) -> None:
        self.error = dict(state)


def test_an_exchange_of_a_user_sees_each_worker_and_keeps_state() -> None:
    parallel.register_exchange("top_entries")(TopEntries)

    def trained(steps, state=None):
        model = nn.Linear(4, 2, rng=0)
        made = parallel.DataParallel(model, World(), virtual_workers=3, reduction={"name": "top_entries", "keep": 3})
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        if state is not None:
            model.load_state_dict(state[0])
            made.reducer.load_state_dict(state[1])
        for number in steps:
            step(made, number)
            optimizer.step()
        return model.state_dict(), made.reducer.state_dict()

    weights, state = trained(range(4))
    assert set(state["exchange"]) == {"0/0", "0/1", "0/2"}
    resumed = trained(range(2, 4), trained(range(2)))
    assert all(weights[name].tobytes() == resumed[0][name].tobytes() for name in weights)
    for all_of_it, ours in zip(gradients("exact"), gradients(TopEntries(keep=10_000)), strict=True):
        np.testing.assert_allclose(ours, all_of_it, rtol=1e-5, atol=1e-6)


def test_what_has_state_is_stateful() -> None:
    replica = parallel.DataParallel(nn.Linear(4, 2, rng=0), World())
    assert isinstance(replica.reducer, Stateful)
    assert isinstance(replica.exchange, Stateful)


CONFIG = """
model: {name: mlp, hidden: [4]}
data: {name: fashion_mnist}
loss: cross_entropy
optimizer: {name: adamw, lr: 0.01}
batch: {size: 32}
train: {steps: 2}
"""

PLUGIN = """
from allgrad.parallel import Exchange
from allgrad.train import register_exchange

@register_exchange("mine")
class Mine(Exchange):
    '''One of a user.

    Args:
        bits: of each number.
    '''

    same_bits = False

    def __init__(self, *, bits: int = 8):
        self.bits = bits

    def post(self, gradients, *, step, ready):
        pass
"""


def test_a_configuration_names_an_exchange_of_a_plugin(tmp_path) -> None:
    path, plugin = tmp_path / "run.yaml", tmp_path / "exchange_of_a_test.py"
    path.write_text(CONFIG)
    plugin.write_text(PLUGIN)
    for override in ("parallel.reduction=exact", "parallel.reduction.name=exact"):
        assert resolve(path, [override]).parallel == resolve(path).parallel
    config = resolve(path, ["parallel.reduction={name: mine, bits: 4}"], plugins=[str(plugin)])
    made = exchanges.build(config.parallel.reduction)
    assert (made.bits, made.same_bits) == (4, False)
