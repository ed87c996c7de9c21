"""Derivatives of the functions that reduce axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.numpy.dispatch import implements, refuse


def spread(g: Any, axis: Any, keepdims: bool, shape: tuple[int, ...]) -> Any:
    """A reduced array in the shape of what it was reduced from: the reduced axes come back by broadcasting."""
    if not keepdims and axis is not None:
        g = np.expand_dims(g, axis)
    return np.broadcast_to(g, shape)


_sum = Primitive(
    lambda x, *, axis, keepdims, shape: np.sum(x, axis=axis, keepdims=keepdims),  # noqa: ARG005
    name="sum",
    vjp={"x": lambda g, *, axis, keepdims, shape: spread(g, axis, keepdims, shape)},
    jvp={"x": LINEAR},
)


@implements(np.sum)
def sum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    refuse("np.sum", out=out)
    if dtype is not None:
        a = np.astype(a, dtype)
    if where is not True:
        a = np.where(where, a, np.zeros((), a.dtype))
    total = _sum(a, axis=axis, keepdims=bool(keepdims), shape=a.shape)
    return total if initial is None or initial is np._NoValue else total + initial
