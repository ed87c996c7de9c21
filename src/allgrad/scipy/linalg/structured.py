"""Matrices built from vectors, and systems with them: toeplitz, hankel, circulant, block_diag and others.

Each is a rearrangement of its arguments' entries, so an index array of plain numbers says where they go.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.numpy.arguments import conjugate
from allgrad.scipy.registry import differentiates, operand
from scipy import linalg


@differentiates(linalg.toeplitz, "linalg")
def toeplitz(c: Any, r: Any = None) -> Any:
    """T[i, j] = c[i - j] below and on the diagonal, r[j - i] above; r[0] is not used."""
    c = np.ravel(operand(c))
    r = conjugate(c) if r is None else np.ravel(operand(r))
    n, m = len(c), len(r)
    line = np.concatenate([np.flip(r[1:]), c])
    return line[np.arange(n)[:, None] - np.arange(m) + m - 1]


@differentiates(linalg.hankel, "linalg")
def hankel(c: Any, r: Any = None) -> Any:
    """H[i, j] = c[i + j], continued by r[1:] below the antidiagonal."""
    c = np.ravel(operand(c))
    r = np.zeros(c.shape, dtype=c.dtype) if r is None else np.ravel(operand(r))
    line = np.concatenate([c, r[1:]])
    return line[np.arange(len(c))[:, None] + np.arange(len(r))]


@differentiates(linalg.circulant, "linalg")
def circulant(c: Any) -> Any:
    """C[i, j] = c[(i - j) mod n]."""
    c = operand(c)
    n = c.shape[-1]
    return c[..., (np.arange(n)[:, None] - np.arange(n)) % n]


@differentiates(linalg.companion, "linalg")
def companion(a: Any) -> Any:
    """The companion matrix of the polynomial with the coefficients a, highest degree first."""
    a = operand(a)
    first = -a[1:] / a[0]
    n = first.shape[0]
    return np.concatenate([first[None], np.eye(n, dtype=a.dtype)[:-1]])


@differentiates(linalg.leslie, "linalg")
def leslie(f: Any, s: Any) -> Any:
    """Leslie's matrix: fecundities f in the first row, survival rates s below the diagonal."""
    f, s = operand(f), operand(s)
    return np.concatenate([f[None], np.diag(s, -1)[1:]])


@differentiates(linalg.block_diag, "linalg")
def block_diag(*arrs: Any) -> Any:
    blocks = [np.atleast_2d(operand(a)) for a in arrs]
    width = sum(b.shape[1] for b in blocks)
    rows, start = [], 0
    for b in blocks:
        end = start + b.shape[1]
        rows.append(np.pad(b, ((0, 0), (start, width - end))))
        start = end
    return np.concatenate(rows)


@differentiates(linalg.khatri_rao, "linalg")
def khatri_rao(a: Any, b: Any) -> Any:
    """Kronecker products of the columns: (n, k) and (m, k) give (n m, k)."""
    a, b = operand(a), operand(b)
    return np.reshape(a[:, None] * b[None], (-1, a.shape[1]))


@differentiates(linalg.convolution_matrix, "linalg")
def convolution_matrix(a: Any, n: int, mode: str = "full") -> Any:
    """The matrix C with C @ v = convolve(a, v, mode) for v of n entries."""
    a = operand(a)
    m = len(a)
    full = toeplitz(np.pad(a, (0, n - 1)), np.concatenate([a[:1], np.zeros(n - 1, dtype=a.dtype)]))
    if mode == "full":
        return full
    if mode == "same":
        start = (min(n, m) - 1) // 2
        return full[start : start + max(n, m)]
    return full[min(n, m) - 1 : max(n, m)]


def _column_and_row(c_or_cr: Any) -> tuple[Any, Any]:
    if isinstance(c_or_cr, tuple):
        return np.ravel(operand(c_or_cr[0])), np.ravel(operand(c_or_cr[1]))
    c = np.ravel(operand(c_or_cr))
    return c, conjugate(c)


@differentiates(linalg.solve_toeplitz, "linalg")
def solve_toeplitz(c_or_cr: Any, b: Any) -> Any:
    """x with T x = b. With Tensors the matrix is built and solved in O(n^3), not by Levinson's recursion."""
    b = operand(b)
    matrix = toeplitz(*_column_and_row(c_or_cr))
    return np.linalg.solve(matrix, b)


@differentiates(linalg.matmul_toeplitz, "linalg")
def matmul_toeplitz(c_or_cr: Any, x: Any) -> Any:
    return np.matmul(toeplitz(*_column_and_row(c_or_cr)), operand(x))


@differentiates(linalg.solve_circulant, "linalg")
def solve_circulant(c: Any, b: Any, singular: str = "raise", baxis: int = 0, outaxis: int = 0) -> Any:
    """x with C x = b for one circulant matrix, by Fourier transforms: x = ifft(fft(b) / fft(c))."""
    c, b = operand(c), operand(b)
    if c.ndim != 1 or (baxis, outaxis) != (0, 0) or singular != "raise":
        raise NotDifferentiableError(
            "solve_circulant of Tensors takes a one-dimensional c, baxis=outaxis=0 and singular='raise'; "
            "for others write np.linalg.solve(circulant(c), b)."
        )
    spectrum = np.reshape(np.fft.fft(c), (-1, *[1] * (b.ndim - 1)))
    x = np.fft.ifft(np.fft.fft(b, axis=0) / spectrum, axis=0)
    return x if "c" in (c.dtype.kind, b.dtype.kind) else np.real(x)
