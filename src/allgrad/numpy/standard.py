"""Functions of NumPy with the array API's further arguments: `sort(descending=)`, `clip(min=, max=)`, `fftfreq(dtype=)`.

They take all that NumPy's take. See docs/array_api.md for what else differs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import UNSET, cast, operand


def clip(
    a: Any, min: Any = UNSET, max: Any = UNSET, out: Any = None, *, a_min: Any = UNSET, a_max: Any = UNSET, **keywords: Any
) -> Any:  # fmt: skip
    """`np.clip`, whose bounds may be named min and max, or a_min and a_max."""
    low, high = (b if b is not UNSET else a for b, a in ((min, a_min), (max, a_max)))
    return np.clip(operand(a), None if low is UNSET else low, None if high is UNSET else high, out=out, **keywords)


def sort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None, descending: bool = False
) -> Any:  # fmt: skip
    """`np.sort`; with `descending`, the largest first and equal entries in their order."""
    a = operand(a)
    if not descending:
        return np.sort(a, axis, kind, order, stable=stable)
    return np.take_along_axis(a, argsort(a, axis, descending=True), axis)


def argsort(
    a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None, descending: bool = False
) -> Any:  # fmt: skip
    """`np.argsort`; with `descending`, the largest first and equal entries in their order."""
    a = operand(a)
    if not descending:
        return np.argsort(a, axis, kind, order, stable=stable)
    last = a.shape[axis] - 1
    return last - np.flip(np.argsort(np.flip(a, axis), axis, stable=True), axis)


def fftfreq(n: int, d: Any = 1.0, *, device: Any = None, dtype: Any = None) -> Any:
    """`np.fft.fftfreq`, in a dtype."""
    return _in(np.fft.fftfreq(n, d, device=device), dtype)


def rfftfreq(n: int, d: Any = 1.0, *, device: Any = None, dtype: Any = None) -> Any:
    """`np.fft.rfftfreq`, in a dtype."""
    return _in(np.fft.rfftfreq(n, d, device=device), dtype)


def _in(x: Any, dtype: Any) -> Any:
    return x if dtype is None else cast(x, np.dtype(dtype))


def finfo(type: Any, /) -> Any:
    """`np.finfo` of a dtype, an array or a Tensor."""
    return np.finfo(_dtype_of(type))


def iinfo(type: Any, /) -> Any:
    """`np.iinfo` of a dtype, an array or a Tensor."""
    return np.iinfo(_dtype_of(type))


def _dtype_of(x: Any) -> Any:
    return x.dtype if isinstance(x, (Tensor, np.ndarray)) else x
