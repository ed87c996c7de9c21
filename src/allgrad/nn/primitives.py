"""Products and elementary functions on the kernels, with derivatives of every order, for the references of fused operations.

They are `np.matmul`, `np.exp`, `np.log` and `np.tanh` with the bits of the active kernels, which for the numba kernels are
the same on every CPU. So a run that takes derivatives of derivatives (a physics-informed network) is as portable as any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad import kernels
from allgrad.autodiff import Primitive
from allgrad.kernels import elementary

Array = np.ndarray[Any, Any]


def _product(a: Array, b: Array) -> Array:
    if a.dtype == b.dtype and a.dtype.char in "fd":
        return kernels.active().matmul(a, b)
    product: Array = np.matmul(a, b)
    return product


_matmul: Primitive = Primitive(
    _product,
    name="matmul",
    vjp={"a": lambda g, b: _matmul(g, np.swapaxes(b, -1, -2)), "b": lambda g, a: _matmul(np.swapaxes(a, -1, -2), g)},
    jvp={"a": lambda t, b: _matmul(t, b), "b": lambda t, a: _matmul(a, t)},
)


def matmul(a: Any, b: Any) -> Any:
    """a @ b for a (..., inner) or (..., rows, inner) and b (..., inner, columns)."""
    if a.ndim > 1:
        return _matmul(a, b)
    return np.reshape(_matmul(np.reshape(a, (1, a.shape[0])), b), (*b.shape[:-2], b.shape[-1]))


exp: Primitive = Primitive(
    lambda x: elementary.exp(x), name="exp", vjp={"x": lambda g, ans: g * ans}, jvp={"x": lambda t, ans: t * ans}
)

log: Primitive = Primitive(
    lambda x: elementary.log(x), name="log", vjp={"x": lambda g, x: g / x}, jvp={"x": lambda t, x: t / x}
)

tanh: Primitive = Primitive(
    lambda x: kernels.active().tanh(x) if x.dtype.char in "fd" else np.tanh(x),
    name="tanh",
    vjp={"x": lambda g, ans: g * (1 - ans * ans)},
    jvp={"x": lambda t, ans: t * (1 - ans * ans)},
)
