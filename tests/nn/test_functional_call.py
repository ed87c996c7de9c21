import numpy as np
import pytest

import allgrad as ag
from allgrad import nn
from allgrad.nn.errors import InputError

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float64)


def model():
    return nn.Sequential(nn.Linear(3, 5, rng=0, dtype=np.float64), nn.Tanh(), nn.Linear(5, 2, rng=1, dtype=np.float64))


def test_gradients_are_those_of_the_tape_and_the_model_stays_as_it_is():
    m = model()
    values = {name: p.numpy().copy() for name, p in m.named_parameters()}

    def loss(values, x=X):
        return np.sum(nn.functional_call(m, values, x) ** 2)

    gradients = ag.grad(loss)(values)
    np.sum(m(X) ** 2).backward()
    for name, p in m.named_parameters():
        np.testing.assert_allclose(gradients[name], p.grad, rtol=1e-12)
        assert isinstance(p, nn.Parameter)
    ag.check_grads(loss, values, order=2)
    doubled = nn.functional_call(m, {"0.weight": 2.0 * values["0.weight"]}, X)
    assert not np.allclose(doubled.value, m(X).value)


def test_the_parameters_come_back_after_an_error():
    m = model()
    before = list(m.parameters())
    with pytest.raises(InputError):
        nn.functional_call(m, {"0.weight": np.zeros((3, 5))}, X[:, :2])
    assert all(a is b for a, b in zip(before, m.parameters(), strict=True))


def test_a_tied_parameter_is_replaced_everywhere():
    class Tied(nn.Module):
        def __init__(self):
            self.a = nn.Linear(3, 3, rng=0, dtype=np.float64)
            self.b = nn.Linear(3, 3, rng=1, dtype=np.float64)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    m = Tied()
    ag.check_grads(lambda w: nn.functional_call(m, {"a.weight": w}, X), np.eye(3) * 0.5)


def test_mistakes_are_named():
    m = model()
    with pytest.raises(InputError, match=r"Did you mean '0\.weight'"):
        nn.functional_call(m, {"0.weigth": X}, X)
    with pytest.raises(InputError, match=r"shape \(3, 5\)"):
        nn.functional_call(m, {"0.weight": np.zeros((5, 3))}, X)
    with pytest.raises(InputError, match="float64"):
        nn.functional_call(m, {"0.weight": np.zeros((3, 5), np.float32)}, X)
