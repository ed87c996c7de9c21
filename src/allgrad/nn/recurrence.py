"""RNN, LSTM, and GRU over a whole sequence: one operation on the tape, with a hand-written backward through time.

All arrays are time-major inside: x (T, N, in), weights W (in, gates H) and U (H, gates H), gates in PyTorch's order (LSTM: i, f,
g, o; GRU: r, z, n). The products with W, and all gradients of weights, are one matrix product over all steps; a step
itself is one product with U and a few elementwise calls. The recurrences, with a_t = x_t W + b and s the sigmoid:

    RNN     h' = act(a + h U + c)
    LSTM    i, f, o = s(...), g = tanh(...) of a + h U + c;   C' = f C + i g;   h' = o tanh(C')
    GRU     r, z = s(a + h U + c);   n = tanh(a_n + r (h U + c)_n);   h' = (1 - z) n + z h

An operation's result is h_1 ... h_T, shape (T, N, H); an LSTM's has one row more, C_T. The sigmoid is (1 + tanh(x / 2)) / 2.
A step of an LSTM or a GRU is a kernel (`Kernels.lstm_forward`, `gru_forward`), whose gates are one array (gates, N, H).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.autodiff import Fused
from allgrad.kernels import active
from allgrad.nn.activations import sigmoid_reference
from allgrad.nn.gradients import by_worker, gradient_for
from allgrad.nn.primitives import matmul, tanh

if TYPE_CHECKING:
    from allgrad.nn.parameter import Array


def _projected(x: Array, w: Array, *biases: Array | None) -> tuple[Array, Array]:
    """The rows of x, and x W + the biases for all steps."""
    steps, samples, inner = x.shape
    rows = np.ascontiguousarray(x).reshape(-1, inner)
    z = active().matmul(rows, w)
    given = [b for b in biases if b is not None]
    if given:
        np.add(z, given[0] if len(given) == 1 else given[0] + given[1], out=z)
    return rows, z.reshape(steps, samples, -1)


def _states(x: Array, h: Array | None, hidden: int, rows_behind: int = 0) -> Array:
    """Memory for h_0, h_1, ..., h_T, and `rows_behind` more rows."""
    states = np.empty((x.shape[0] + 1 + rows_behind, x.shape[1], hidden), x.dtype)
    states[0] = 0 if h is None else h
    return states


SMALL = 10**6
"""OpenBLAS multiplies without packing if rows x inner x columns is at most this, which is 25 to 50 % faster."""
COLUMNS = 16
"""The smallest number of columns of a block."""


def _in_blocks(u: Array, rows: int, gates: int = 1) -> Array:
    """The columns of a matrix in blocks (blocks, inner, columns), for products with that many rows. Shapes decide the blocks.

    A block holds columns of one of `gates` equal parts only. A single block is a plain matrix (inner, columns), whose product is
    called in less time.
    """
    inner, columns = len(u), u.shape[1] // gates
    # The numba kernels have a product of their own, which needs no small pieces.
    most = SMALL // max(1, rows * inner) if active().name == "numpy" else columns
    width = next((w for w in range(min(columns, most), COLUMNS - 1, -1) if columns % w == 0), columns)
    blocks = np.ascontiguousarray(u.reshape(inner, -1, width).transpose(1, 0, 2))
    return blocks[0] if len(blocks) == 1 else blocks


def _place(out: Array, blocks: Array) -> Array:
    """A view of `out` (..., rows, columns), C-contiguous, into which `active().matmul(h, blocks)` writes h @ u.

    `blocks` are `_in_blocks(u, rows)`; h (..., 1, rows, inner), or without any axes in front.
    """
    if blocks.ndim == 2:
        return out
    return np.swapaxes(out.reshape(*out.shape[:-1], blocks.shape[-3], blocks.shape[-1]), -2, -3)


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
        blocks, dx = _in_blocks(inputs.w.T, dz.shape[1]), np.empty(inputs.shape, dz.dtype)
        if blocks.ndim == 2:
            active().matmul(dz.reshape(-1, dz.shape[2]), blocks, out=dx.reshape(-1, dx.shape[2]))
        else:
            active().matmul(dz[:, None], blocks, out=_place(dx, blocks))
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
    rows, z = _projected(x, w, b, c)
    states = _states(x, h, len(u))
    blocks = _in_blocks(u, x.shape[1])
    for t, z_t in enumerate(z):
        y = states[t + 1]
        active().matmul(states[t], blocks, out=_place(y, blocks))
        np.add(y, z_t, out=y)
        if relu:
            np.maximum(y, 0, out=y)
        else:
            active().tanh(y, out=y)
    return states[1:], _Inputs(x.shape, rows, states, w, u, b, c)


def _rnn_backward(g: Array, inputs: _Inputs, *, needs: Any, into: Any, relu: bool) -> tuple[Any, ...]:
    dz = np.empty(g.shape, g.dtype)
    back = np.zeros(g.shape[1:], g.dtype)
    blocks = _in_blocks(inputs.u.T, len(back))
    place = _place(back, blocks)
    for t in range(len(g) - 1, -1, -1):
        d, y = dz[t], inputs.states[t + 1]
        np.add(g[t], back, out=back)
        if relu:
            np.multiply(back, y > 0, out=d)
        else:
            np.multiply(y, y, out=d)
            np.subtract(1, d, out=d)
            np.multiply(d, back, out=d)
        active().matmul(d, blocks, out=place)
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


# Gates, for the LSTM and the GRU.

_LSTM, _GRU = (0.5, 0.5, 1.0, 0.5), (0.5, 0.5, 1.0)
"""For a sigmoid, the kernels expect half of the sum."""


def _gates_in_blocks(matrix: Array, rows: int, factors: tuple[float, ...]) -> Array:
    """(inner, gates n) as (gates, blocks, inner, columns), each gate times its factor; see `_in_blocks`."""
    blocks = _in_blocks(matrix, rows, gates=len(factors))
    blocks = blocks.reshape(len(factors), -1, *blocks.shape[1:])
    return np.asarray(blocks * np.array(factors, matrix.dtype)[:, None, None, None])


def _gate_sums(x: Array, w: Array, factors: tuple[float, ...], bias: Array | None) -> Array:
    """x W + bias by gate, each times its factor: (steps, gates, samples, n)."""
    steps, samples, _ = x.shape
    n = w.shape[1] // len(factors)
    z, blocks = np.empty((steps, len(factors), samples, n), x.dtype), _gates_in_blocks(w, samples, factors)
    active().matmul(x[:, None, None], blocks, out=_place(z, blocks))
    if bias is not None:
        scaled = bias.reshape(-1, 1, n) * np.array(factors, x.dtype)[:, None, None]
        np.add(z, np.repeat(scaled, samples, axis=1), out=z)
    return z


def _added(*biases: Array | None) -> Array | None:
    given = [bias for bias in biases if bias is not None]
    return sum(given[1:], given[0]) if given else None


# LSTM.


def _lstm_forward(
    x: Array, h: Array | None, cell: Array | None, w: Array, u: Array, b: Array | None, c: Array | None
) -> tuple[Array, Any]:
    n, step = len(u), active().lstm_forward
    x = np.ascontiguousarray(x)
    z = _gate_sums(x, w, _LSTM, _added(b, c))
    states, cells = _states(x, h, n, 1), _states(x, cell, n)
    product, blocks = np.empty(z.shape[1:], x.dtype), _gates_in_blocks(u, x.shape[1], _LSTM)
    place = _place(product, blocks)
    for t, z_t in enumerate(z):
        active().matmul(states[t], blocks, out=place)
        step(z_t, product, cells[t], cells[t + 1], states[t + 1])
    states[-1] = cells[-1]
    return states[1:], (_Inputs(x.shape, x.reshape(-1, x.shape[2]), states, w, u, b, c), z, cells)


def _lstm_backward(g: Array, residuals: Any, *, needs: Any, into: Any) -> tuple[Any, ...]:
    inputs, z, cells = residuals
    step = active().lstm_backward
    dz = np.empty((len(z), *g.shape[1:-1], inputs.u.shape[1]), g.dtype)
    back, dcell = np.zeros(g.shape[1:], g.dtype), np.array(g[-1])
    blocks = _in_blocks(inputs.u.T, len(back))
    place = _place(back, blocks)
    for t in range(len(z) - 1, -1, -1):
        d = dz[t]
        np.add(g[t], back, out=back)
        step(z[t], cells[t], cells[t + 1], back, dcell, d)
        active().matmul(d, blocks, out=place)
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
    n, step = len(u), active().gru_forward
    x = np.ascontiguousarray(x)
    # Only the candidate's part of c is scaled by r; the others may be added to b.
    early = None if c is None else np.concatenate([c[: 2 * n], np.zeros(n, c.dtype)])
    z = _gate_sums(x, w, _GRU, _added(b, early))
    states, candidates = _states(x, h, n), np.empty((len(z), x.shape[1], n), x.dtype)
    product, blocks = np.empty(z.shape[1:], x.dtype), _gates_in_blocks(u, x.shape[1], _GRU)
    place, late = _place(product, blocks), None if c is None else c[2 * n :]
    for t, z_t in enumerate(z):
        active().matmul(states[t], blocks, out=place)
        step(z_t, product, late, states[t], candidates[t], states[t + 1])
    return states[1:], (_Inputs(x.shape, x.reshape(-1, x.shape[2]), states, w, u, b, c), z, candidates)


def _gru_backward(g: Array, residuals: Any, *, needs: Any, into: Any) -> tuple[Any, ...]:
    inputs, z, candidates = residuals
    step = active().gru_backward
    dz, dzu = (np.empty((len(z), g.shape[1], inputs.u.shape[1]), g.dtype) for _ in range(2))
    back = np.zeros(g.shape[1:], g.dtype)
    product, blocks = np.empty_like(back), _in_blocks(inputs.u.T, len(back))
    place = _place(product, blocks)
    for t in range(len(z) - 1, -1, -1):
        np.add(g[t], back, out=back)
        step(z[t], candidates[t], inputs.states[t], back, dz[t], dzu[t])
        active().matmul(dzu[t], blocks, out=place)
        np.add(back, product, out=back)
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
