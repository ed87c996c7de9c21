"""Rounding to bfloat16, compiled: one pass where NumPy makes eight.

Integer arithmetic and one addition: the same bits as in NumPy, and on every CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.jit import compiled, per_dtype


@compiled
def encoded(value: Any) -> Any:
    bits = np.float32(value).view(np.int32)
    rounded = np.uint16((bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))) >> np.int32(16))
    return rounded if value == value else np.uint16(0x7FC0)  # NaN differs from itself


@compiled
def decoded(bits: Any) -> Any:
    return np.int32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@per_dtype("r1 v1")
def bf16_encode(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = encoded(x[i])


@per_dtype("u1 w1")
def bf16_decode(bits: Any, out: Any) -> None:
    for i in range(bits.size):
        out[i] = decoded(bits[i])


@per_dtype("u1 u1 v1")
def bf16_add(left: Any, right: Any, out: Any) -> None:
    for i in range(left.size):
        out[i] = encoded(decoded(left[i]) + decoded(right[i]))
