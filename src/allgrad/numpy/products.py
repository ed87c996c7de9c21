"""Derivatives of the functions that multiply and sum: matmul, and what can be written with it.

`matmul` carries most of the work of a network. Its rules know three things:

* An x of any rank times a 2-d y is one big GEMM, forward and backward: x is flattened to two axes.
* The gradient of a 2-d y, x.T @ g with both flattened, is written straight into `into` if the engine offers it.
* Every other case is a product with swapped axes, which the engine sums to the argument's shape.

The transposes are without conjugation (JAX's convention). `vdot`, `vecdot`, `vecmat` and `correlate` conjugate in the forward
pass, because NumPy defines them so. `einsum` has its own file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.numpy.arguments import conjugate, operand, refuse
from allgrad.numpy.dispatch import implements
from allgrad.numpy.singular import product


def _rows(x: Any) -> Any:
    """All axes but the last as one."""
    return x if x.ndim == 2 else np.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _matmul(x: Any, y: Any, *, flat: bool) -> Any:
    """`flat`: y is a matrix and x has at least two axes."""
    if flat and x.ndim > 2:
        return np.matmul(_rows(x), y).reshape(*x.shape[:-1], y.shape[-1])
    return np.matmul(x, y)


def _matmul_x(g: Any, y: Any, *, flat: bool) -> Any:
    if y.ndim == 1:
        return product(np.expand_dims(g, -1), y)
    if flat:
        gx = np.matmul(_rows(g), np.transpose(y))
        return gx if g.ndim == 2 else np.reshape(gx, (*g.shape[:-1], y.shape[0]))
    if g.ndim < y.ndim:  # x is a vector
        return np.matmul(y, np.expand_dims(g, -1))[..., 0]
    return np.matmul(g, np.swapaxes(y, -1, -2))


def _matmul_y(g: Any, x: Any, *, flat: bool, into: Any) -> Any:
    if x.ndim == 1:
        return product(g, x) if g.ndim == 0 else product(np.expand_dims(g, -2), np.expand_dims(x, -1))
    if flat:
        x, g = np.transpose(_rows(x)), _rows(g)
        if into is not None and into.dtype == np.result_type(x.dtype, g.dtype):
            return np.matmul(x, g, out=into)
        return np.matmul(x, g)
    if g.ndim < x.ndim:  # y is a vector
        return np.matmul(np.transpose(_rows(x)), np.reshape(g, -1))
    return np.matmul(np.swapaxes(x, -1, -2), g)


_matmul_rule = Primitive(_matmul, name="matmul", vjp={"x": _matmul_x, "y": _matmul_y}, jvp={"x": LINEAR, "y": LINEAR})


@implements(np.matmul)
def matmul(x1: Any, x2: Any, /, **keywords: Any) -> Any:
    if keywords:
        dtype = keywords.pop("dtype", None)
        refuse("np.matmul", **keywords)
        if dtype is not None:
            x1, x2 = np.astype(operand(x1), dtype), np.astype(operand(x2), dtype)
    x1, x2 = operand(x1), operand(x2)
    return _matmul_rule(x1, x2, flat=x2.ndim == 2 and x1.ndim >= 2)


@implements(np.dot)
def dot(a: Any, b: Any, out: Any = None) -> Any:
    refuse("np.dot", out=out)
    a, b = operand(a), operand(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return np.matmul(a, b) if b.ndim <= 2 else np.tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 2,)))


@implements(np.vdot)
def vdot(a: Any, b: Any, /) -> Any:
    return np.matmul(np.ravel(conjugate(operand(a))), np.ravel(operand(b)))


@implements(np.inner)
def inner(a: Any, b: Any, /) -> Any:
    a, b = operand(a), operand(b)
    return a * b if a.ndim == 0 or b.ndim == 0 else np.tensordot(a, b, axes=((-1,), (-1,)))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Any:
    refuse("np.outer", out=out)
    return np.expand_dims(np.ravel(operand(a)), 1) * np.ravel(operand(b))


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """One GEMM: the free axes of a, the summed ones, the free ones of b."""
    a, b = operand(a), operand(b)
    over_a, over_b = _tensordot_axes(a, b, axes)
    free_a = tuple(i for i in range(a.ndim) if i not in over_a)
    free_b = tuple(i for i in range(b.ndim) if i not in over_b)
    shape_a, shape_b = tuple(a.shape[i] for i in free_a), tuple(b.shape[i] for i in free_b)
    summed = math.prod(a.shape[i] for i in over_a)
    left = np.reshape(np.transpose(a, (*free_a, *over_a)), (math.prod(shape_a), summed))
    right = np.reshape(np.transpose(b, (*over_b, *free_b)), (summed, math.prod(shape_b)))
    return np.reshape(np.matmul(left, right), (*shape_a, *shape_b))


def _tensordot_axes(a: Any, b: Any, axes: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if np.ndim(axes) == 0 and not isinstance(axes, (list, tuple)):
        n = int(axes)
        over_a, over_b = tuple(range(a.ndim - n, a.ndim)), tuple(range(n))
    else:
        first, second = axes
        over_a = tuple(int(i) % a.ndim for i in np.atleast_1d(first))
        over_b = tuple(int(i) % b.ndim for i in np.atleast_1d(second))
    if [a.shape[i] for i in over_a] != [b.shape[i] for i in over_b]:
        raise ValueError(
            f"np.tensordot(axes={axes!r}): the summed axes must agree, "
            f"got {[a.shape[i] for i in over_a]} of shape {a.shape} and {[b.shape[i] for i in over_b]} of {b.shape}."
        )
    return over_a, over_b


@implements(np.kron)
def kron(a: Any, b: Any) -> Any:
    a, b = operand(a), operand(b)
    ndim = max(a.ndim, b.ndim)
    shape_a, shape_b = (1,) * (ndim - a.ndim) + a.shape, (1,) * (ndim - b.ndim) + b.shape
    spread_a = np.reshape(a, tuple(k for n in shape_a for k in (n, 1)))
    spread_b = np.reshape(b, tuple(k for n in shape_b for k in (1, n)))
    return np.reshape(spread_a * spread_b, tuple(n * m for n, m in zip(shape_a, shape_b, strict=True)))


@implements(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(operand(a), axisa, -1), np.moveaxis(operand(b), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(
            f"np.cross is differentiated for vectors of length 3 (NumPy 2 deprecates those of length 2); "
            f"got {a.shape[-1]} and {b.shape[-1]}. For two dimensions write a[..., 0]*b[..., 1] - a[..., 1]*b[..., 0]."
        )
    parts = [a[..., i] * b[..., j] - a[..., j] * b[..., i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return np.moveaxis(np.stack(parts, axis=-1), -1, axisc)


@implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    refuse("np.trace", out=out)
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


# Convolutions. The full one is bilinear, and its transpose the correlation of the cotangent with the other argument.


_convolve_full = Primitive(
    lambda a, v: np.convolve(a, v, "full"),
    name="convolve",
    vjp={"a": lambda g, v: np.convolve(g, v[::-1], "valid"), "v": lambda g, a: np.convolve(g, a[::-1], "valid")},
    jvp={"a": LINEAR, "v": LINEAR},
)


def _convolve(a: Any, v: Any, mode: str, same_start: int) -> Any:
    full = _convolve_full(a, v)
    short, long = min(a.size, v.size), max(a.size, v.size)
    slices = {"full": slice(None), "same": slice(same_start, same_start + long), "valid": slice(short - 1, long)}
    if mode not in slices:
        raise ValueError(f"The mode of np.convolve and np.correlate is 'full', 'same' or 'valid', got {mode!r}.")
    return full if mode == "full" else full[slices[mode]]


@implements(np.convolve)
def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    a, v = _signal(a, "np.convolve"), _signal(v, "np.convolve")
    return _convolve(a, v, mode, (min(a.size, v.size) - 1) // 2)


@implements(np.correlate)
def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    a, v = _signal(a, "np.correlate"), _signal(v, "np.correlate")
    # NumPy swaps a longer v to the front and reverses the result, which moves the middle of an even number by one.
    start = (v.size - 1) // 2 if a.size >= v.size else a.size // 2
    return _convolve(a, conjugate(v)[::-1], mode, start)


def _signal(x: Any, name: str) -> Any:
    x = operand(x)
    if x.ndim > 1 or x.size == 0:
        raise ValueError(f"{name} takes one-dimensional arrays that are not empty, got shape {x.shape}.")
    return np.reshape(x, -1)


# Products along the last axes. NumPy has vecdot since 2.0, matvec and vecmat since 2.2.


@implements(np.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1, keepdims: bool = False, **keywords: Any) -> Any:
    refuse("np.vecdot", **keywords)
    x1, x2 = np.moveaxis(operand(x1), axis, -1), np.moveaxis(operand(x2), axis, -1)
    result = np.matmul(np.expand_dims(conjugate(x1), -2), np.expand_dims(x2, -1))[..., 0, 0]
    return np.expand_dims(result, axis) if keepdims else result


def matvec(x1: Any, x2: Any, /, **keywords: Any) -> Any:
    refuse("np.matvec", **keywords)
    return np.matmul(operand(x1), np.expand_dims(operand(x2), -1))[..., 0]


def vecmat(x1: Any, x2: Any, /, **keywords: Any) -> Any:
    refuse("np.vecmat", **keywords)
    return np.matmul(np.expand_dims(conjugate(operand(x1)), -2), operand(x2))[..., 0, :]


for _name, _rule in (("matvec", matvec), ("vecmat", vecmat)):
    if hasattr(np, _name):
        implements(getattr(np, _name))(_rule)
