"""Exponential moving average of weights."""

import numpy as np
import pytest

from allgrad import optim
from allgrad.memory import flatten
from allgrad.optim import EMA


@pytest.mark.parametrize("ramp", [True, False])
def test_follows_the_formula(leaves, rng, ramp):
    ours = leaves()
    average = EMA(flatten(list(ours.items())), 0.7, ramp=ramp)
    expected = {n: t.value.copy() for n, t in ours.items()}
    for update in range(6):
        decay = min(0.7, (1 + update) / (10 + update)) if ramp else 0.7
        for n, t in ours.items():
            t.assign(rng.normal(size=t.shape))
            expected[n] = decay * expected[n] + (1 - decay) * t.value
        average.update()
    for n in ours:
        np.testing.assert_allclose(average.average[n], expected[n], rtol=1e-12)


def test_swap_is_undone_even_after_an_error(leaves):
    ours = leaves(np.float32)
    average = EMA(flatten(list(ours.items())), 0.5)
    start, now = ours["w"].value.copy(), np.ones((7, 5), np.float32)
    ours["w"].assign(now)

    def evaluate():
        with average.swapped():
            assert (ours["w"].value == start).all()
            raise RuntimeError("evaluation failed")

    with pytest.raises(RuntimeError, match="evaluation failed"):
        evaluate()
    assert (ours["w"].value == now).all()
    assert (average.average["w"] == start).all()


def test_state(leaves):
    ours = leaves()
    average = EMA(flatten(list(ours.items())), 0.5)
    ours["w"].assign(np.zeros((7, 5)))
    average.update()
    state = average.state_dict()
    again = EMA(average.flat, 0.5)
    again.load_state_dict(state)
    assert again.updates == 1
    assert (again.average["w"] == average.average["w"]).all()
    with pytest.raises(optim.StateError, match=r"EMA.load_state_dict: missing w"):
        again.load_state_dict({"updates": 1, "average": {k: v for k, v in state["average"].items() if k != "w"}})
    with pytest.raises(optim.SettingError, match="decay must be a number at least 0 and at most 1"):
        EMA(average.flat, 1.5)
