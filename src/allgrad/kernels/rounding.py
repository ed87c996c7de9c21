"""bfloat16 as the upper half of a float32, in uint16, with loops in NumPy. All arrays are one-dimensional."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.blocks import AnyDtype, Array, scratch, spans

FLOAT32 = np.dtype(np.float32)


class Rounding:
    rounding: Any

    def bf16_encode(self, x: Array, out: Array) -> None:
        """out = the nearest bfloat16 of each float32 or float64 number (ties to even, as PyTorch does; NaN becomes 0x7FC0)."""
        self.rounding.bf16_encode[x.dtype](x, out)

    def bf16_decode(self, bits: Array, out: Array) -> None:
        """out = the values of bfloat16 numbers, as float32 or float64."""
        self.rounding.bf16_decode[out.dtype](bits, out)

    def bf16_add(self, left: Array, right: Array, out: Array) -> None:
        """out = the sums of two arrays of bfloat16 numbers, added in float32 and rounded; `out` may be one of them."""
        self.rounding.bf16_add[FLOAT32](left, right, out)


@AnyDtype
def bf16_encode(x: Array, out: Array) -> None:
    for span in spans(x.size):
        with np.errstate(over="ignore"):  # a float64 beyond float32's range becomes infinite
            values = np.ascontiguousarray(x[span], np.float32)
        bits = values.view(np.uint32)
        rounded = scratch(bits.dtype, 0, bits.shape)
        np.right_shift(bits, 16, rounded)
        np.bitwise_and(rounded, 1, rounded)
        np.add(rounded, 0x7FFF, rounded)
        np.add(rounded, bits, rounded)
        out[span] = np.right_shift(rounded, 16, rounded)
        nan = np.isnan(values)
        if nan.any():
            out[span][nan] = 0x7FC0


@AnyDtype
def bf16_decode(bits: Array, out: Array) -> None:
    for span in spans(bits.size):
        wide = bits[span].astype(np.uint32)
        out[span] = np.left_shift(wide, 16, wide).view(np.float32)


@AnyDtype
def bf16_add(left: Array, right: Array, out: Array) -> None:
    for span in spans(left.size):
        a, b = (scratch(FLOAT32, i, left[span].shape) for i in (1, 2))
        bf16_decode(left[span], a)
        bf16_decode(right[span], b)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are for the caller to find
            np.add(a, b, a)
        bf16_encode(a, out[span])
