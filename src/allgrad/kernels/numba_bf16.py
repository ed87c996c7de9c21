"""Rounding to bfloat16, compiled: one pass where NumPy makes eight.

Integer arithmetic and one addition: the same bits as in NumPy, and on every CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.kernels.jit import PerDtype, compiled

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array

FLOAT32 = np.dtype(np.float32)


@compiled
def encoded(value: Any) -> Any:
    bits = np.float32(value).view(np.int32)
    rounded = np.uint16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))
    return rounded if value == value else np.uint16(0x7FC0)  # NaN differs from itself


@compiled
def decoded(bits: Any) -> Any:
    return np.int32(np.uint32(bits) << np.uint32(16)).view(np.float32)


def _encode(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = encoded(x[i])


def _decode(bits: Any, out: Any) -> None:
    for i in range(bits.size):
        out[i] = decoded(bits[i])


def _add(left: Any, right: Any, out: Any) -> None:
    for i in range(left.size):
        out[i] = encoded(decoded(left[i]) + decoded(right[i]))


_encode_loop = PerDtype(_encode, "r1 v1")
_decode_loop = PerDtype(_decode, "u1 w1")
_add_loop = PerDtype(_add, "u1 u1 v1")


def bf16_encode(x: Array, out: Array) -> None:
    """See `Kernels.bf16_encode`."""
    _encode_loop[x.dtype](x, out)


def bf16_decode(bits: Array, out: Array) -> None:
    """See `Kernels.bf16_decode`."""
    _decode_loop[out.dtype](bits, out)


def bf16_add(left: Array, right: Array, out: Array) -> None:
    """See `Kernels.bf16_add`."""
    _add_loop[FLOAT32](left, right, out)
