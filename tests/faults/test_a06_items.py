"""`x.item()` and `x.tolist()` of a tracked Tensor lost the gradient inside a transform. After a loss they are a habit."""

import math

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import LostGradientError


def test_after_a_loss_item_is_fine_and_float_names_it():
    loss = np.sum(ag.tensor([1.0, 2.0], requires_grad=True) * 2.0)
    assert loss.item() == 6.0
    assert loss.tolist() == 6.0
    with pytest.raises(LostGradientError, match=r"item\(\)"):
        float(loss)
    loss.backward()


@pytest.mark.parametrize("leak", [lambda x: x.item(), lambda x: x.tolist(), float, math.sin, complex])
@pytest.mark.parametrize(
    "transform",
    [
        ag.grad,
        ag.value_and_grad,
        ag.jacobian,
        ag.derivative,
        lambda f: lambda x: ag.jvp(f, (x,), (1.0,)),
        lambda f: lambda x: ag.vjp(f, x),
    ],
)
def test_inside_a_transform_it_raises(transform, leak):
    with pytest.raises(LostGradientError):
        transform(lambda x: x * leak(x))(2.0)


def test_constants_may_be_read_anywhere():
    assert float(ag.grad(lambda x: x * ag.tensor(3.0).item() * x.detach().item())(2.0)) == 6.0
