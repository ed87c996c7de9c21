"""Ranges between Tensors, and Vandermonde matrices: closed formulas in differentiated functions.

A range is a weighted mean of its ends, w * stop + (1 - w) * start, so that both ends are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.numpy.arguments import axis_of, common, operand
from allgrad.numpy.dispatch import implements


def _weights(start: Any, stop: Any, num: Any, endpoint: bool) -> tuple[Any, int]:
    """The weights 0 ... 1 along a new first axis, in a dtype that promotes neither end, and the number of steps."""
    num = int(num)
    if num < 0:
        raise ValueError(f"The number of samples must not be negative, got {num}.")
    steps = num - 1 if endpoint else num
    dtype = np.result_type(start.dtype, stop.dtype, 0.0)
    real = np.zeros((), dtype).real.dtype
    ndim = max(start.ndim, stop.ndim)
    return (np.arange(num, dtype=real) / real.type(max(steps, 1))).reshape(-1, *(1,) * ndim), steps


def _place(y: Any, axis: int, dtype: Any) -> Any:
    y = np.moveaxis(y, 0, axis_of(axis, y.ndim, "np.linspace"))
    return y if dtype is None else y.astype(dtype)


@implements(np.linspace)
def linspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:  # fmt: skip
    start, stop = common(start, stop)
    w, steps = _weights(start, stop, num, endpoint)
    y = _place((1 - w) * start + w * stop, axis, _floating(dtype, "np.linspace"))
    if not retstep:
        return y
    return y, (stop - start) / steps if steps > 0 else np.full(np.broadcast_shapes(start.shape, stop.shape), np.nan)


@implements(np.logspace)
def logspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Any:  # fmt: skip
    start, stop = common(start, stop)
    w, _ = _weights(start, stop, num, endpoint)
    return _place(np.power(base, (1 - w) * start + w * stop), axis, _floating(dtype, "np.logspace"))


@implements(np.geomspace)
def geomspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:  # fmt: skip
    start, stop = operand(start), operand(stop)
    w, _ = _weights(start, stop, num, endpoint)
    if bool(np.any(start == 0)) or bool(np.any(stop == 0)):
        raise ValueError("np.geomspace: a geometric sequence cannot include zero.")
    return _place(start * np.exp(w * np.log(stop / start)), axis, _floating(dtype, "np.geomspace"))


def _floating(dtype: Any, name: str) -> Any:
    if dtype is not None and np.dtype(dtype).kind not in "fc":
        raise TypeError(
            f"{name}(dtype={np.dtype(dtype)}) of tracked ends rounds them away; leave dtype out, or .detach()."
        )
    return dtype


@implements(np.vander)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    x = operand(x)
    x = np.astype(x, np.promote_types(x.dtype, int))  # as NumPy does: float32 becomes float64
    if x.ndim != 1:
        raise ValueError(f"np.vander takes a one-dimensional array, got shape {x.shape}.")
    n = x.shape[0] if N is None else int(N)
    columns = [np.ones(x.shape, x.dtype)]
    for _ in range(n - 1):
        columns.append(columns[-1] * x)
    columns = columns[:n] if increasing else columns[:n][::-1]
    return np.stack(columns, axis=1) if columns else np.reshape(x[:0], (0,)) * np.ones((x.shape[0], 0), x.dtype)
