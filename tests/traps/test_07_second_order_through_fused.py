"""Trap 7: second derivatives through fused operations are right, or a clear error."""

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn
from allgrad.autodiff.errors import NoRuleError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4))
LABELS = np.array([0, 2, 1])

FUSED = {
    "cross entropy": lambda x: nn.CrossEntropyLoss()(x, LABELS),
    "layer norm": lambda x: np.sum(np.sin(nn.LayerNorm(4, dtype=np.float64)(x))),
    "rms norm": lambda x: np.sum(np.sin(nn.RMSNorm(4, dtype=np.float64)(x))),
    "linear, gelu": lambda x: np.sum(np.sin(nn.Linear(4, 5, activation="gelu", rng=0, dtype=np.float64)(x))),
    "softmax": lambda x: np.sum(nn.Softmax()(x) ** 3),
    "attention": lambda x: np.sum(
        np.sin(nn.MultiheadAttention(4, 2, causal=True, rng=0, dtype=np.float64)(np.reshape(x, (1, 3, 4))))
    ),
    "convolution": lambda x: np.sum(
        np.sin(nn.Conv2d(1, 2, 3, padding=1, rng=0, dtype=np.float64)(np.reshape(x, (1, 3, 4, 1))))
    ),
}


@pytest.mark.parametrize("name", FUSED)
def test_both_modes_to_second_order(name):
    ag.check_grads(FUSED[name], X, order=2)


@pytest.mark.parametrize("name", FUSED)
def test_the_gradient_of_a_gradient_norm(name):
    """Reverse over reverse, the way a gradient penalty takes it."""
    f = FUSED[name]

    def penalty(x):
        return np.sum(ag.grad(f)(x) ** 2)

    with ag.no_grad():  # of the layers' own parameters nothing is wanted here
        got = ag.grad(penalty)(X)
    np.testing.assert_allclose(got, ag.numerical_grad(penalty, X), rtol=1e-4, atol=1e-6)


def test_without_a_second_form_it_says_so():
    lonely = ag.Fused(lambda x: (x * x, x), lambda g, x, *, needs: (2 * x * g,), name="lonely square")
    assert ag.grad(lambda x: lonely(x))(3.0) == 6.0
    with pytest.raises(NoRuleError, match="lonely square"):
        ag.grad(ag.grad(lambda x: lonely(x)))(3.0)
    with pytest.raises(NoRuleError, match="lonely square"):
        ag.jvp(lonely, (3.0,), (1.0,))
