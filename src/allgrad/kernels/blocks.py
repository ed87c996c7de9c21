"""Blocks and scratch memory that the NumPy kernels share.

A NumPy kernel makes several passes over its data. It walks in blocks that stay in the second-level cache from one pass to
the next, so that only the first pass waits for memory. (Blocks for the first level, a quarter of this, take 1.1 to 2 times
as long: each of the passes is a call.) Block sizes depend on shapes alone, never on time or address: they decide how sums are
grouped, and so decide bits.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable

Array = npt.NDArray[Any]
Pair = tuple[int, int]


class AnyDtype(dict[np.dtype[Any], Callable[..., Any]]):
    """A loop in NumPy, found by dtype as the compiled ones are (`jit.PerDtype`); other loops in NumPy call it directly."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __missing__(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        return self.setdefault(dtype, self.function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


BLOCK = 65536
"""Elements a block: 256 KB of float32."""


class _Scratch(threading.local):
    """Reused temporaries. Thread-local: the virtual workers of one rank may run as threads."""

    def __init__(self) -> None:
        self.bytes: dict[int, Array] = {}
        self.views: dict[tuple[str, int, tuple[int, ...]], Array] = {}


_scratch = _Scratch()


def scratch(dtype: np.dtype[Any], index: int, shape: tuple[int, ...]) -> Array:
    """A temporary of this thread, contents unknown; the same index is the same memory at the next call, of any dtype."""
    key = (dtype.char, index, shape)
    found = _scratch.views.get(key)
    if found is not None:
        return found
    size = math.prod(shape) * dtype.itemsize
    memory = _scratch.bytes.get(index)
    if memory is None or memory.size < size or len(_scratch.views) > 256:
        _scratch.views.clear()  # they hold the smaller memory
        memory = _scratch.bytes[index] = np.empty(max(size, BLOCK * dtype.itemsize), np.uint8)
    view = _scratch.views[key] = memory[:size].view(dtype).reshape(shape)
    return view


def spans(length: int, block: int = BLOCK) -> Iterable[slice]:
    """Consecutive slices of at most `block` elements that cover `range(length)`."""
    if 0 < length <= block:
        return (slice(0, length),)
    return (slice(start, min(start + block, length)) for start in range(0, length, block))


def rows_a_block(columns: int) -> int:
    """How many rows of this many columns make a block."""
    return max(1, BLOCK // max(columns, 1))


def constant(dtype: np.dtype[Any], value: float, length: int) -> Array:
    """A read-only vector of one value, kept for the next call. For sums by GEMV, and in place of slow NumPy scalars."""
    key = (dtype.char, float(value))
    array = _constants.get(key)
    if array is None or array.size < length:
        array = np.full(max(length, BLOCK), value, dtype)
        array.flags.writeable = False
        _constants[key] = array
    return array[:length]


_constants: dict[tuple[str, float], Array] = {}


def contiguous(x: Array) -> Array:
    """`x`, C-contiguous."""
    return np.ascontiguousarray(x)


def as_rows(x: Array) -> Array:
    """`x` as a C-contiguous matrix over its last axis (a view where it can be one)."""
    if x.ndim == 2 and x.flags.c_contiguous:
        return x
    columns = x.shape[-1] if x.ndim else 1
    return np.ascontiguousarray(x).reshape(-1, columns) if x.size else x.reshape(0, columns)


def output(out: Array | None, like: Array, shape: tuple[int, ...] | None = None) -> Array:
    """`out`, checked, or a new array of `like`'s dtype and of `shape` (default: `like`'s).

    Raises:
        ValueError: if `out` has another shape or dtype, or is not C-contiguous.
    """
    if out is None:
        return np.empty(like.shape if shape is None else shape, like.dtype)
    shape = like.shape if shape is None else shape
    if out.shape != shape or out.dtype != like.dtype or not out.flags.c_contiguous:
        raise ValueError(
            f"out must be a C-contiguous {like.dtype} array of shape {shape}. Got {out.dtype} {out.shape}, "
            f"{'contiguous' if out.flags.c_contiguous else 'not contiguous'}, instead."
        )
    return out
