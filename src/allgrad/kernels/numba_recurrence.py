"""The LSTM and the GRU compiled: all steps in one call. `recurrence.py` has the same in NumPy, and says what is kept.

The product with U is taken in panels of its columns, which are laid out once for all steps. Samples do not depend on each other,
so each thread takes some of them through all steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba.extending import register_jitable

from allgrad.kernels import threads
from allgrad.kernels.bf16 import rounded
from allgrad.kernels.jit import PerDtype
from allgrad.kernels.matmul.blocking import multiply_panels, scratch_size
from allgrad.kernels.matmul.product import matmul
from allgrad.kernels.numba_math import fma, hyperbolic_tangent
from allgrad.kernels.numba_rounding import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.kernels.blocks import Array


@register_jitable
def step(core: Any, a: Any, panels: Any, c: Any, rounds: Any, room: Any) -> None:
    """c = a @ U; if it `rounds`, a is rounded to bfloat16 before (U is already)."""
    if rounds:
        low = np.empty(a.shape, a.dtype)
        for i in range(a.shape[0]):
            for j in range(a.shape[1]):
                low[i, j] = decoded(encoded(a[i, j]))
        multiply_panels(core, low, panels, c, room)
    else:
        multiply_panels(core, a, panels, c, room)


def forward_lstm(
    core: Any, z: Any, panels: Any, states: Any, cells: Any, product: Any, start: Any, stop: Any, rounds: Any, room: Any
) -> None:
    """Samples `start` to `stop`; `product` is scratch (samples, 4 n)."""
    half, one, n = z.dtype.type(0.5), z.dtype.type(1), cells.shape[2]
    for t in range(z.shape[0]):
        step(core, states[t, start:stop], panels, product[start:stop], rounds, room)
        for row in range(start, stop):
            z_, p, before, new, h = z[t, row], product[row], cells[t, row], cells[t + 1, row], states[t + 1, row]
            i, f, g, o = z_[:n], z_[n : 2 * n], z_[2 * n : 3 * n], z_[3 * n :]
            for gate in range(4):
                factor = one if gate == 2 else half
                z_g, p_g = z_[gate * n : (gate + 1) * n], p[gate * n : (gate + 1) * n]
                for j in range(n):
                    z_g[j] = hyperbolic_tangent((z_g[j] + p_g[j]) * factor)
            for j in range(n):
                h[j] = (i[j] + one) * g[j]
            for j in range(n):
                new[j] = fma(f[j] + one, before[j], h[j]) * half
            for j in range(n):
                h[j] = hyperbolic_tangent(new[j]) * (o[j] + one) * half


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
    room: Any,
) -> None:
    half, quarter, one, n = z.dtype.type(0.5), z.dtype.type(0.25), z.dtype.type(1), cells.shape[2]
    squashed = np.empty(n, z.dtype)
    for t in range(z.shape[0] - 1, -1, -1):
        for row in range(start, stop):
            z_, dz_, before, new = z[t, row], dz[t, row], cells[t, row], cells[t + 1, row]
            i, f, u, o = z_[:n], z_[n : 2 * n], z_[2 * n : 3 * n], z_[3 * n :]
            di, df, du, do = dz_[:n], dz_[n : 2 * n], dz_[2 * n : 3 * n], dz_[3 * n :]
            d, g_, dc, s = back[row], g[t, row], dcell[row], squashed
            for j in range(n):
                d[j] += g_[j]
            for j in range(n):
                s[j] = hyperbolic_tangent(new[j])
            for j in range(n):
                do[j] = d[j] * s[j] * (one - o[j] * o[j]) * quarter
            for j in range(n):
                dc[j] += d[j] * (o[j] + one) * half * (one - s[j] * s[j])
            for j in range(n):
                di[j] = dc[j] * u[j] * (one - i[j] * i[j]) * quarter
            for j in range(n):
                du[j] = dc[j] * (i[j] + one) * half * (one - u[j] * u[j])
            for j in range(n):
                df[j] = dc[j] * before[j] * (one - f[j] * f[j]) * quarter
            for j in range(n):
                dc[j] *= (f[j] + one) * half
        step(core, dz[t, start:stop], panels, back[start:stop], rounds, room)


def forward_gru(
    core: Any, z: Any, panels: Any, bias: Any, states: Any, candidates: Any, product: Any, start: Any,
    stop: Any, rounds: Any, room: Any,
) -> None:  # fmt: skip
    """Samples `start` to `stop`; `product` is scratch (samples, 3 n)."""
    half, one, n = z.dtype.type(0.5), z.dtype.type(1), bias.size
    for t in range(z.shape[0]):
        step(core, states[t, start:stop], panels, product[start:stop], rounds, room)
        for row in range(start, stop):
            z_, p, before, c, h = z[t, row], product[row], states[t, row], candidates[t, row], states[t + 1, row]
            for j in range(2 * n):
                z_[j] = hyperbolic_tangent((z_[j] + p[j]) * half)
            r, keep, new, late = z_[:n], z_[n : 2 * n], z_[2 * n :], p[2 * n :]
            for j in range(n):
                c[j] = late[j] + bias[j]
            for j in range(n):
                h[j] = new[j] + (r[j] + one) * half * c[j]
            for j in range(n):
                new[j] = hyperbolic_tangent(h[j])
            for j in range(n):
                h[j] = new[j] + (keep[j] + one) * half * (before[j] - new[j])


def backward_gru(
    core: Any, g: Any, z: Any, panels: Any, candidates: Any, states: Any, dz: Any, dproduct: Any, back: Any, product: Any,
    start: Any, stop: Any, rounds: Any, room: Any,
) -> None:  # fmt: skip
    """`product` is scratch (samples, n)."""
    half, quarter, one, n = z.dtype.type(0.5), z.dtype.type(0.25), z.dtype.type(1), back.shape[1]
    for t in range(z.shape[0] - 1, -1, -1):
        for row in range(start, stop):
            z_, before, d, g_, c = z[t, row], states[t, row], back[row], g[t, row], candidates[t, row]
            r, keep, new = z_[:n], z_[n : 2 * n], z_[2 * n :]
            dr, dkeep, dnew = dz[t, row, :n], dz[t, row, n : 2 * n], dz[t, row, 2 * n :]
            early, late = dproduct[t, row, : 2 * n], dproduct[t, row, 2 * n :]
            for j in range(n):
                d[j] += g_[j]
            for j in range(n):
                dkeep[j] = d[j] * (before[j] - new[j]) * (one - keep[j] * keep[j]) * quarter
            for j in range(n):
                dnew[j] = d[j] * (one - keep[j]) * half * (one - new[j] * new[j])
            for j in range(n):
                d[j] *= (keep[j] + one) * half
            for j in range(n):
                dr[j] = dnew[j] * c[j] * (one - r[j] * r[j]) * quarter
            for j in range(n):
                late[j] = dnew[j] * (r[j] + one) * half
            early[:] = dz[t, row, : 2 * n]
        step(core, dproduct[t, start:stop], panels, product[start:stop], rounds, room)
        for row in range(start, stop):
            d, p = back[row], product[row]
            for j in range(n):
                d[j] += p[j]


_forward_lstm = PerDtype(forward_lstm, "n w3 r3 w3 w3 w2 n n b w1")
_backward_lstm = PerDtype(backward_lstm, "n r3 r3 r3 r3 w3 w2 w2 n n b w1")
_forward_gru = PerDtype(forward_gru, "n w3 r3 r1 w3 w3 w2 n n b w1")
_backward_gru = PerDtype(backward_gru, "n r3 r3 r3 r3 r3 w3 w3 w2 w2 n n b w1")


def lstm_forward(z: Array, u: Array, states: Array, cells: Array, rounds: bool) -> None:
    panels, product = _panels(u, rounds), np.empty(z.shape[1:], z.dtype)
    _each_sample(
        z, u, rounds, lambda core, *part: _forward_lstm[z.dtype](core, z, panels, states, cells, product, *part)
    )


def lstm_backward(
    g: Array, z: Array, u: Array, cells: Array, dz: Array, dcell: Array, rounds: bool, back: Array
) -> None:
    panels, loops = _panels(u.T, rounds), _backward_lstm[z.dtype]
    _each_sample(z, u, rounds, lambda core, *part: loops(core, g, z, panels, cells, dz, back, dcell, *part))


def gru_forward(z: Array, u: Array, bias: Array | None, states: Array, candidates: Array, rounds: bool) -> None:
    panels, product = _panels(u, rounds), np.empty(z.shape[1:], z.dtype)
    late = np.zeros(len(u), z.dtype) if bias is None else np.ascontiguousarray(bias)
    loops = _forward_gru[z.dtype]
    _each_sample(z, u, rounds, lambda core, *part: loops(core, z, panels, late, states, candidates, product, *part))


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
        u,
        rounds,
        lambda core, *part: loops(core, g, z, panels, candidates, states, dz, dproduct, back, product, *part),
    )


def _each_sample(z: Array, u: Array, rounds: bool, run: Callable[..., None]) -> None:
    """Calls `run` with the product's address, and the samples and the scratch of each thread."""
    core, size = matmul.core[z.dtype], scratch_size(max(u.shape), max(u.shape))

    def part(span: slice) -> int:
        run(core, span.start, span.stop, rounds, matmul.memory(z.dtype, size)[0])
        return 0

    threads.each(part, threads.pieces(z.shape[1], z.shape[0] * z.shape[1] * u.size, matmul.tile.rows))


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
