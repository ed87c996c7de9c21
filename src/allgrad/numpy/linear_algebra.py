"""Derivatives of np.linalg: solving, determinants, norms, powers. The factorizations are in factorizations.py.

With B = inv(A): dB = -B dA B and d det = det tr(B dA); d pinv is by Golub and Pereyra (1973), at constant rank. The gradient of
`det` is the matrix of cofactors. It is computed from the SVD, because it exists for a singular matrix too (Giles 2008 divides
by zero there). The second derivative of det needs the inverse, and raises LinAlgError for a singular matrix.

Norms have gradient 0 at the zero vector. The nuclear and the spectral norm, cond and svdvals are differentiated through `svd`;
if the largest singular value is a multiple one, np.max's convention holds.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.autodiff.tensor import Tensor
from allgrad.numpy import products
from allgrad.numpy.arguments import as_tensor, axes_of, conjugate, operand, real, refuse, value
from allgrad.numpy.dispatch import constant, implements
from allgrad.numpy.factorizations import H, T
from allgrad.numpy.roots import rooted
from allgrad.numpy.singular import quotient

SlogdetResult = namedtuple("SlogdetResult", ["sign", "logabsdet"])

constant(np.linalg.matrix_rank)

# Solving.

_inv = Primitive(
    lambda a: np.linalg.inv(a),
    name="inv",
    vjp={"a": lambda g, ans: -np.matmul(np.matmul(T(ans), g), T(ans))},
    jvp={"a": lambda t, ans: -np.matmul(np.matmul(ans, t), ans)},
)
implements(np.linalg.inv)(lambda a: _inv(a))


def _solve_vjp(g: Any, a: Any, ans: Any, *, needs: tuple[bool, ...]) -> tuple[Any, Any]:
    gb = np.linalg.solve(T(a), g)
    return (-np.matmul(gb, T(ans)) if needs[0] else None), gb


_solve = Primitive(
    lambda a, b: np.linalg.solve(a, b),
    name="solve",
    joint=_solve_vjp,
    jvp={"a": lambda t, a, ans: -np.linalg.solve(a, np.matmul(t, ans)), "b": LINEAR},
)


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    a, b = operand(a), operand(b)
    return _solve(a, np.expand_dims(b, 1))[..., 0] if b.ndim == 1 else _solve(a, b)


@implements(np.linalg.tensorsolve)
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    a, b = operand(a), operand(b)
    if axes is not None:
        moved = axes_of(tuple(axes), a.ndim, "np.linalg.tensorsolve")
        a = np.transpose(a, [i for i in range(a.ndim) if i not in moved] + list(moved))
    shape = a.shape[b.ndim :]
    n = math.prod(shape)
    if a.size != n * n:
        raise np.linalg.LinAlgError(
            f"np.linalg.tensorsolve: a of shape {a.shape} is not square for b of shape {b.shape}."
        )
    return np.reshape(np.linalg.solve(np.reshape(a, (n, n)), np.ravel(b)), shape)


@implements(np.linalg.tensorinv)
def tensorinv(a: Any, ind: int = 2) -> Any:
    if ind <= 0:
        raise ValueError(f"np.linalg.tensorinv: ind must be positive, got {ind}.")
    rows, cols = a.shape[:ind], a.shape[ind:]
    return np.reshape(np.linalg.inv(np.reshape(a, (math.prod(rows), -1))), (*cols, *rows))


def _pinv_jvp(t: Any, a: Any, ans: Any) -> Any:
    P, PH, tH = ans, H(ans), H(t)
    left = np.matmul(np.matmul(P, PH), tH)
    right = np.matmul(tH, np.matmul(PH, P))
    return (
        -np.matmul(np.matmul(P, t), P)
        + left
        - np.matmul(np.matmul(left, a), P)
        + right
        - np.matmul(P, np.matmul(a, right))
    )


def _pinv_vjp(g: Any, a: Any, ans: Any) -> Any:
    P, PH, gT = ans, H(ans), T(g)
    left = np.matmul(gT, np.matmul(P, PH))
    right = np.matmul(np.matmul(PH, P), gT)
    conjugated = left - np.matmul(a, np.matmul(P, left)) + right - np.matmul(np.matmul(right, P), a)
    return conjugate(conjugated) - np.matmul(np.matmul(T(P), g), T(P))


_pinv = Primitive(
    lambda a, *, rtol: np.linalg.pinv(a, rtol=rtol) if rtol is not None else np.linalg.pinv(a),
    name="pinv",
    vjp={"a": _pinv_vjp},
    jvp={"a": _pinv_jvp},
)


@implements(np.linalg.pinv)
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Any:
    refuse("np.linalg.pinv", hermitian=hermitian or None)
    return _pinv(a, rtol=rcond if rtol is np._NoValue else rtol)


@implements(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """pinv(a) @ b, differentiated at constant rank, and NumPy's residuals, rank and singular values."""
    a, b = operand(a), operand(b)
    if a.ndim != 2 or b.ndim not in (1, 2):
        raise np.linalg.LinAlgError(
            f"np.linalg.lstsq takes a matrix and one or two dimensions, got {a.shape}, {b.shape}."
        )
    m, n = a.shape
    eps = np.finfo(np.promote_types(a.dtype, np.float32)).eps
    rtol = eps * max(m, n) if rcond is None else eps if rcond == -1 else rcond
    x = np.matmul(np.linalg.pinv(a, rtol=rtol), b)
    rank = int(np.linalg.matrix_rank(value(a), rtol=rtol))
    left = b - np.matmul(a, x)
    squares = np.atleast_1d(np.sum(real(left * conjugate(left)), axis=0))
    return x, squares if rank == n < m else squares[:0], rank, np.linalg.svdvals(a)


# Determinants.


def _cofactors(a: Any) -> Any:
    """det(A) inv(A)^T, computed from the SVD, so that it is finite at any rank."""
    U, s, Vh = np.linalg.svd(a, full_matrices=False)
    n = s.shape[-1]
    others = np.prod(np.where(np.eye(n, dtype=bool), s.dtype.type(1), s[..., None, :]), axis=-1)
    return np.linalg.det(np.matmul(U, Vh))[..., None, None] * np.matmul(U.conj() * others[..., None, :], Vh.conj())


def _cofactors_moved(t: Any, a: Any) -> Any:
    """The derivative of the cofactors along t; the operator is its own transpose."""
    B = T(np.linalg.inv(a))
    d = np.expand_dims(np.linalg.det(a), (-1, -2))
    trace = np.sum(t * B, axis=(-1, -2), keepdims=True)
    return d * (trace * B - np.matmul(np.matmul(B, T(t)), B))


_cofactor_matrix = Primitive(_cofactors, name="cofactors", vjp={"a": _cofactors_moved}, jvp={"a": _cofactors_moved})

_det = Primitive(
    lambda a: np.linalg.det(a),
    name="det",
    vjp={"a": lambda g, a: np.expand_dims(g, (-1, -2)) * _cofactor_matrix(a)},
    jvp={"a": lambda t, a: np.sum(t * _cofactor_matrix(a), axis=(-1, -2))},
)
implements(np.linalg.det)(lambda a: _det(a))


def _log_change(t: Any, a: Any) -> Any:
    """tr(A^-1 dA), the change of log det."""
    return np.trace(np.linalg.solve(a, t), axis1=-2, axis2=-1)


def _slogdet_vjp(g: Any, a: Any, ans: Any) -> Any:
    g_sign, g_log = g
    sign = ans[0]
    if sign.dtype.kind == "c":
        g_log = g_log - 1j * np.real(1j * g_sign * sign)
    return np.expand_dims(g_log, (-1, -2)) * T(np.linalg.inv(a))


def _slogdet_jvp(t: Any, a: Any, ans: Any) -> Any:
    change, sign = _log_change(t, a), ans[0]
    turned = 1j * sign * np.imag(change) if sign.dtype.kind == "c" else np.zeros(sign.shape, sign.dtype)
    return turned, real(change)


_slogdet = Primitive(
    lambda a: tuple(np.linalg.slogdet(a)),
    name="slogdet",
    vjp={"a": _slogdet_vjp},
    jvp={"a": _slogdet_jvp},
    outputs=True,
)


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    return SlogdetResult(*_slogdet(a))


# Powers and chains.


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Any:
    n = int(n)
    if n == 0:
        return Tensor(np.linalg.matrix_power(a.value, 0))
    square, result = (np.linalg.inv(a) if n < 0 else a), None
    n = abs(n)
    while n:
        if n & 1:
            result = square if result is None else np.matmul(result, square)
        n >>= 1
        square = np.matmul(square, square) if n else square
    return np.copy(result) if result is a else result


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    refuse("np.linalg.multi_dot", out=out)
    chain = [operand(x) for x in arrays]
    if len(chain) < 2:
        raise ValueError(f"np.linalg.multi_dot needs at least two arrays, got {len(chain)}.")
    first, last = chain[0].ndim == 1, chain[-1].ndim == 1
    chain[0] = np.atleast_2d(chain[0])
    chain[-1] = np.expand_dims(chain[-1], 1) if last else chain[-1]
    product = _cheapest(chain)
    return np.reshape(product, product.shape[first : 2 - last]) if first or last else product


def _cheapest(chain: list[Any]) -> Any:
    """The product in the order with the fewest multiplications (Cormen et al., matrix-chain multiplication)."""
    sizes = [x.shape[0] for x in chain] + [chain[-1].shape[1]]
    n = len(chain)
    cost, cut = np.zeros((n, n)), np.zeros((n, n), int)
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            costs = [cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            cut[i, j] = i + int(np.argmin(costs))
            cost[i, j] = min(costs)

    def product(i: int, j: int) -> Any:
        return chain[i] if i == j else np.matmul(product(i, int(cut[i, j])), product(int(cut[i, j]) + 1, j))

    return product(0, n - 1)


# Norms.


def _norm_slope(x: Any, ans: Any, p: float, axis: tuple[int, ...]) -> Any:
    """The derivative of the p-norm: conj(sign(x)) (|x| / norm)^(p - 1), and 0 at the zero vector."""
    plain = value(ans)
    if not plain.all() or not np.isfinite(plain).all():  # the powers may have underflowed or overflowed: scale x first
        scale = np.max(np.abs(value(x)), axis=axis, keepdims=True, initial=0)
        x = x / np.where((scale == 0) | ~np.isfinite(scale), scale.dtype.type(1), scale)
        ans = _p_norm(x, p=p, axis=axis)
    if p == 2:
        return quotient(conjugate(x), ans)
    size = np.abs(x)
    return conjugate(quotient(x, size)) * quotient(size, ans) ** (p - 1)


def _p_norm_value(x: Any, *, p: float, axis: tuple[int, ...]) -> Any:
    size = np.abs(x)
    if p == 2:
        return np.sqrt(np.sum(size * size, axis=axis, keepdims=True))
    return np.sum(size**p, axis=axis, keepdims=True) ** size.dtype.type(1 / p)


_p_norm = Primitive(
    _p_norm_value,
    name="norm",
    vjp={"x": lambda g, x, ans, *, p, axis: g * _norm_slope(x, ans, p, axis)},
    jvp={"x": lambda t, x, ans, *, p, axis: np.sum(real(t * _norm_slope(x, ans, p, axis)), axis=axis, keepdims=True)},
)


def _of_vectors(x: Any, order: Any, axes: tuple[int, ...]) -> Any:
    """A vector norm over one axis, or over several with order 2; the axes keep length 1."""
    if order in (None, 2):
        return _p_norm(x, p=2, axis=axes)
    if order == np.inf:
        return np.max(np.abs(x), axis=axes, keepdims=True)
    if order == -np.inf:
        return np.min(np.abs(x), axis=axes, keepdims=True)
    if order == 0:
        return np.sum((x != 0).astype(real(x).dtype), axis=axes, keepdims=True)
    if order == 1:
        return np.sum(np.abs(x), axis=axes, keepdims=True)
    if isinstance(order, str):
        raise ValueError(f"np.linalg.norm: {order!r} is not an order of vector norms.")
    return _p_norm(x, p=float(order), axis=axes)


def _of_matrices(x: Any, order: Any, axes: tuple[int, int]) -> Any:
    """A matrix norm over two axes, which keep length 1."""
    if order in (None, "fro", "f"):
        return _p_norm(x, p=2, axis=axes)
    if order in (1, -1, np.inf, -np.inf):
        summed, chosen = axes if abs(order) == 1 else axes[::-1]
        sums = np.sum(np.abs(x), axis=summed, keepdims=True)
        return (np.max if order > 0 else np.min)(sums, axis=chosen, keepdims=True)
    readers: dict[Any, Any] = {2: np.max, -2: np.min, "nuc": np.sum}
    if order not in readers:
        raise ValueError(f"np.linalg.norm: {order!r} is not an order of matrix norms.")
    found = readers[order](np.linalg.svdvals(np.moveaxis(x, axes, (-2, -1))), axis=-1)
    return np.expand_dims(found, axes)


def _shaped(norms: Any, x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Norms along `axes`, which are still axes of length 1, in the shape that the caller asked for."""
    norms = norms if keepdims else np.squeeze(norms, axis=axes)
    if ord not in (None, 2, "fro", "f") or (ord == 2 and len(axes) > 1):
        return norms
    return rooted(norms, lambda: np.sum(real(x * conjugate(x)), axis=axes, keepdims=keepdims))


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = as_tensor(x)
    axes = tuple(range(x.ndim)) if axis is None else axes_of(axis, x.ndim, "np.linalg.norm")
    if ord is None and axis is None:
        result = _p_norm(x, p=2, axis=axes)
    elif len(axes) == 1:
        result = _of_vectors(x, ord, axes)
    elif len(axes) == 2:
        result = _of_matrices(x, ord, axes)
    else:
        raise ValueError(f"np.linalg.norm takes one axis or two, got {axis!r} of an array of shape {x.shape}.")
    return _shaped(result, x, ord, axes, keepdims)


@implements(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    axes = tuple(range(x.ndim)) if axis is None else axes_of(axis, x.ndim, "np.linalg.vector_norm")
    norms = _of_vectors(x, ord, axes)
    return _shaped(norms, x, ord if len(axes) == 1 or ord != 2 else None, axes, keepdims)


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return np.linalg.norm(x, ord=ord, axis=(-2, -1), keepdims=keepdims)


@implements(np.linalg.cond)
def cond(x: Any, p: Any = None) -> Any:
    if p not in (None, 2, -2):
        return np.linalg.norm(x, p, axis=(-2, -1)) * np.linalg.norm(np.linalg.inv(x), p, axis=(-2, -1))
    s = np.linalg.svdvals(x)
    return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]


# The array API's names.


@implements(np.linalg.trace)
def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return np.trace(x, offset, -2, -1, dtype)


@implements(np.linalg.diagonal)
def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    return np.diagonal(x, offset, -2, -1)


@implements(np.linalg.cross)
def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return np.cross(x1, x2, axis=axis)


@implements(np.linalg.outer)
def outer(x1: Any, x2: Any, /) -> Any:
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        raise ValueError(f"np.linalg.outer takes one-dimensional arrays, got {np.shape(x1)} and {np.shape(x2)}.")
    return np.outer(x1, x2)


implements(np.linalg.matmul)(lambda x1, x2, /: np.matmul(x1, x2))
implements(np.linalg.tensordot)(lambda x1, x2, /, *, axes=2: np.tensordot(x1, x2, axes=axes))


@implements(np.linalg.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return products.vecdot(x1, x2, axis=axis)
