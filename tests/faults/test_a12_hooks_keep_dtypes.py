"""A hook that returned float64 left a float32 leaf with a float64 gradient."""

import numpy as np
import pytest

import allgrad as ag


@pytest.mark.parametrize(
    "hook", [lambda g: g.astype(np.float64) * 2, lambda g: [2.0 * float(x) for x in g], lambda g: g * np.float64(2)]
)
@pytest.mark.parametrize("on_the_leaf", [True, False])
def test_the_gradient_has_the_leafs_dtype(hook, on_the_leaf):
    x = ag.tensor(np.ones(2, np.float32), requires_grad=True)
    y = x * 1.0
    (x if on_the_leaf else y).register_hook(hook)
    np.sum(y).backward()
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [2.0, 2.0]
