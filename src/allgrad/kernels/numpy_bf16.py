"""Rounding to bfloat16 in NumPy."""

from __future__ import annotations

import numpy as np

from allgrad.kernels.blocks import Array, scratch, spans


def bf16_encode(x: Array, out: Array) -> None:
    """See `Kernels.bf16_encode`."""
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


def bf16_decode(bits: Array, out: Array) -> None:
    """See `Kernels.bf16_decode`."""
    for span in spans(bits.size):
        wide = bits[span].astype(np.uint32)
        out[span] = np.left_shift(wide, 16, wide).view(np.float32)


def bf16_add(left: Array, right: Array, out: Array) -> None:
    """See `Kernels.bf16_add`."""
    for span in spans(left.size):
        a, b = (scratch(np.dtype(np.float32), i, left[span].shape) for i in (1, 2))
        bf16_decode(left[span], a)
        bf16_decode(right[span], b)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are for the caller to find
            np.add(a, b, a)
        bf16_encode(a, out[span])
