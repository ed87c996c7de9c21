"""Philox 4x64 with 10 rounds, compiled: the words of `numpy.random.Philox`, for several keys in one call.

Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011). Integer arithmetic: the same bits on every CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from allgrad.kernels.jit import compiled, per_dtype
from allgrad.kernels.matmul.llvm import inlined

MULTIPLIERS: Any = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
INCREMENTS: Any = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
"""What a round multiplies with, and what is added to the key after it."""
HALF = np.uint64(32)


@inlined
def multiply_high(typing_context: Any, a: Any, b: Any) -> Any:  # noqa: ARG001  # its parameters are its signature
    """The upper 64 bits of a product of 64-bit numbers."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(value, wide) for value in values))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), code


@compiled
def block(counter: Any, key: Any, other: Any) -> Any:
    """Four words for a counter and the two halves of a key."""
    a, b, c, d = counter, np.uint64(0), np.uint64(0), np.uint64(0)
    for _ in range(10):
        high, high_c = multiply_high(MULTIPLIERS[0], a), multiply_high(MULTIPLIERS[1], c)
        a, b, c, d = high_c ^ b ^ key, MULTIPLIERS[1] * c, high ^ d ^ other, MULTIPLIERS[0] * a
        key, other = key + INCREMENTS[0], other + INCREMENTS[1]
    return a, b, c, d


@per_dtype("k k w1")
def random_words(keys: Any, edges: Any, out: Any) -> None:
    for i in range(edges.size - 1):
        key, other = np.uint64(keys[2 * i]), np.uint64(keys[2 * i + 1])
        start, stop = edges[i], edges[i + 1]
        counter = np.uint64(0)
        for first in range(start, stop, 8):
            counter += np.uint64(1)
            words = block(counter, key, other)
            if first + 8 <= stop:
                for j in range(4):
                    out[first + 2 * j] = np.uint32(words[j])
                    out[first + 2 * j + 1] = np.uint32(words[j] >> HALF)
            else:
                for j in range(stop - first):
                    out[first + j] = np.uint32(words[j // 2] >> (HALF if j % 2 else np.uint64(0)))
