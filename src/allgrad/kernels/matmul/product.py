"""The matrix product of the numba kernels: for every element one chain of fused multiply-adds.

An element of the result is fma(a[i, K-1], b[K-1, j], fma(..., fma(a[i, 0], b[0, j], 0))), each step rounded once. Nothing else
decides its bits: not the tile or the vector length of the CPU, the blocks, the strides and transpositions of the arguments, the
number of rows, columns and batches around it, or the number of threads. (BLAS libraries promise none of this.)
"""

from __future__ import annotations

import platform
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import llvmlite.binding  # type: ignore[import-untyped]
import numba
import numpy as np
from numba import types

from allgrad.kernels import helpers, threads
from allgrad.kernels.jit import CompiledAddress, entry_point
from allgrad.kernels.matmul import blocking, parallel, tiles
from allgrad.kernels.matmul.arrays import ObjectAddress
from allgrad.kernels.matmul.blocking import DONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.kernels.blocks import Array

_DTYPES = "fd"


class _Memory(threading.local):
    """Per thread and dtype: scratch for packed operands, which grows to what the largest product needs, and no bias.

    `settings` has the compiled function and the address of its settings, as soon as a product needed them, for one version of
    `threads`.
    """

    def __init__(self) -> None:
        self.of: dict[np.dtype[Any], tuple[Array, Array]] = {}
        self.settings: dict[int, dict[np.dtype[Any], tuple[Callable[..., int], int]]] = {}
        self.tables: dict[np.dtype[Any], Array] = {}

    def least(self, dtype: np.dtype[Any], size: int) -> tuple[Array, Array]:
        """Scratch of at least `size` elements and an empty bias."""
        found = self.of.get(dtype)
        if found is None or found[0].size < size:
            found = np.empty(1 << max(17, size.bit_length()), dtype), np.empty(0, dtype)
            self.of[dtype] = found
            self.settings.clear()
        return found


@cache
def host_tile() -> tiles.Tile | None:
    """The tile for the CPU that numba compiles for; None if that has no fused multiply-add."""
    config: Any = numba.config
    features = config.CPU_FEATURES
    if features is None:
        features = llvmlite.binding.get_host_cpu_features().flatten()
    return tiles.choose(features, platform.machine())


@cache
def _multiply_objects() -> Callable[..., int]:
    return entry_point(blocking.multiply_objects, (types.int64, *[ObjectAddress()] * 4))


class Product:
    """Matrix products with one tile; `matmul` is the one for this CPU."""

    def __init__(self, tile: tiles.Tile, *, cache: bool = True) -> None:
        self.tile = tile
        self._here = _Memory()
        self.core, self._in_threads, self._part = (
            CompiledAddress(function, arguments, cache=cache, variant=self._constants)
            for function, arguments in (
                (blocking.product, 17),
                (parallel.product_in_threads, 17),
                (parallel.run_part, 3),
            )
        )

    def __call__(self, a: Array, b: Array, *, out: Array | None = None, bias: Array | None = None) -> Array:
        """a @ b + bias over the last two axes, with NumPy's broadcasting of the axes before them.

        Args:
            a, b: (..., rows, inner) and (..., inner, columns), both float32 or both float64, of any strides.
            out: where the result goes; of its shape and dtype, of any strides. It may overlap the arguments, at the price
                of a copy.
            bias: (columns,), added at the end (one more rounding), or None.

        Raises:
            TypeError: if the dtypes differ, or are neither float32 nor float64.
            ValueError: if shapes do not fit.
        """
        try:  # whatever does not fit is found, and named, with care
            c = np.empty((a.shape[0], b.shape[1]), a.dtype) if out is None else out
            multiply, settings = self._here.settings[threads.version][a.dtype]
            if multiply(settings, a, b, c, bias) == DONE:
                return c
        except (AttributeError, KeyError, IndexError):
            pass
        return self._with_care(a, b, out, bias)

    def _multiply(self, a: Array, b: Array, c: Array, bias: Array | None) -> int:
        """`blocking.multiply_objects`'s answer, with scratch that is large enough."""
        dtype, version, count = np.dtype(c.dtype.char), threads.version, min(threads.count, helpers.MOST)
        room, _ = self.memory(dtype, count * blocking.scratch_size(a.shape[-1], c.shape[-1]))
        if version not in self._here.settings:
            self._here.settings = {version: {}}
        known = self._here.settings[version]
        if dtype not in known:
            table = self._here.tables[dtype] = self._table(dtype, room, count)
            known[dtype] = _multiply_objects(), table.ctypes.data
        multiply, settings = known[dtype]
        return multiply(settings, a, b, c, bias)

    def _table(self, dtype: np.dtype[Any], room: Array, count: int) -> Array:
        """The settings of `blocking.multiply_objects`, and behind them, for more than one thread, those of `parallel`."""
        constants = id(np.ndarray), id(dtype), id(None), dtype.itemsize  # NumPy's native dtypes are single objects
        if count == 1:
            return np.array([self.core[dtype], room.ctypes.data, room.size, *constants], np.int64)
        threads.start()
        seat = room.size // count
        table = np.array(
            [
                self._in_threads[dtype], 0, seat, *constants, self.core[dtype], room.ctypes.data, seat * dtype.itemsize, count,
                helpers.control, self._part[dtype], *[0] * 19,
            ],
            np.int64,
        )  # fmt: skip
        table[1] = table[7:].ctypes.data
        return table

    def memory(self, dtype: np.dtype[Any], size: int) -> tuple[Array, Array]:
        """This thread's scratch of at least `size` elements and an empty bias, for `blocking.multiply`."""
        return self._here.least(dtype, size)

    def _with_care(self, a: Array, b: Array, out: Array | None, bias: Array | None) -> Array:
        shape = _checked_shape(a, b, out, bias)
        native = np.dtype(a.dtype.char)
        c = np.empty(shape, native) if out is None else out
        # More than two leading axes take several calls, of which the first may write what the second reads.
        overlaps = c.ndim > 4 and out is not None and (np.may_share_memory(c, a) or np.may_share_memory(c, b))
        if overlaps or self._run(a, b, c, bias) != DONE:
            result = np.empty(shape, native)
            answer = self._run(_plain(a), _plain(b), result, None if bias is None else _plain(bias))
            assert answer == DONE, answer
            c[...] = result
        return c

    def _run(self, a: Array, b: Array, c: Array, bias: Array | None) -> int:
        """`blocking.multiply_objects`'s answer, for any number of leading axes."""
        if c.ndim <= 4:
            return self._multiply(a, b, c, bias)
        outer = c.shape[:-4]
        a, b = (np.broadcast_to(x, (*outer, *((1, 1, *x.shape)[-4:]))) for x in (a, b))
        answers = [self._multiply(a[index], b[index], c[index], bias) for index in np.ndindex(*outer)]
        return max(answers, default=DONE)

    def _constants(self, dtype: np.dtype[Any]) -> tuple[str, dict[str, Any]]:
        return f"_{self.tile.name}", self.tile.constants(dtype)


def _plain(x: Array) -> Array:
    """A copy that compiled code can read: aligned, contiguous, of NumPy's own type and the native dtype object."""
    plain = np.empty(x.shape, x.dtype.char)
    plain[...] = x
    return plain


def _checked_shape(a: Array, b: Array, out: Array | None, bias: Array | None) -> tuple[int, ...]:
    """The shape of a @ b, for arguments that fit."""
    dtype = a.dtype
    if (
        dtype.char not in _DTYPES
        or not dtype.isnative
        or b.dtype != dtype
        or (out is not None and out.dtype != dtype)
        or (bias is not None and bias.dtype != dtype)
    ):
        given = ", ".join(str(x.dtype) for x in (a, b, out, bias) if x is not None)
        raise TypeError(f"matmul: all arrays must be float32, or all float64. Got {given} instead.")
    if out is not None and not out.flags.writeable:
        raise ValueError("matmul: out is read-only.")
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"matmul: expects a of shape (..., rows, inner) and b of shape (..., inner, columns). Got {a.shape} and {b.shape}."
        )
    shape: tuple[int, ...] = (a.shape[-2], b.shape[-1])
    if a.ndim > 2 or b.ndim > 2:
        try:
            shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + shape
        except ValueError:
            raise ValueError(f"matmul: cannot broadcast the leading axes of {a.shape} and {b.shape}.") from None
    if bias is not None and bias.shape != shape[-1:]:
        raise ValueError(f"matmul: bias must have shape {shape[-1:]}. Got {bias.shape} instead.")
    if out is not None and out.shape != shape:
        raise ValueError(f"matmul: out must have shape {shape}. Got {out.shape} instead.")
    return shape


matmul = Product(host_tile() or tiles.AVX2)
"""The product for this CPU. (`kernels.use` does not choose the numba kernels where `host_tile()` is None.)"""
