"""Activations and softmax against PyTorch, and their derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

import allgrad as ag
from allgrad import nn
from allgrad.nn.activations import ACTIVATIONS, activate

PAIRS = {
    "ReLU": (),
    "LeakyReLU": (0.2,),
    "ELU": (1.3,),
    "GELU": (),
    "SiLU": (),
    "Tanh": (),
    "Sigmoid": (),
    "Softplus": (),
}
WIDE = np.concatenate([np.linspace(-30, 30, 241), [0.0, -0.0, 88.0, -88.0, -100.0, 100.0]]).astype(np.float32)[None]


@pytest.mark.parametrize("name", PAIRS)
def test_equals_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    ours, theirs = getattr(nn, name)(*PAIRS[name]), getattr(torch.nn, name)(*PAIRS[name])
    check_against_torch(ours, theirs, WIDE, steps=0)


def test_gelu_tanh_equals_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    check_against_torch(nn.GELU("tanh"), torch.nn.GELU("tanh"), WIDE, steps=0)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_equals_torch(name: str, axis: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    x = (np.random.default_rng(0).standard_normal((4, 5, 6)) * 20).astype(np.float32)
    check_against_torch(getattr(nn, name)(axis), getattr(torch.nn, name)(axis), x, steps=0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4)) * 2
    check_derivatives(lambda x: activate(x, ACTIVATIONS[name]), [x])


@pytest.mark.parametrize("operation", [nn.softmax.softmax, nn.softmax.log_softmax])
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_derivatives(operation, axis: int) -> None:
    check_derivatives(lambda x: operation(x, axis), [np.random.default_rng(0).standard_normal((3, 4)) * 3])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reference_agrees_with_fused_everywhere(name: str, dtype: type) -> None:
    x = WIDE.astype(dtype)
    with np.errstate(over="raise", invalid="raise"):
        y = np.empty_like(x)
        ACTIVATIONS[name].forward(x, y, None)
        again = ACTIVATIONS[name].reference(x)
    assert y.dtype == again.dtype == dtype
    np.testing.assert_allclose(
        y, again, rtol=1e-5 if dtype is np.float32 else 1e-12, atol=1e-6 if dtype is np.float32 else 1e-14
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_backward_twice_and_input_untouched(name: str) -> None:
    array = WIDE[:, 100:140].copy()
    x = ag.tensor(array, requires_grad=True)
    y = np.sum(activate(x, ACTIVATIONS[name]))
    y.backward(retain_graph=True)
    first = x.grad
    x.zero_grad()
    y.backward()
    np.testing.assert_array_equal(first, x.grad)
    np.testing.assert_array_equal(x.value, array)


def test_relu_family_takes_the_left_derivative_at_zero_in_both_modes() -> None:
    for name, left in (("relu", 0.0), ("leaky_relu", 0.01), ("elu", 1.0)):
        f = lambda x, name=name: activate(x, ACTIVATIONS[name])  # noqa: E731
        assert ag.grad(f)(0.0) == left
        assert ag.jvp(f, (0.0,), (1.0,))[1] == left


def test_unknown_options() -> None:
    with pytest.raises(ValueError, match="'fast'"):
        nn.GELU("fast")
