"""The LSTM and the GRU compiled: all steps in one call. `recurrence.py` has the same in NumPy, and says what is kept.

The product with U is taken in panels of its columns, which are laid out once for all steps. Samples do not depend on each other,
so each thread takes some of them through all steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.kernels import threads
from allgrad.kernels.bf16 import rounded
from allgrad.kernels.jit import PerDtype, callee
from allgrad.kernels.matmul.blocking import multiply_panels, scratch_size
from allgrad.kernels.matmul.product import matmul
from allgrad.kernels.numba_math import fma, hyperbolic_tangent
from allgrad.kernels.numba_rounding import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.kernels.blocks import Array


@callee
def step(core: Any, a: Any, panels: Any, c: Any, rounds: Any, low: Any, room: Any) -> None:
    """c = a @ U; if it `rounds`, a is rounded to bfloat16 before, into the scratch `low` (U is already)."""
    if rounds:
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                low[i, j] = decoded(encoded(a[i, j]))
        multiply_panels(core, low, panels, c, room)
    else:
        multiply_panels(core, a, panels, c, room)


def forward_lstm(
    core: Any,
    z: Any,
    panels: Any,
    states: Any,
    cells: Any,
    product: Any,
    start: Any,
    stop: Any,
    rounds: Any,
    low: Any,
    room: Any,
) -> None:
    """Samples `start` to `stop`; `product` is scratch (samples, 4 n)."""
    half, one, n = z.dtype.type(0.5), z.dtype.type(1), cells.shape[2]
    for t in range(z.shape[0]):
        step(core, states[t, start:stop], panels, product[start:stop], rounds, low[start:stop], room)
        for row in range(start, stop):
            z_, p, before, new, h = z[t, row], product[row], cells[t, row], cells[t + 1, row], states[t + 1, row]
            i, f, g, o = z_[:n], z_[n : 2 * n], z_[2 * n : 3 * n], z_[3 * n :]
            p_i, p_f, p_g, p_o = p[:n], p[n : 2 * n], p[2 * n : 3 * n], p[3 * n :]
            for j in range(n):
                i_ = hyperbolic_tangent((i[j] + p_i[j]) * half)
                f_ = hyperbolic_tangent((f[j] + p_f[j]) * half)
                g_ = hyperbolic_tangent(g[j] + p_g[j])
                o_ = hyperbolic_tangent((o[j] + p_o[j]) * half)
                cell = fma(f_ + one, before[j], (i_ + one) * g_) * half
                i[j] = i_
                f[j] = f_
                g[j] = g_
                o[j] = o_
                new[j] = cell
                h[j] = hyperbolic_tangent(cell) * (o_ + one) * half


def backward_lstm(
    core: Any,
    g: Any,
    z: Any,
    panels: Any,
    cells: Any,
    dz: Any,
    back: Any,
    dcell: Any,
    start: Any,
    stop: Any,
    rounds: Any,
    low: Any,
    room: Any,
) -> None:
    half, quarter, one, n = z.dtype.type(0.5), z.dtype.type(0.25), z.dtype.type(1), cells.shape[2]
    for t in range(z.shape[0] - 1, -1, -1):
        for row in range(start, stop):
            z_, dz_, before, new = z[t, row], dz[t, row], cells[t, row], cells[t + 1, row]
            i, f, u, o = z_[:n], z_[n : 2 * n], z_[2 * n : 3 * n], z_[3 * n :]
            di, df, du, do = dz_[:n], dz_[n : 2 * n], dz_[2 * n : 3 * n], dz_[3 * n :]
            later, g_, dc = back[row], g[t, row], dcell[row]
            for j in range(n):
                i_, f_, u_, o_ = i[j], f[j], u[j], o[j]
                d, s = later[j] + g_[j], hyperbolic_tangent(new[j])
                do[j] = d * s * (one - o_ * o_) * quarter
                c = dc[j] + d * (o_ + one) * half * (one - s * s)
                di[j] = c * u_ * (one - i_ * i_) * quarter
                du[j] = c * (i_ + one) * half * (one - u_ * u_)
                df[j] = c * before[j] * (one - f_ * f_) * quarter
                dc[j] = c * ((f_ + one) * half)
        step(core, dz[t, start:stop], panels, back[start:stop], rounds, low[start:stop], room)


def forward_gru(
    core: Any, z: Any, panels: Any, bias: Any, states: Any, candidates: Any, product: Any, start: Any,
    stop: Any, rounds: Any, low: Any, room: Any,
) -> None:  # fmt: skip
    """Samples `start` to `stop`; `product` is scratch (samples, 3 n)."""
    half, one, n = z.dtype.type(0.5), z.dtype.type(1), bias.size
    for t in range(z.shape[0]):
        step(core, states[t, start:stop], panels, product[start:stop], rounds, low[start:stop], room)
        for row in range(start, stop):
            z_, p, before, c, h = z[t, row], product[row], states[t, row], candidates[t, row], states[t + 1, row]
            r, keep, new, late = z_[:n], z_[n : 2 * n], z_[2 * n :], p[2 * n :]
            p_r, p_keep = p[:n], p[n : 2 * n]
            for j in range(n):
                r_ = hyperbolic_tangent((r[j] + p_r[j]) * half)
                keep_ = hyperbolic_tangent((keep[j] + p_keep[j]) * half)
                c_ = late[j] + bias[j]
                new_ = hyperbolic_tangent(new[j] + (r_ + one) * half * c_)
                r[j] = r_
                keep[j] = keep_
                new[j] = new_
                c[j] = c_
                h[j] = new_ + (keep_ + one) * half * (before[j] - new_)


def backward_gru(
    core: Any, g: Any, z: Any, panels: Any, candidates: Any, states: Any, dz: Any, dproduct: Any, back: Any, product: Any,
    start: Any, stop: Any, rounds: Any, low: Any, room: Any,
) -> None:  # fmt: skip
    """`product` is scratch (samples, n)."""
    half, quarter, one, n = z.dtype.type(0.5), z.dtype.type(0.25), z.dtype.type(1), back.shape[1]
    for t in range(z.shape[0] - 1, -1, -1):
        for row in range(start, stop):
            z_, before, d, g_, c = z[t, row], states[t, row], back[row], g[t, row], candidates[t, row]
            r, keep, new = z_[:n], z_[n : 2 * n], z_[2 * n :]
            dr, dkeep, dnew = dz[t, row, :n], dz[t, row, n : 2 * n], dz[t, row, 2 * n :]
            early_r, early_keep, late = dproduct[t, row, :n], dproduct[t, row, n : 2 * n], dproduct[t, row, 2 * n :]
            for j in range(n):
                d_, r_ = d[j] + g_[j], r[j]
                keep_, new_ = keep[j], new[j]
                dkeep_ = d_ * (before[j] - new_) * (one - keep_ * keep_) * quarter
                dnew_ = d_ * (one - keep_) * half * (one - new_ * new_)
                dr_ = dnew_ * c[j] * (one - r_ * r_) * quarter
                d[j] = d_ * ((keep_ + one) * half)
                dkeep[j] = dkeep_
                early_keep[j] = dkeep_
                dnew[j] = dnew_
                dr[j] = dr_
                early_r[j] = dr_
                late[j] = dnew_ * (r_ + one) * half
        step(core, dproduct[t, start:stop], panels, product[start:stop], rounds, low[start:stop], room)
        for row in range(start, stop):
            d, p = back[row], product[row]
            for j in range(n):
                d[j] += p[j]


_forward_lstm = PerDtype(forward_lstm, "n w3 r3 w3 w3 w2 n n b w2 w1")
_backward_lstm = PerDtype(backward_lstm, "n r3 r3 r3 r3 w3 w2 w2 n n b w2 w1")
_forward_gru = PerDtype(forward_gru, "n w3 r3 r1 w3 w3 w2 n n b w2 w1")
_backward_gru = PerDtype(backward_gru, "n r3 r3 r3 r3 r3 w3 w3 w2 w2 n n b w2 w1")


def lstm_forward(z: Array, u: Array, states: Array, cells: Array, rounds: bool) -> None:
    panels, product = _panels(u, rounds), np.empty(z.shape[1:], z.dtype)
    _each_sample(
        z, panels, rounds, lambda core, *part: _forward_lstm[z.dtype](core, z, panels, states, cells, product, *part)
    )


def lstm_backward(
    g: Array, z: Array, u: Array, cells: Array, dz: Array, dcell: Array, rounds: bool, back: Array
) -> None:
    panels, loops = _panels(u.T, rounds), _backward_lstm[z.dtype]
    _each_sample(z, panels, rounds, lambda core, *part: loops(core, g, z, panels, cells, dz, back, dcell, *part))


def gru_forward(z: Array, u: Array, bias: Array | None, states: Array, candidates: Array, rounds: bool) -> None:
    panels, product = _panels(u, rounds), np.empty(z.shape[1:], z.dtype)
    late = np.zeros(len(u), z.dtype) if bias is None else np.ascontiguousarray(bias)
    loops = _forward_gru[z.dtype]
    _each_sample(
        z, panels, rounds, lambda core, *part: loops(core, z, panels, late, states, candidates, product, *part)
    )


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
    panels, product, loops = _panels(u.T, rounds), np.empty_like(back), _backward_gru[z.dtype]
    _each_sample(
        z,
        panels,
        rounds,
        lambda core, *part: loops(core, g, z, panels, candidates, states, dz, dproduct, back, product, *part),
    )


def _each_sample(z: Array, panels: Array, rounds: bool, run: Callable[..., None]) -> None:
    """Calls `run` with the product's address, the samples of each thread, and scratch for rounded rows and for products."""
    count, inner, width = panels.shape
    core, size = matmul.core[z.dtype], scratch_size(inner, count * width)
    low = np.empty((z.shape[1] if rounds else 0, inner), z.dtype)

    def part(span: slice) -> int:
        run(core, span.start, span.stop, rounds, low, matmul.memory(z.dtype, size)[0])
        return 0

    threads.each(part, threads.pieces(z.shape[1], z.shape[0] * z.shape[1] * panels.size, matmul.tile.rows))


def _panels(matrix: Array, rounds: bool) -> Array:
    """The columns of a matrix in panels (panels, inner, width), the last one ending with zeros; rounded to bfloat16 or not."""
    matrix = rounded(matrix) if rounds else matrix
    inner, columns = matrix.shape
    width = matmul.tile.panel(matrix.dtype)
    panels = np.zeros((-(-columns // width), inner, width), matrix.dtype)
    whole = columns // width
    panels[:whole] = matrix[:, : whole * width].reshape(inner, whole, width).transpose(1, 0, 2)
    if whole < len(panels):
        panels[-1, :, : columns - whole * width] = matrix[:, whole * width :]
    return panels
