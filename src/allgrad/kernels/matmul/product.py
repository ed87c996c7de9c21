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

from allgrad.kernels import threads
from allgrad.kernels.jit import CompiledAddress, PerDtype
from allgrad.kernels.matmul import blocking, tiles
from allgrad.kernels.matmul.blocking import COPY, DONE

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array

_DTYPES = "fd"


class _Memory(threading.local):
    """Per thread and dtype: scratch for packed operands, which grows to what the largest product needs, and no bias."""

    def __init__(self) -> None:
        self.of = {np.dtype(char): (np.empty(1 << 17, char), np.empty(0, char)) for char in _DTYPES}

    def least(self, dtype: np.dtype[Any], size: int) -> tuple[Array, Array]:
        """Scratch of at least `size` elements and an empty bias."""
        room, none = self.of[dtype]
        if room.size < size:
            self.of[dtype] = np.empty(1 << size.bit_length(), dtype), none
        return self.of[dtype]


_memory = _Memory()


@cache
def host_tile() -> tiles.Tile | None:
    """The tile for the CPU that numba compiles for; None if that has no fused multiply-add."""
    config: Any = numba.config
    features = config.CPU_FEATURES
    if features is None:
        features = llvmlite.binding.get_host_cpu_features().flatten()
    return tiles.choose(features, platform.machine())


_of_matrices = PerDtype(blocking.multiply_matrices, "n R2 R2 W2 r1 w1 b")
_of_stacks = PerDtype(blocking.multiply_batches, "n R4 R4 W4 r1 w1")


class Product:
    """Matrix products with one tile; `matmul` is the one for this CPU."""

    def __init__(self, tile: tiles.Tile, *, cache: bool = True) -> None:
        self.tile = tile
        self.core = CompiledAddress(blocking.product, 16, cache=cache, variant=self._constants)

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
        dtype = a.dtype
        # NumPy's native dtypes are single objects.
        if (
            b.dtype is dtype
            and (out is None or out.dtype is dtype)
            and (bias is None or (bias.dtype is dtype and bias.size > 0))
        ):
            try:  # whatever else does not fit is found, and named, with care
                room, none = _memory.of[dtype]
                shift = none if bias is None else bias
                if a.ndim == 2 and b.ndim == 2:
                    c = np.empty((a.shape[0], b.shape[1]), dtype) if out is None else out
                    if threads.count > 1 and a.size * c.shape[1] >= 2 * threads.LEAST:
                        if self._in_threads(a, b, c, bias) == DONE:
                            return c
                    elif _of_matrices[dtype](self.core[dtype], a, b, c, shift, room, False) == DONE:
                        return c
                elif (
                    out is not None
                    and 2 < out.ndim < 5
                    and _of_stacks[dtype](self.core[dtype], _stack(a), _stack(b), _stack(out), shift, room) == DONE
                ):
                    return out
            except (KeyError, TypeError):
                pass
        return self._with_care(a, b, out, bias)

    def _in_threads(self, a: Array, b: Array, c: Array, bias: Array | None) -> int:
        """`blocking.multiply`'s answer for rows of C on several threads, or for columns if C is wide."""
        (rows, columns), inner = c.shape, a.shape[1]
        if a.shape[0] != rows or b.shape != (inner, columns) or np.may_share_memory(c, a) or np.may_share_memory(c, b):
            return COPY
        if bias is not None and (bias.shape != (columns,) or np.may_share_memory(c, bias)):
            return COPY
        dtype = c.dtype
        loops, core, tall = _of_matrices[dtype], self.core[dtype], rows >= columns

        def part(span: slice) -> int:
            room, none = self.memory(dtype, blocking.scratch_size(inner, columns))
            if tall:
                return int(loops(core, a[span], b, c[span], none if bias is None else bias, room, False))
            return int(loops(core, a, b[:, span], c[:, span], none if bias is None else bias[span], room, False))

        step = self.tile.rows if tall else self.tile.lanes(dtype) * (self.tile.sums // self.tile.rows)
        return threads.each(part, threads.pieces(rows if tall else columns, rows * inner * columns, step))

    def memory(self, dtype: np.dtype[Any], size: int) -> tuple[Array, Array]:
        """This thread's scratch of at least `size` elements and an empty bias, for `blocking.multiply`."""
        return _memory.least(dtype, size)

    def _with_care(self, a: Array, b: Array, out: Array | None, bias: Array | None) -> Array:
        shape = _checked_shape(a, b, out, bias)
        c = np.empty(shape, a.dtype) if out is None else out
        none = self.memory(a.dtype, blocking.scratch_size(a.shape[-1], shape[-1]))[1]
        shift = none if bias is None else np.array(bias)
        # More than two leading axes take several calls, of which the first may write what the second reads.
        overlaps = c.ndim > 4 and out is not None and (np.may_share_memory(c, a) or np.may_share_memory(c, b))
        if overlaps or self._run(a, b, c, shift) != DONE:
            result = np.empty(shape, a.dtype)
            answer = self._run(np.array(a), np.array(b), result, shift)
            assert answer == DONE, answer
            c[...] = result
        return c

    def _run(self, a: Array, b: Array, c: Array, bias: Array) -> int:
        """`blocking.multiply`'s answer for matrices or stacks of them."""
        if not (a.flags.aligned and b.flags.aligned and c.flags.aligned):
            return COPY
        room = _memory.of[a.dtype][0]
        if c.ndim == 2:
            return int(_of_matrices[a.dtype](self.core[a.dtype], a, b, c, bias, room, False))
        loops, core, outer = _of_stacks[a.dtype], self.core[a.dtype], c.shape[:-4]
        a, b, c = map(_stack, (a, b, c))
        if not outer:
            return int(loops(core, a, b, c, bias, room))
        a, b = (np.broadcast_to(x, (*outer, *x.shape[-4:])) for x in (a, b))
        answers = [int(loops(core, a[index], b[index], c[index], bias, room)) for index in np.ndindex(*outer)]
        return max(answers, default=DONE)

    def _constants(self, dtype: np.dtype[Any]) -> tuple[str, dict[str, Any]]:
        return f"_{self.tile.name}", self.tile.constants(dtype)


def _stack(x: Array) -> Array:
    """`x` with leading axes of length 1, as many as make it four."""
    return x if x.ndim > 3 else x[None] if x.ndim == 3 else x[None, None]


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
