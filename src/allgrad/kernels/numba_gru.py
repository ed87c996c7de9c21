"""The compiled loops of a GRU's step. `numba_kernels` calls them; `numpy_recurrence` has the same in NumPy."""

from __future__ import annotations

from typing import Any

from allgrad.kernels.numba_math import hyperbolic_tangent


def gru_forward(z: Any, product: Any, bias: Any, before: Any, candidate: Any, h: Any) -> None:
    """z and product are (3, rows, n), the rest (rows, n), and the bias (n,). z becomes tanhs; see numpy_recurrence.py."""
    half, one, n = z.dtype.type(0.5), z.dtype.type(1), before.shape[1]
    for gate in range(2):
        for row in range(before.shape[0]):
            t, p = z[gate, row], product[gate, row]
            for j in range(n):
                t[j] = hyperbolic_tangent(t[j] + p[j])
    for row in range(before.shape[0]):
        r, keep, new, p = z[0, row], z[1, row], z[2, row], product[2, row]
        old, c, h_ = before[row], candidate[row], h[row]
        for j in range(n):
            c[j] = p[j] + bias[j]
        for j in range(n):
            h_[j] = new[j] + (r[j] + one) * half * c[j]
        for j in range(n):
            new[j] = hyperbolic_tangent(h_[j])
        for j in range(n):
            h_[j] = new[j] + (keep[j] + one) * half * (old[j] - new[j])


def gru_backward(t: Any, candidate: Any, before: Any, dh: Any, dz: Any, dproduct: Any) -> None:
    half, quarter, one, n = t.dtype.type(0.5), t.dtype.type(0.25), t.dtype.type(1), before.shape[1]
    for row in range(before.shape[0]):
        r, keep, new, old = t[0, row], t[1, row], t[2, row], before[row]
        d, c = dh[row], candidate[row]
        dr, dkeep, dnew = dz[row, :n], dz[row, n : 2 * n], dz[row, 2 * n :]
        pr, pkeep, pnew = dproduct[row, :n], dproduct[row, n : 2 * n], dproduct[row, 2 * n :]
        for j in range(n):
            dkeep[j] = d[j] * (old[j] - new[j]) * (one - keep[j] * keep[j]) * quarter
        for j in range(n):
            dnew[j] = d[j] * (one - keep[j]) * half * (one - new[j] * new[j])
        for j in range(n):
            d[j] *= (keep[j] + one) * half
        for j in range(n):
            dr[j] = dnew[j] * c[j] * (one - r[j] * r[j]) * quarter
        for j in range(n):
            pnew[j] = dnew[j] * (r[j] + one) * half
        for j in range(n):
            pr[j] = dr[j]
            pkeep[j] = dkeep[j]
