"""Derivatives of the functions that move entries without changing them: the transpose of each is another one.

There are five primitives (reshape, transpose, flip, broadcast_to, astype); the rest is composed of them and of indexing.
Padding, which computes new entries, has its own file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import axes_of, axis_of, operand, refuse
from allgrad.numpy.dispatch import implements

# These call the methods of arrays and Tensors: NumPy's functions find their way to them in twice the time.
_reshape = Primitive(
    lambda x, *, shape, order, back: x.reshape(shape, order=order),  # noqa: ARG005
    name="reshape",
    vjp={"x": lambda g, *, order, back: g.reshape(back, order=order)},
    jvp={"x": LINEAR},
    views=True,
)


def _order(order: str, x: Any) -> str:
    """The order as "C" or "F". "A" and "K" depend on the memory layout, which the cotangent need not share."""
    fortran = x.value.flags.f_contiguous and not x.value.flags.c_contiguous
    if order == "K" and not (x.value.flags.c_contiguous or fortran):
        raise ValueError(
            "order='K' of an array that is contiguous in neither order is not differentiated; use 'C' or 'F'."
        )
    return order if order in ("C", "F") else "F" if fortran else "C"


@implements(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: Any = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    if newshape is not None or copy is not None:
        refuse("np.reshape", newshape=newshape, copy=copy)
    return _reshape(a, shape=shape, order=order if order == "C" else _order(order, a), back=a.shape)


@implements(np.ravel)
def ravel(a: Any, order: Any = "C") -> Any:
    return _reshape(a, shape=-1, order=order if order == "C" else _order(order, a), back=a.shape)


_transpose = Primitive(
    lambda x, *, axes: x.transpose(axes),
    name="transpose",
    vjp={"x": lambda g, *, axes: g.transpose(axes and sorted(range(len(axes)), key=axes.__getitem__))},
    jvp={"x": LINEAR},
    views=True,
)


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    return _transpose(a, axes=None if axes is None else tuple(int(i) % a.ndim for i in axes))


_broadcast_to = Primitive(
    lambda x, *, shape: np.broadcast_to(x, shape),
    name="broadcast_to",
    vjp={"x": lambda g: g},  # the engine sums a cotangent to its argument's shape
    jvp={"x": LINEAR},
    views=True,
)


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: Any = None) -> Any:
    refuse("np.broadcast_to", subok=subok or None)
    return _broadcast_to(array, shape=shape)


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: Any = None) -> Any:
    refuse("np.broadcast_arrays", subok=subok or None)
    shape = np.broadcast_shapes(*(np.shape(x) for x in args))
    return tuple(np.broadcast_to(x, shape) for x in args)


_flip = Primitive(
    lambda x, *, axis: np.flip(x, axis),
    name="flip",
    vjp={"x": lambda g, *, axis: np.flip(g, axis)},
    jvp={"x": LINEAR},
    views=True,
)


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    return _flip(m, axis=axis)


@implements(np.fliplr)
def fliplr(m: Any) -> Any:
    return _flip(_at_least(m, 2, "np.fliplr"), axis=1)


@implements(np.flipud)
def flipud(m: Any) -> Any:
    return _flip(_at_least(m, 1, "np.flipud"), axis=0)


def _at_least(m: Any, ndim: int, name: str) -> Any:
    if m.ndim < ndim:
        raise ValueError(f"{name} needs at least {ndim} axes, got shape {m.shape}.")
    return m


@implements(np.rot90)
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    first, second = (axis_of(i, m.ndim, "np.rot90") for i in axes)
    if first == second:
        raise ValueError(f"np.rot90: the axes must be different, got {axes!r}.")
    k = k % 4
    if k == 0:
        return m[...]
    if k == 2:
        return np.flip(m, (first, second))
    return np.swapaxes(np.flip(m, second), first, second) if k == 1 else np.flip(np.swapaxes(m, first, second), second)


# Type and copies.

_astype = Primitive(
    lambda x, *, dtype, copy: x.astype(dtype, copy=copy),
    name="astype",
    vjp={"x": lambda g: g},  # the engine casts a cotangent to its argument's dtype
    jvp={"x": LINEAR},
    views=True,
)


@implements(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    refuse("np.astype", device=device)
    return _astype(x, dtype=np.dtype(dtype), copy=copy)


_real = Primitive(
    np.real, name="real", arguments=("x",), vjp={"x": lambda g: g}, jvp={"x": lambda t: np.real(t)}, views=True
)
implements(np.real)(lambda val: _real(val))

_copy = Primitive(np.copy, name="copy", arguments=("x",), vjp={"x": lambda g: g}, jvp={"x": LINEAR})
implements(np.copy)(lambda a, order="K", subok=False: _copy(a))  # noqa: ARG005


# Axes come, go and change places.


@implements(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Any:
    gone = [i for i, n in enumerate(a.shape) if n == 1] if axis is None else axes_of(axis, a.ndim, "np.squeeze")
    if any(a.shape[i] != 1 for i in gone):
        raise ValueError(f"np.squeeze: axis {axis!r} of an array of shape {a.shape} is not of length 1.")
    return np.reshape(a, tuple(n for i, n in enumerate(a.shape) if i not in gone))


@implements(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    ndim = a.ndim + (len(axis) if isinstance(axis, (tuple, list)) else 1)
    new = axes_of(axis, ndim, "np.expand_dims")
    old = iter(a.shape)
    return np.reshape(a, tuple(1 if i in new else next(old) for i in range(ndim)))


@implements(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    order = list(range(a.ndim))
    i, j = axes_of(axis1, a.ndim, "np.swapaxes")[0], axes_of(axis2, a.ndim, "np.swapaxes")[0]
    order[i], order[j] = order[j], order[i]
    return _transpose(a, axes=tuple(order))


@implements(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    return np.swapaxes(_at_least(x, 2, "np.matrix_transpose"), -1, -2)


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    before, after = axes_of(source, a.ndim, "np.moveaxis"), axes_of(destination, a.ndim, "np.moveaxis")
    if len(before) != len(after):
        raise ValueError(f"np.moveaxis: {len(before)} axes cannot go to {len(after)} places.")
    order = [i for i in range(a.ndim) if i not in before]
    for place, i in sorted(zip(after, before, strict=True)):
        order.insert(place, i)
    return _transpose(a, axes=tuple(order))


@implements(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    moved = axis_of(axis, a.ndim, "np.rollaxis")
    start = a.ndim if start == a.ndim else axis_of(start, a.ndim, "np.rollaxis")
    order = [i for i in range(a.ndim) if i != moved]
    order.insert(start - (moved < start), moved)
    return _transpose(a, axes=tuple(order))


def _atleast(x: Any, ndim: int) -> Any:
    x = operand(x)
    if x.ndim >= ndim:
        return x
    new = {1: (1,), 2: (1,) * (2 - x.ndim) + x.shape, 3: ((1,) * (2 - x.ndim) + (*x.shape, 1))[-3:]}[ndim]
    return np.reshape(x, new if ndim < 3 or x.ndim else (1, 1, 1))


def _declare_atleast(function: Any, ndim: int) -> None:
    def rule(*arrays: Any) -> Any:
        found = tuple(_atleast(x, ndim) for x in arrays)
        return found[0] if len(found) == 1 else found

    implements(function)(rule)


_declare_atleast(np.atleast_1d, 1)
_declare_atleast(np.atleast_2d, 2)
_declare_atleast(np.atleast_3d, 3)


# Entries move along their axes, and repeat.

_roll = Primitive(
    lambda x, *, shift, axis: np.roll(x, shift, axis),
    name="roll",
    vjp={"x": lambda g, *, shift, axis: np.roll(g, tuple(-s for s in shift), axis)},
    jvp={"x": LINEAR},
)


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    shifts = tuple(int(s) for s in np.ravel(shift))
    if axis is None:
        return np.reshape(_roll(np.ravel(a), shift=(sum(shifts),), axis=(0,)), a.shape)
    axes = tuple(axis_of(i, a.ndim, "np.roll") for i in np.ravel(axis))
    pairs = np.broadcast(shifts, axes)
    return _roll(a, shift=tuple(int(s) for s, _ in pairs), axis=tuple(int(i) for _, i in np.broadcast(shifts, axes)))


@implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    if axis is None:
        a, axis = np.ravel(a), 0
    axis = axis_of(axis, a.ndim, "np.repeat")
    repeats = np.asarray(repeats)
    if repeats.size != 1:
        return np.take(a, np.repeat(np.arange(a.shape[axis]), repeats), axis)
    n, shape = int(repeats.reshape(())), a.shape
    wide = np.broadcast_to(np.expand_dims(a, axis + 1), (*shape[: axis + 1], n, *shape[axis + 1 :]))
    return np.reshape(wide, (*shape[:axis], shape[axis] * n, *shape[axis + 1 :]))


@implements(np.tile)
def tile(A: Any, reps: Any) -> Any:
    times = tuple(int(r) for r in (reps if np.ndim(reps) else (reps,)))
    ndim = max(A.ndim, len(times))
    shape, times = (1,) * (ndim - A.ndim) + A.shape, (1,) * (ndim - len(times)) + times
    apart = np.reshape(A, tuple(k for n in shape for k in (1, n)))
    wide = np.broadcast_to(apart, tuple(k for n, r in zip(shape, times, strict=True) for k in (r, n)))
    return np.reshape(wide, tuple(n * r for n, r in zip(shape, times, strict=True)))


@implements(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    shape = (int(new_shape),) if np.ndim(new_shape) == 0 else tuple(int(n) for n in new_shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"np.resize: all lengths of new_shape must be at least 0, got {new_shape!r}.")
    if a.size == 0:
        return Tensor(np.zeros(shape, a.dtype))
    return np.reshape(np.take(a, np.arange(math.prod(shape)) % a.size), shape)


@implements(np.full_like)
def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Any:  # fmt: skip
    """Differentiated by the fill value. NumPy only looks for Tensors in `a`: np.full_like(array, tensor) raises."""
    refuse("np.full_like", device=device, order=None if order in ("K", "C") else order, subok=None if subok else subok)
    shape = a.shape if shape is None else shape
    wanted = np.dtype(a.dtype if dtype is None else dtype)
    if not isinstance(fill_value, Tensor):
        return Tensor(np.full(shape, fill_value, wanted))
    return np.copy(np.broadcast_to(fill_value.astype(wanted), shape))
