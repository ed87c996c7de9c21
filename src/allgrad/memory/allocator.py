"""Where flat memory comes from.

An allocator is any function `(length, dtype) -> one-dimensional array of zeros`. The default takes private memory of
this process; data parallelism hands in another one, for memory that the ranks of a node share. So nothing in this
package knows of MPI.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Allocator = Callable[[int, np.dtype[Any]], Array]

ALIGNMENT = 64
"""Bytes. One cache line, and the widest vector register (AVX-512), of today's CPUs."""


def aligned_zeros(length: int, dtype: npt.DTypeLike) -> Array:
    """A one-dimensional array of zeros whose first byte stands on a 64-byte boundary.

    The pages are untouched until somebody writes to them, so that state which a rank never uses (it may belong to
    another rank's shard) costs address space, not memory.

    Args:
        length: number of elements, 0 or more.
        dtype: any NumPy dtype.

    Raises:
        ValueError: if `length` is negative.

    Example:
        >>> from allgrad.memory import aligned_zeros
        >>> a = aligned_zeros(5, "float32")
        >>> a.tolist(), a.ctypes.data % 64
        ([0.0, 0.0, 0.0, 0.0, 0.0], 0)
    """
    if length < 0:
        raise ValueError(f"aligned_zeros: length must be 0 or more. Got {length} instead.")
    dtype = np.dtype(dtype)
    raw = np.zeros(max(length, 1) * dtype.itemsize + ALIGNMENT, np.uint8)
    skip = -raw.ctypes.data % ALIGNMENT
    return raw[skip : skip + max(length, 1) * dtype.itemsize].view(dtype)[:length]


def give_back_freed() -> None:
    """Hand freed memory back to the system, where the C library can (glibc).

    For the moment after something large was freed for good: under the settings of `kernels.set_up_blas` the C library keeps
    such memory, and holes between arrays that live on may never be used again.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
