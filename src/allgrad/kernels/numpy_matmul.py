"""Matrix products by NumPy, which hands them to its BLAS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array


def matmul(a: Array, b: Array, *, out: Array | None = None, bias: Array | None = None) -> Array:
    """See `Kernels.matmul`."""
    product: Array = np.matmul(a, b, out=out)
    return product if bias is None else np.add(product, bias, out=product)
