"""Trap 11: an exception inside a traced function leaves the modes as they were."""

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.modes import CURRENT


def fails(x):
    raise KeyError("mine")


@pytest.mark.parametrize(
    "run",
    [
        lambda: ag.grad(fails)(1.0),
        lambda: ag.jvp(fails, (1.0,), (1.0,)),
        lambda: ag.vjp(fails, 1.0),
        lambda: ag.grad(lambda x: ag.derivative(fails)(x))(1.0),
        lambda: ag.checkpoint(fails)(ag.tensor(1.0, requires_grad=True)),
    ],
)
def test_modes_are_restored(run):
    before = CURRENT.get()
    with pytest.raises(KeyError, match="mine"):
        run()
    assert CURRENT.get() == before


def test_a_failing_context_is_left():
    before = CURRENT.get()
    with pytest.raises(KeyError), ag.no_grad(), ag.detect_anomaly():
        fails(1)
    assert CURRENT.get() == before


def test_a_failing_hook_leaves_a_usable_tape():
    x = ag.tensor([1.0], requires_grad=True)
    y = np.sin(x)
    remove = y.register_hook(fails)
    with pytest.raises(KeyError):
        np.sum(y).backward()
    remove()
    z = np.sum(np.sin(x))
    z.backward()
    assert np.allclose(x.grad, np.cos(1.0))
