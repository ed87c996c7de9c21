"""An LSTM and a GRU over a whole sequence, forward and backward, with loops in NumPy.

A sigmoid is (1 + tanh(x / 2)) / 2, so that all gates take one tanh. These tanhs, t, are kept in the place of the gates: then both
slopes are multiples of 1 - t^2, and 1 + t is twice the gate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.bf16 import rounded
from allgrad.kernels.blocks import Array, scratch


class Recurrence:
    recurrence: Any

    def lstm_forward(self, z: Array, u: Array, states: Array, cells: Array, *, rounds: bool) -> None:
        """An LSTM over a sequence (Hochreiter & Schmidhuber 1997). With a_t = z_t + h_t u in four parts of n columns:
        i = sigmoid(a_0), f = sigmoid(a_1), g = tanh(a_2), o = sigmoid(a_3); new cell = f cell + i g, h = o tanh(new cell).

        z: (length, samples, 4 n); u: (n, 4 n); states and cells: (length + 1 or more, samples, n), whose first entries are given
        and whose others are written; all C-contiguous. z is overwritten by what `lstm_backward` of the same kernels needs of the
        gates.
        If it `rounds`, the operands of products with u are rounded to bfloat16 (`bf16.py`).
        """
        self.recurrence.lstm_forward(z, u, states, cells, rounds)

    def lstm_backward(
        self, g: Array, z: Array, u: Array, cells: Array, dz: Array, dcell: Array, *, rounds: bool
    ) -> Array:
        """Backward through `lstm_forward`, which left z and cells: the cotangent of the first state, (samples, n).

        g: (length or more, samples, n), the cotangents of states 1 to length. dz: (length, samples, 4 n) becomes that of a.
        dcell: (samples, n), the cotangent of the last cell, becomes that of the first.
        """
        back = np.zeros(cells.shape[1:], z.dtype)
        self.recurrence.lstm_backward(g, z, u, cells, dz, dcell, rounds, back)
        return back

    def gru_forward(
        self, z: Array, u: Array, bias: Array | None, states: Array, candidates: Array, *, rounds: bool
    ) -> None:
        """A GRU over a sequence (Cho et al. 2014, with PyTorch's candidate). With p_t = h_t u, z_t and p_t in three parts of n
        columns: r = sigmoid(z_0 + p_0), k = sigmoid(z_1 + p_1), candidate = p_2 + bias, new = tanh(z_2 + r candidate),
        h = new + k (h before - new).

        z: (length, samples, 3 n); u: (n, 3 n); bias: (n,) or None; states: (length + 1, samples, n), whose first entry is given
        and whose others are written; candidates: (length, samples, n), written; all C-contiguous. z is overwritten by what
        `gru_backward` of the same kernels needs of the gates.
        """
        self.recurrence.gru_forward(z, u, bias, states, candidates, rounds)

    def gru_backward(
        self,
        g: Array,
        z: Array,
        u: Array,
        candidates: Array,
        states: Array,
        dz: Array,
        dproduct: Array,
        *,
        rounds: bool,
    ) -> Array:
        """Backward through `gru_forward`, which left z and candidates: the cotangent of the first state, (samples, n).

        g: (length, samples, n), the cotangents of states 1 to length. The cotangents of z and p are written to dz and dproduct,
        (length, samples, 3 n) each.
        """
        back = np.zeros(states.shape[1:], z.dtype)
        self.recurrence.gru_backward(g, z, u, candidates, states, dz, dproduct, rounds, back)
        return back


def _parts(x: Array, count: int) -> list[Array]:
    """The gates of (rows, count n), each (rows, n)."""
    n = x.shape[1] // count
    return [x[:, k * n : (k + 1) * n] for k in range(count)]


def _product(a: Array, b: Array, out: Array | None, rounds: bool) -> Array:
    return np.matmul(*((rounded(a), rounded(b)) if rounds else (a, b)), out=out)


def _slopes(t: Array, gates: int, n: int, index: int) -> Array:
    """d tanh(a) / da for tanhs t, of which the first `gates` n are of half a sum, and so a quarter of that."""
    d = np.multiply(t, t, scratch(t.dtype, index, t.shape))
    np.subtract(1, d, out=d)
    d[:, : gates * n] *= 0.25
    return d


def lstm_forward(z: Array, u: Array, states: Array, cells: Array, rounds: bool) -> None:
    n = len(u)
    product = np.empty(z.shape[1:], z.dtype)
    for t, z_t in enumerate(z):
        i, f, g, o = _parts(z_t, 4)
        new, h = cells[t + 1], states[t + 1]
        z_t += _product(states[t], u, product, rounds)
        z_t[:, : 2 * n] *= 0.5
        o *= 0.5
        np.tanh(z_t, out=z_t)
        np.multiply(f + 1, cells[t], out=new)
        np.multiply(i + 1, g, out=h)
        new += h
        new *= 0.5
        np.tanh(new, out=h)
        h *= o + 1
        h *= 0.5


def lstm_backward(
    g: Array, z: Array, u: Array, cells: Array, dz: Array, dcell: Array, rounds: bool, back: Array
) -> None:
    n, turned = len(u), np.ascontiguousarray(u.T)
    for t in range(len(z) - 1, -1, -1):
        back += g[t]
        i, f, new, o = _parts(z[t], 4)
        di, df, dnew, do = _parts(dz[t], 4)
        tanh = np.tanh(cells[t + 1])
        slopes = _slopes(z[t], 2, n, 0)
        slopes[:, 3 * n :] *= 0.25
        np.multiply(back, tanh, out=do)
        # What reaches the new cell through h: dh o (1 - tanh^2).
        dcell += back * (o + 1) * (1 - tanh * tanh) * z.dtype.type(0.5)
        np.multiply(dcell, new, out=di)
        np.multiply(dcell, cells[t], out=df)
        np.multiply(dcell, (i + 1) * z.dtype.type(0.5), out=dnew)
        dz[t] *= slopes
        dcell *= (f + 1) * z.dtype.type(0.5)
        _product(dz[t], turned, back, rounds)


def gru_forward(z: Array, u: Array, bias: Array | None, states: Array, candidates: Array, rounds: bool) -> None:
    n = len(u)
    product = np.empty(z.shape[1:], z.dtype)
    for t, z_t in enumerate(z):
        r, keep, new = _parts(z_t, 3)
        gates, h = z_t[:, : 2 * n], states[t + 1]
        _product(states[t], u, product, rounds)
        gates += product[:, : 2 * n]
        gates *= 0.5
        np.tanh(gates, out=gates)
        candidates[t] = product[:, 2 * n :]
        if bias is not None:
            candidates[t] += bias
        new += (r + 1) * z.dtype.type(0.5) * candidates[t]
        np.tanh(new, out=new)
        np.subtract(states[t], new, out=h)
        h *= (keep + 1) * z.dtype.type(0.5)
        h += new


def gru_backward(
    g: Array,
    z: Array,
    u: Array,
    candidates: Array,
    states: Array,
    dz: Array,
    dproduct: Array,
    rounds: bool,
    back: Array,
) -> None:
    n, half, turned = len(u), z.dtype.type(0.5), np.ascontiguousarray(u.T)
    for t in range(len(z) - 1, -1, -1):
        back += g[t]
        r, keep, new = _parts(z[t], 3)
        dr, dkeep, dnew = _parts(dz[t], 3)
        slopes = _slopes(z[t], 2, n, 0)
        np.multiply(back, states[t] - new, out=dkeep)
        np.multiply(back, (1 - keep) * half, out=dnew)
        dnew *= slopes[:, 2 * n :]
        np.multiply(dnew, candidates[t], out=dr)
        dz[t, :, : 2 * n] *= slopes[:, : 2 * n]
        back *= (keep + 1) * half
        dproduct[t] = dz[t]
        dproduct[t, :, 2 * n :] *= (r + 1) * half
        back += _product(dproduct[t], turned, None, rounds)
