"""The matrix product of the numba kernels: for every element one chain of fused multiply-adds.

An element of the result is fma(a[i, K-1], b[K-1, j], fma(..., fma(a[i, 0], b[0, j], 0))), each step rounded once. Nothing else
decides its bits: not the tile or the vector length of the CPU, the blocks, the strides and transpositions of the arguments, the
number of rows, columns and batches around it, or the number of threads. (BLAS libraries promise none of this.)
"""

from __future__ import annotations

import platform
from functools import cache
from typing import TYPE_CHECKING, Any

import llvmlite.binding  # type: ignore[import-untyped]
import numba
import numpy as np

from allgrad.kernels.blocks import constant, scratch
from allgrad.kernels.jit import PerDtype, compiled, specialised
from allgrad.kernels.matmul import blocking, tiles

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array

SCRATCH = 8
"""Which of the thread's temporaries the packed operands use; no caller of the product has this one."""
_DTYPES = "fd"


@cache
def host_tile() -> tiles.Tile | None:
    """The tile for the CPU that numba compiles for; None if that has no fused multiply-add."""
    config: Any = numba.config
    features = config.CPU_FEATURES
    if features is None:
        features = llvmlite.binding.get_host_cpu_features().flatten()
    return tiles.choose(features, platform.machine())


class Product:
    """Matrix products with one tile; `matmul` is the one for this CPU."""

    def __init__(self, tile: tiles.Tile, *, cache: bool = True) -> None:
        self.tile = tile
        self._one = PerDtype(blocking.multiply, "R2 R2 W2 r1 w1", cache=cache, variant=self._variant)
        self._many = PerDtype(blocking.multiply_batches, "R4 R4 W4 r1 w1", cache=cache, variant=self._batches)

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
        shape = _checked_shape(a, b, out, bias)
        c = np.empty(shape, a.dtype) if out is None else out
        bias = constant(a.dtype, 0, 0) if bias is None else np.ascontiguousarray(bias)
        if not self._run(a, b, c, bias, shape):
            result = np.empty(shape, a.dtype)
            self._run(np.array(a), np.array(b), result, bias, shape)
            c[...] = result
        return c

    def _run(self, a: Array, b: Array, c: Array, bias: Array, shape: tuple[int, ...]) -> bool:
        """Whether these arrays could be multiplied as they are."""
        if not (a.flags.aligned and b.flags.aligned and c.flags.aligned):
            return False
        size = blocking.scratch_size(shape[-2], a.shape[-1], shape[-1], self.tile.lanes(a.dtype))
        room = scratch(a.dtype, SCRATCH, (1 << max(12, size.bit_length()),))
        if len(shape) == 2:
            return bool(self._one[a.dtype](a, b, c, bias, room))
        if np.may_share_memory(c, a) or np.may_share_memory(c, b):
            return False
        loops = self._many[a.dtype]
        a, b, c = (x[(None,) * (4 - x.ndim)] if x.ndim < 4 else x for x in (a, b, c))
        if c.ndim == 4:
            return bool(loops(a, b, c, bias, room))
        outer = shape[:-4]
        a, b = (np.broadcast_to(x, (*outer, *x.shape[-4:])) for x in (a, b))
        return all(loops(a[index], b[index], c[index], bias, room) for index in np.ndindex(*outer))

    def _variant(self, dtype: np.dtype[Any]) -> tuple[str, dict[str, Any]]:
        constants = self.tile.constants(dtype)
        helpers = {f.__name__: compiled(specialised(f, "", constants)) for f in (blocking.pack_a, blocking.pack_b)}
        return f"_{self.tile.name}", {**constants, **helpers}

    def _batches(self, dtype: np.dtype[Any]) -> tuple[str, dict[str, Any]]:
        return f"_{self.tile.name}", {"multiply": self._one[dtype]}


def _checked_shape(a: Array, b: Array, out: Array | None, bias: Array | None) -> tuple[int, ...]:
    """The shape of a @ b, for arguments that fit."""
    dtype = a.dtype
    if (
        dtype.char not in _DTYPES
        or b.dtype != dtype
        or (out is not None and out.dtype != dtype)
        or (bias is not None and bias.dtype != dtype)
    ):
        given = ", ".join(str(x.dtype) for x in (a, b, out, bias) if x is not None)
        raise TypeError(f"matmul: all arrays must be float32, or all float64. Got {given} instead.")
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
