"""Linear with fused activation."""

from __future__ import annotations

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

import allgrad as ag
from allgrad import nn
from allgrad.nn.activations import ACTIVATIONS
from allgrad.nn.linear import _backward, _forward, linear


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5), (0, 5)])
def test_equals_torch(bias: bool, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is what it is compared with")
    theirs = torch.nn.Linear(5, 4, bias=bias)
    steps = 10 if 0 not in shape else 0
    check_against_torch(nn.Linear(5, 4, bias=bias, rng=0), theirs, normal(*shape).astype(np.float32), steps=steps)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_derivatives(activation: str | None) -> None:
    # 0.3 keeps entries away from kinks.
    x, w, b = normal(3, 4), normal(4, 2, seed=1), normal(2, seed=2) + 0.3
    check_derivatives(lambda x, w, b: linear(x, w, b, activation=activation), [x, w, b])


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fused_is_linear_then_activation(activation: str | None, dtype: type) -> None:
    x = ag.tensor(normal(6, 4).astype(dtype), requires_grad=True)
    fused = nn.Linear(4, 3, activation=activation, rng=0, dtype=dtype)
    plain = nn.Linear(4, 3, rng=0, dtype=dtype)
    composed = nn.Sequential(plain) if activation is None else nn.Sequential(plain, nn.Activation(activation))
    outcomes = []
    for model, layer in ((fused, fused), (composed, plain)):
        y = model(x)
        np.sum(y * y).backward()
        outcomes.append([y.value, x.grad, layer.weight.grad, layer.bias.grad])
        x.zero_grad()
    for a, b in zip(*outcomes, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)


def test_weight_gradient_goes_into_bound_memory_and_is_added_to_later() -> None:
    layer = nn.Linear(4, 3, rng=0)
    memory = np.full((4, 3), np.nan, np.float32)
    layer.weight.bind(grad=memory)
    x = normal(5, 4).astype(np.float32)
    np.sum(layer(x)).backward()
    np.testing.assert_allclose(memory, np.repeat(x.sum(0)[:, None], 3, axis=1), rtol=1e-5)
    np.sum(layer(x)).backward()
    np.testing.assert_allclose(memory, np.repeat(2 * x.sum(0)[:, None], 3, axis=1), rtol=1e-5)


def test_gradients_are_computed_in_the_memory_that_is_offered() -> None:
    x, w, b = (a.astype(np.float32) for a in (normal(5, 4), normal(4, 3), normal(3)))
    for transposed in (False, True):
        weight = w.T.copy() if transposed else w
        y, residuals = _forward(x, weight, b, activation=None, transposed=transposed)
        into = [None, np.empty_like(weight), np.empty_like(b)]
        gradients = _backward(y, residuals, needs=(True, True, True), into=into, activation=None, transposed=transposed)
        assert gradients[1] is into[1]
        assert np.shares_memory(gradients[2], into[2])


@pytest.mark.parametrize("bound", [True, False])
def test_tied_weight_gets_gradients_from_both_uses(bound: bool) -> None:
    table = nn.Embedding(5, 4, rng=0, dtype=np.float64)
    head = nn.Linear(4, 5, bias=False, tied=table.weight, rng=0, dtype=np.float64)
    indices = np.array([1, 1, 3])
    if bound:
        table.weight.bind(grad=np.full((5, 4), np.nan))
    c = normal(3, 5)
    np.sum(head(table(indices)) * c).backward()
    w = table.weight.numpy()
    expected = c.T @ w[indices]
    np.add.at(expected, indices, c @ w)
    np.testing.assert_allclose(table.weight.grad, expected)
    check_derivatives(lambda w: w[indices] @ w.T, [w])


def test_input_that_needs_no_gradient_gets_none() -> None:
    layer = nn.Linear(4, 3, rng=0)
    frozen = ag.tensor(normal(2, 4).astype(np.float32))
    np.sum(layer(frozen)).backward()
    assert frozen.grad is None
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((3, 7), np.float32), ValueError, r"Linear '0': expects .* \(\.\.\., 4\).* Got shape \(3, 7\)"),
        (
            np.zeros((3, 4)),
            TypeError,
            r"Linear '0': its parameters are float32, but the input of shape \(3, 4\) is float64",
        ),
        (np.zeros((3, 4), int), TypeError, "int64"),
        (np.float32(1), ValueError, r"Got shape \(\)"),
        ([[1.0, 2.0, 3.0, 4.0]], TypeError, "Got list"),
    ],
)
def test_bad_input_names_layer_path_and_shapes(x, error, message) -> None:
    with pytest.raises(error, match=message):
        nn.Sequential(nn.Linear(4, 3, rng=0))(x)


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match="0 in"):
        nn.Linear(0, 3, rng=0)
    with pytest.raises(ValueError, match=r"\(5, 4\).*Got \(4, 5\)"):
        nn.Linear(4, 5, tied=nn.Parameter(np.zeros((4, 5))), rng=0)
    with pytest.raises(ValueError, match="activation 'rulu' is unknown"):
        nn.Linear(4, 5, activation="rulu", rng=0)


def test_repr() -> None:
    assert repr(nn.Linear(4, 5, activation="relu", rng=0)) == "Linear(4 -> 5, relu)  # 25 parameters"
