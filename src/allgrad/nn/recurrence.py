"""RNN, LSTM, and GRU over a whole sequence: one operation on the tape, with a hand-written backward through time.

All arrays are time-major inside: x (T, N, in), weights W (in, gates H) and U (H, gates H), gates in PyTorch's order (LSTM: i, f,
g, o; GRU: r, z, n). The products with W, and all gradients of weights, are one matrix product over all steps. What depends on the
step before, the product with U and the gates, is a kernel for an LSTM and a GRU (`Kernels.lstm_forward`, `gru_forward`). The
recurrences, with a_t = x_t W + b and s the sigmoid:

    RNN     h' = act(a + h U + c)
    LSTM    i, f, o = s(...), g = tanh(...) of a + h U + c;   C' = f C + i g;   h' = o tanh(C')
    GRU     r, z = s(a + h U + c);   n = tanh(a_n + r (h U + c)_n);   h' = (1 - z) n + z h

An operation's result is h_1 ... h_T, shape (T, N, H); an LSTM's has one row more, C_T. The sigmoid is (1 + tanh(x / 2)) / 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.autodiff import Fused
from allgrad.kernels import active, bf16
from allgrad.nn.activations import sigmoid_reference
from allgrad.nn.gradients import by_worker, gradient_for
from allgrad.nn.primitives import matmul, tanh

if TYPE_CHECKING:
    from allgrad.nn.parameter import Array


def _projected(x: Array, w: Array, bias: Array | None) -> tuple[Array, Array]:
    """The rows of x, and x W + bias for all steps: (length, samples, columns)."""
    steps, samples, inner = x.shape
    rows = np.ascontiguousarray(x).reshape(-1, inner)
    return rows, active().matmul(rows, w, bias=bias).reshape(steps, samples, -1)


def _added(*biases: Array | None) -> Array | None:
    given = [bias for bias in biases if bias is not None]
    return sum(given[1:], given[0]) if given else None


def _rounds(x: Array) -> bool:
    """Whether operands of products are rounded to bfloat16 here."""
    return bf16.enabled() and x.dtype == np.float32


def _states(x: Array, h: Array | None, hidden: int, rows_behind: int = 0) -> Array:
    """Memory for h_0, h_1, ..., h_T, and `rows_behind` more rows."""
    states = np.empty((x.shape[0] + 1 + rows_behind, x.shape[1], hidden), x.dtype)
    states[0] = 0 if h is None else h
    return states


class _Inputs(NamedTuple):
    """What each backward pass needs: the rows of x, h_0 ... h_T, W, U, and the biases."""

    shape: tuple[int, ...]
    rows: Array
    states: Array
    w: Array
    u: Array
    b: Array | None
    c: Array | None


def _products(dz: Array, dzu: Array, inputs: _Inputs, needs: Any, into: Any) -> tuple[Any, ...]:
    """Cotangents of x, W, U, and both biases, from those of a (dz) and of h U + c (dzu), both (length, batch, gates * hidden)."""
    dx = None
    if needs[0]:
        dx = active().matmul(dz.reshape(-1, dz.shape[2]), inputs.w.T).reshape(inputs.shape)
    weights = (inputs.w, inputs.u, inputs.b, inputs.c)
    gradients = [gradient_for(p, into[i]) if needs[i] else None for i, p in enumerate(weights, 3)]
    before, x = inputs.states[: len(dz)], inputs.rows.reshape(inputs.shape)
    for samples, (dw, du, db, dc) in by_worker(dz.shape[1], *gradients):
        flat, flat_u = _rows_of(dz, samples), _rows_of(dzu, samples)
        if dw is not None:
            active().matmul(_rows_of(x, samples).T, flat, out=dw)
        if du is not None:
            active().matmul(_rows_of(before, samples).T, flat_u, out=du)
        if db is not None:
            active().bias_gradient(flat, out=db)
        if dc is not None and db is not None and dzu is dz:
            dc[...] = db
        elif dc is not None:
            active().bias_gradient(flat_u, out=dc)
    return dx, *gradients


def _rows_of(x: Array, samples: slice) -> Array:
    """(length, batch, n) for some samples, as rows (length * samples, n)."""
    return x[:, samples].reshape(-1, x.shape[2])


# RNN.


def _rnn_forward(
    x: Array, h: Array | None, _cell: None, w: Array, u: Array, b: Array | None, c: Array | None, *, relu: bool
) -> tuple[Array, Any]:
    rows, z = _projected(x, w, _added(b, c))
    states = _states(x, h, len(u))
    for t, z_t in enumerate(z):
        y = active().matmul(states[t], u, out=states[t + 1])
        np.add(y, z_t, out=y)
        if relu:
            np.maximum(y, 0, out=y)
        else:
            active().tanh(y, out=y)
    return states[1:], _Inputs(x.shape, rows, states, w, u, b, c)


def _rnn_backward(g: Array, inputs: _Inputs, *, needs: Any, into: Any, relu: bool) -> tuple[Any, ...]:
    dz = np.empty(g.shape, g.dtype)
    back = np.zeros(g.shape[1:], g.dtype)
    turned = np.ascontiguousarray(inputs.u.T)
    for t in range(len(g) - 1, -1, -1):
        d, y = dz[t], inputs.states[t + 1]
        np.add(g[t], back, out=back)
        if relu:
            np.multiply(back, y > 0, out=d)
        else:
            np.multiply(y, y, out=d)
            np.subtract(1, d, out=d)
            np.multiply(d, back, out=d)
        active().matmul(d, turned, out=back)
    dx, *rest = _products(dz, dz, inputs, needs, into)
    return dx, back, None, *rest


def _rnn_reference(x: Any, h: Any, _cell: None, w: Any, u: Any, b: Any, c: Any, *, relu: bool) -> Any:
    h = np.zeros((x.shape[1], u.shape[0]), x.dtype) if h is None else h
    out = []
    for x_t in x:
        a = _plus(matmul(x_t, w), b) + _plus(matmul(h, u), c)
        h = np.where(a > 0, a, np.zeros((), a.dtype)) if relu else tanh(a)
        out.append(h)
    return np.stack(out)


def _plus(a: Any, bias: Any) -> Any:
    return a if bias is None else a + bias


# LSTM.


def _lstm_forward(
    x: Array, h: Array | None, cell: Array | None, w: Array, u: Array, b: Array | None, c: Array | None
) -> tuple[Array, Any]:
    n = len(u)
    rows, z = _projected(x, w, _added(b, c))
    states, cells = _states(x, h, n, 1), _states(x, cell, n)
    active().lstm_forward(z, u, states, cells, rounds=_rounds(u))
    states[-1] = cells[-1]
    return states[1:], (_Inputs(x.shape, rows, states, w, u, b, c), z, cells)


def _lstm_backward(g: Array, residuals: Any, *, needs: Any, into: Any) -> tuple[Any, ...]:
    inputs, z, cells = residuals
    dz, dcell = np.empty_like(z), np.array(g[-1])
    back = active().lstm_backward(np.ascontiguousarray(g), z, inputs.u, cells, dz, dcell, rounds=_rounds(g))
    dx, *rest = _products(dz, dz, inputs, needs, into)
    return dx, back, dcell, *rest


def _lstm_reference(x: Any, h: Any, cell: Any, w: Any, u: Any, b: Any, c: Any) -> Any:
    n = u.shape[0]
    start = np.zeros((x.shape[1], n), x.dtype)
    h, cell = start if h is None else h, start if cell is None else cell
    out = []
    for x_t in x:
        a = _plus(matmul(x_t, w), b) + _plus(matmul(h, u), c)
        i, f, o = (sigmoid_reference(a[:, k * n : (k + 1) * n]) for k in (0, 1, 3))
        cell = f * cell + i * tanh(a[:, 2 * n : 3 * n])
        h = o * tanh(cell)
        out.append(h)
    return np.stack([*out, cell])


# GRU.


def _gru_forward(
    x: Array, h: Array | None, _cell: None, w: Array, u: Array, b: Array | None, c: Array | None
) -> tuple[Array, Any]:
    n = len(u)
    # Only the candidate's part of c is scaled by r; the others may be added to b.
    early = None if c is None else np.concatenate([c[: 2 * n], np.zeros(n, c.dtype)])
    rows, z = _projected(x, w, _added(b, early))
    states, candidates = _states(x, h, n), np.empty((*x.shape[:2], n), x.dtype)
    active().gru_forward(z, u, None if c is None else c[2 * n :], states, candidates, rounds=_rounds(u))
    return states[1:], (_Inputs(x.shape, rows, states, w, u, b, c), z, candidates)


def _gru_backward(g: Array, residuals: Any, *, needs: Any, into: Any) -> tuple[Any, ...]:
    inputs, z, candidates = residuals
    dz, dzu = np.empty_like(z), np.empty_like(z)
    back = active().gru_backward(
        np.ascontiguousarray(g), z, inputs.u, candidates, inputs.states, dz, dzu, rounds=_rounds(g)
    )
    dx, *rest = _products(dz, dzu, inputs, needs, into)
    return dx, back, None, *rest


def _gru_reference(x: Any, h: Any, _cell: None, w: Any, u: Any, b: Any, c: Any) -> Any:
    n = u.shape[0]
    h = np.zeros((x.shape[1], n), x.dtype) if h is None else h
    out = []
    for x_t in x:
        a, p = _plus(matmul(x_t, w), b), _plus(matmul(h, u), c)
        rz = sigmoid_reference(a[:, : 2 * n] + p[:, : 2 * n])
        new = tanh(a[:, 2 * n :] + rz[:, :n] * p[:, 2 * n :])
        h = new + rz[:, n:] * (h - new)
        out.append(h)
    return np.stack(out)


rnn = Fused(_rnn_forward, _rnn_backward, name="rnn", reference=_rnn_reference, by_worker=True)
lstm = Fused(_lstm_forward, _lstm_backward, name="lstm", reference=_lstm_reference, by_worker=True)
gru = Fused(_gru_forward, _gru_backward, name="gru", reference=_gru_reference, by_worker=True)
