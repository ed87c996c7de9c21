"""Derivatives of polynomials in the form of np.polyval: coefficients with the highest power first.

polyval, polyfit, polyadd, polysub, polymul, polydiv, polyder, polyint, roots and poly. The functions of np.polynomial are in
polynomial.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.numpy.arguments import operand, refuse, value
from allgrad.numpy.dispatch import implements


@implements(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    """Horner's rule."""
    p, x = operand(p), operand(x)
    y = np.zeros(x.shape, x.dtype)
    for k in range(p.shape[0]):
        y = y * x + p[k]
    return y


def _same_length(a1: Any, a2: Any) -> tuple[Any, Any]:
    a1, a2 = np.atleast_1d(operand(a1)), np.atleast_1d(operand(a2))
    n = max(a1.size, a2.size)
    return np.pad(a1, (n - a1.size, 0)), np.pad(a2, (n - a2.size, 0))


@implements(np.polyadd)
def polyadd(a1: Any, a2: Any) -> Any:
    a1, a2 = _same_length(a1, a2)
    return a1 + a2


@implements(np.polysub)
def polysub(a1: Any, a2: Any) -> Any:
    a1, a2 = _same_length(a1, a2)
    return a1 - a2


@implements(np.polymul)
def polymul(a1: Any, a2: Any) -> Any:
    return np.convolve(_without_leading_zeros(a1), _without_leading_zeros(a2))


def _without_leading_zeros(a: Any) -> Any:
    """As NumPy does before multiplying: the length of the product depends on it."""
    a = np.atleast_1d(operand(a))
    first = np.flatnonzero(a != 0)
    return a[int(first[0]) if first.size else a.size - 1 :]


@implements(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    if m < 0:
        raise ValueError(f"np.polyder: the order must not be negative, got {m}.")
    p = operand(p)
    for _ in range(int(m)):
        p = p[:-1] * np.arange(p.shape[0] - 1, 0, -1)
    return p


@implements(np.polyint)
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    if m < 0:
        raise ValueError(f"np.polyint: the order must not be negative, got {m}.")
    p = operand(p)
    constants = np.broadcast_to(np.atleast_1d(operand(0.0 if k is None else k)), (int(m),))
    for i in range(int(m)):
        p = np.concatenate([p / np.arange(p.shape[0], 0, -1), constants[i : i + 1]])
    return p


@implements(np.polydiv)
def polydiv(u: Any, v: Any) -> tuple[Any, Any]:
    """Synthetic division: quotient and remainder."""
    u, v = np.atleast_1d(operand(u)) + 0.0, np.atleast_1d(operand(v)) + 0.0
    m, n = u.shape[0] - 1, v.shape[0] - 1
    rows, rest = [], u
    for k in range(m - n + 1):
        factor = rest[k] / v[0]
        rows.append(factor)
        rest = rest - np.pad(factor * v, (k, m - n - k))
    quotient = np.stack(rows) if rows else 0 * u[:1]
    first = np.flatnonzero(~np.isclose(value(rest), 0, rtol=1e-14))
    return quotient, rest[int(first[0]) if first.size else -1 :]


@implements(np.polyfit)
def polyfit(
    x: Any, y: Any, deg: Any, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False
) -> Any:  # fmt: skip
    """Least squares; as in NumPy, the columns of the Vandermonde matrix are scaled to length 1."""
    refuse("np.polyfit", full=full or None, cov=cov or None)
    x, y = operand(x) + 0.0, operand(y) + 0.0
    left, right = np.vander(x, int(deg) + 1), y
    if w is not None:
        w = operand(w) + 0.0
        left, right = left * np.expand_dims(w, 1), right * (w if y.ndim == 1 else np.expand_dims(w, 1))
    scale = np.sqrt(np.sum(left * left, axis=0))
    rcond = len(x) * np.finfo(x.dtype).eps if rcond is None else rcond
    found = np.linalg.lstsq(left / scale, right, rcond)[0]
    return found / (scale if y.ndim == 1 else np.expand_dims(scale, 1))


@implements(np.roots)
def roots(p: Any) -> Any:
    """The eigenvalues of the companion matrix, and a constant root at 0 for each trailing zero."""
    p = np.atleast_1d(operand(p))
    places = np.flatnonzero(value(p))
    if not places.size:
        return p[:0]
    at_zero = p.shape[0] - 1 - int(places[-1])
    p = p[int(places[0]) : int(places[-1]) + 1] + 0.0
    n = p.shape[0] - 1
    if n == 0:
        return np.zeros(at_zero, p.dtype) + 0 * p[0]
    rows = [np.expand_dims(-p[1:] / p[0], 0), np.eye(n - 1, n, dtype=p.dtype)]
    found = np.linalg.eigvals(np.concatenate(rows) if n > 1 else rows[0])
    return np.concatenate([found, np.zeros(at_zero, found.dtype)]) if at_zero else found


@implements(np.poly)
def poly(seq_of_zeros: Any) -> Any:
    """The polynomial with these roots, or the characteristic polynomial of a matrix."""
    zeros = np.atleast_1d(operand(seq_of_zeros))
    zeros = np.linalg.eigvals(zeros) if zeros.ndim == 2 else zeros + 0.0
    p = np.ones(1, zeros.dtype)
    for i in range(zeros.shape[0]):
        p = np.convolve(p, np.stack([np.ones((), zeros.dtype), -zeros[i]]))
    listed = value(zeros)
    paired = listed.dtype.kind == "c" and np.array_equal(np.sort(listed), np.sort(listed.conj()))
    return np.real(p) if paired else p
