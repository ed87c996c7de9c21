"""Derivatives of the functions that move entries without changing them: the transpose of each is another one."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.numpy.dispatch import implements, refuse

_reshape = Primitive(
    lambda x, *, shape, order, back: np.reshape(x, shape, order=order),  # noqa: ARG005
    name="reshape",
    vjp={"x": lambda g, *, order, back: np.reshape(g, back, order=order)},
    jvp={"x": LINEAR},
    views=True,
)


@implements(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: Any = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    refuse("np.reshape", newshape=newshape, copy=copy)
    return _reshape(a, shape=shape, order=order, back=a.shape)


@implements(np.ravel)
def ravel(a: Any, order: Any = "C") -> Any:
    return _reshape(a, shape=-1, order=order, back=a.shape)


_transpose = Primitive(
    lambda x, *, axes: np.transpose(x, axes),
    name="transpose",
    vjp={"x": lambda g, *, axes: np.transpose(g, None if axes is None else np.argsort(axes))},
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
