"""Where flat memory comes from.

An allocator is any function `(length, dtype) -> one-dimensional array of zeros`. The default takes private memory of
this process. Data parallelism can pass in another one, for memory that the ranks of a node share, so nothing in this
package knows MPI.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Allocator = Callable[[int, np.dtype[Any]], Array]

ALIGNMENT = 64
"""Bytes: the size of a cache line, and of the widest vector register (AVX-512), of today's CPUs."""


def aligned_zeros(length: int, dtype: npt.DTypeLike) -> Array:
    """A one-dimensional array of zeros that starts on a 64-byte boundary.

    Its pages use no memory until they are written. So state that a rank never touches (it may belong to another rank's
    shard) takes address space, but no memory.

    Args:
        length: number of elements, 0 or more.
        dtype: any NumPy dtype.

    Returns:
        (length,) of `dtype`.

    Raises:
        ValueError: `length` is negative.

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


def give_back_pages(array: Array, *, shared: bool = False) -> None:
    """Return the memory of an array's pages to the system, if it can do that (Linux); they read as zeros from then on.

    Pages that the array shares with its neighbours stay, with what they hold. `shared`: whether other processes see this memory.
    """
    start = -(-array.ctypes.data // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (array.ctypes.data + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if sys.platform.startswith("linux") and stop > start:
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        advise(start, stop - start, mmap.MADV_REMOVE if shared else mmap.MADV_DONTNEED)


def give_back_freed() -> None:
    """Return freed memory to the system, if the C library can do that (glibc).

    To be called after something large was freed for good: with the settings of `kernels.set_up_blas`, the C library keeps
    such memory, and may never reuse the holes between arrays that are still alive.
    """
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
