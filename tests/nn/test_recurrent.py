"""Recurrent layers against PyTorch, their higher derivatives, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

import allgrad as ag
from allgrad import nn
from allgrad.nn.recurrence import gru, lstm, rnn

REASON = "PyTorch is what it is compared with"
KINDS = ("RNN", "LSTM", "GRU")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_torch(kind: str, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    theirs = getattr(torch.nn, kind)(4, 6, batch_first=True, **options)
    x = normal(3, 7, 4).astype(np.float32)
    check_against_torch(getattr(nn, kind)(4, 6, rng=0, **options), theirs, x, run=lambda m, x: m(x)[0])


def test_relu_equals_torch() -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    theirs = torch.nn.RNN(4, 6, batch_first=True, nonlinearity="relu")
    ours = nn.RNN(4, 6, nonlinearity="relu", rng=0)
    check_against_torch(ours, theirs, normal(3, 7, 4).astype(np.float32), run=lambda m, x: m(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_states_in_and_out_equal_torch(kind: str) -> None:
    """The loss looks at the last states alone, so all gradients run through them, and into the first ones."""
    torch = pytest.importorskip("torch", reason=REASON)
    options = {"num_layers": 2, "bidirectional": True}
    ours, theirs = getattr(nn, kind)(4, 6, rng=0, **options), getattr(torch.nn, kind)(4, 6, batch_first=True, **options)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    arrays = [normal(3, 5, 4), normal(4, 3, 6, seed=1), normal(4, 3, 6, seed=2)][: 3 if kind == "LSTM" else 2]
    arrays = [a.astype(np.float32) for a in arrays]
    mine = [ag.tensor(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]

    def last(model: Any, x: Any, *states: Any) -> list[Any]:
        state = model(x, states if kind == "LSTM" else states[0])[1]
        return list(state) if kind == "LSTM" else [state]

    a, b = last(ours, *mine), last(theirs, *other)
    for p, q in zip(a, b, strict=True):
        np.testing.assert_allclose(p.value, q.detach().numpy(), rtol=1e-5, atol=1e-6)
    sum(np.sum(p * p * p) for p in a).backward()
    sum((q**3).sum() for q in b).backward()
    for p, q in zip(mine, other, strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_two_halves_with_the_state_between_are_the_whole(kind: str) -> None:
    layer = getattr(nn, kind)(3, 5, num_layers=2, rng=0)
    x = normal(2, 8, 3).astype(np.float32)
    whole, _ = layer(x)
    left, state = layer(x[:, :3])
    right, _ = layer(x[:, 3:], state)
    np.testing.assert_allclose(np.concatenate([left.value, right.value], axis=1), whole.value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_higher_derivatives(kind: str, bias: bool) -> None:
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
    operation: Any = {"rnn": lambda *a: rnn(*a, relu=False), "lstm": lstm, "gru": gru}[kind]
    x, h, cell = normal(3, 2, 3), normal(2, 2, seed=1), normal(2, 2, seed=2)
    w, u = normal(3, 2 * gates, seed=3) / 2, normal(2, 2 * gates, seed=4) / 2
    b, c = normal(2 * gates, seed=5), normal(2 * gates, seed=6)
    if kind == "lstm":
        f = lambda x, h, cell, w, u, b, c: operation(x, h, cell, w, u, *((b, c) if bias else (None, None)))  # noqa: E731
        check_derivatives(f, [x, h, cell, w, u, b, c], step=1e-3, rtol=1e-5)
    else:
        f = lambda x, h, w, u, b, c: operation(x, h, None, w, u, *((b, c) if bias else (None, None)))  # noqa: E731
        check_derivatives(f, [x, h, w, u, b, c], step=1e-3, rtol=1e-5)


def test_dropout_between_layers_follows_the_stream() -> None:
    layer = nn.LSTM(3, 4, num_layers=2, dropout=0.5, rng=0)
    x = normal(2, 4, 3).astype(np.float32)

    def run(step: int) -> bytes:
        with nn.random_stream(seed=1, step=step):
            return bytes(layer(x)[0].value.tobytes())

    assert run(0) == run(0)
    assert run(0) != run(1)
    layer.eval()
    assert run(0) == run(1)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_gradients_go_into_bound_memory(kind: str) -> None:
    layer = getattr(nn, kind)(3, 4, rng=0)
    x = normal(2, 5, 3).astype(np.float32)
    y = layer(x)[0]
    np.sum(y * y).backward()
    unbound = {name: p.grad.copy() for name, p in layer.named_parameters()}
    layer.zero_grad()
    for p in layer.parameters():
        p.bind(grad=np.full(p.shape, np.nan, np.float32))
    y = layer(x)[0]
    np.sum(y * y).backward()
    for name, p in layer.named_parameters():
        assert p.grad.tobytes() == unbound[name].tobytes()


class Net(nn.Module):
    def __init__(self) -> None:
        self.rnn = nn.GRU(3, 4, rng=0)

    def forward(self, x: Any, h: Any = None) -> Any:
        return self.rnn(x, h)


@pytest.mark.parametrize(
    ("x", "h", "error", "words"),
    [
        ((2, 5, 4), None, ValueError, r"GRU 'rnn'.*\(batch, length, 3\).*\(2, 5, 4\)"),
        ((5, 3), None, ValueError, r"GRU 'rnn'.*\(batch, length, 3\).*\(5, 3\)"),
        ((2, 0, 3), None, ValueError, r"GRU 'rnn'.*at least one step.*\(2, 0, 3\)"),
        ((2, 5, 3), (2, 1, 4), ValueError, r"GRU 'rnn'.*\(1, 2, 4\).*\(2, 1, 4\)"),
    ],
)
def test_bad_shapes_name_layer_path_and_both_shapes(x: Any, h: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Net()(np.zeros(x, np.float32), None if h is None else np.zeros(h, np.float32))


def test_bad_options_and_dtype() -> None:
    with pytest.raises(TypeError, match=r"float32.*float64"):
        nn.LSTM(3, 4, rng=0)(np.zeros((2, 5, 3)))
    with pytest.raises(ValueError, match="nonlinearity"):
        nn.RNN(3, 4, nonlinearity="gelu", rng=0)
    with pytest.raises(ValueError, match="num_layers"):
        nn.LSTM(3, 4, num_layers=0, rng=0)
