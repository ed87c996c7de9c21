"""Matrix products of bfloat16 numbers with float32 sums.

bfloat16 has float32's exponent and 8 bits of precision, so a product of two of them is exact in float32. A product of matrices in
this mode is therefore defined as: round both operands to the nearest bfloat16 (ties to even), and multiply them as float32 with
the active kernels. Nothing else changes: results, sums, weights and optimizer are float32. The numba kernels add in one order, so
the bits are the same on every CPU and at any thread count, as in float32.

This is an emulation: it costs two passes over the operands on top of a float32 product. CPUs with bfloat16 instructions
(`vdpbf16ps`) would be faster than float32; those instructions add pairs in another order and flush subnormal numbers to zero, so
they would give other bits. They are not used.

    with bf16.products(True):
        kernels.active().matmul(a, b)

The mode belongs to the context (thread). Products of float64 are left as they are.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import kernels
from allgrad.kernels.blocks import spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allgrad.kernels.blocks import Array

__all__ = ["EMULATED", "enabled", "products", "rounded"]

EMULATED = (
    "bf16 is emulated: operands of products are rounded to bfloat16 and multiplied in float32. That has bfloat16's accuracy, is "
    "slower than float32, and saves no memory."
)
"""What a user should be told, once."""

_mode: ContextVar[bool] = ContextVar("allgrad_bf16", default=False)
_lock = threading.Lock()


def enabled() -> bool:
    """Whether products are in bfloat16 here."""
    return _mode.get()


@contextmanager
def products(on: bool) -> Iterator[None]:
    """A context in which matrix products of float32 arrays round their operands to bfloat16, or do not."""
    if on:
        _install()
    token = _mode.set(on)
    try:
        yield
    finally:
        _mode.reset(token)


def rounded(x: Array) -> Array:
    """The nearest bfloat16 numbers (ties to even) as a new float32 array; x: any shape, float32.

    Infinity and NaN stay. Numbers beyond the largest bfloat16 become infinite, as in float32.

    >>> rounded(np.array([1.0, 1.00390625, 1.01171875, -3.14159], np.float32)).tolist()
    [1.0, 1.0, 1.015625, -3.140625]
    """
    if not x.flags.c_contiguous and x.ndim > 1 and x.mT.flags.c_contiguous:
        return rounded(x.mT).mT
    source, result = np.ascontiguousarray(x).reshape(-1), np.empty(x.shape, np.float32)
    target, active = result.reshape(-1), kernels.active()
    for span in spans(source.size):
        bits = np.empty(source[span].shape, np.uint16)
        active.bf16_encode(source[span], bits)
        active.bf16_decode(bits, target[span])
    return result


class _Product:
    """The active kernels' product, with the mode looked up at each call."""

    def __init__(self, product: Callable[..., Array]) -> None:
        self.product = product

    def __call__(self, a: Array, b: Array, *, out: Array | None = None, bias: Array | None = None) -> Array:
        if _mode.get() and a.dtype == b.dtype == np.float32:
            a, b = rounded(a), rounded(b)
        return self.product(a, b, out=out, bias=bias)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.product, name)


def _install() -> None:
    """Put the mode between the active kernels and their product, at its first use; float32 runs never pay for it."""
    active: Any = kernels.active()
    with _lock:
        if not isinstance(active.matmul, _Product):
            active.matmul = _Product(active.matmul)
