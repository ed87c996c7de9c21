"""A set of kernels: what it offers, by family of kernels, each in a file of its own.

A method has the signature and the documentation, and prepares the arrays. The loops come from a module: those in NumPy are in the
same file, and the compiled ones in `numba_<family>.py`, under the same names and with the same positional arguments. A loop that
is compiled for each dtype is found by dtype, in both.

Rules for every kernel
----------------------
- float32 and float64; computed and returned in that dtype. Inputs may have any strides (they are copied if they must
  be), outputs (`out=`, `derivative=`, gradients of weights) must be C-contiguous and of the right dtype.
- `out` may be the array that the result replaces where the docstring says so.
- The result's bits depend on values, shapes and the set of kernels; never on addresses, time, or other threads.
- Nothing is validated here beyond what would otherwise go wrong silently: layers check what users give.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.kernels.activations import Activations
from allgrad.kernels.attention import Attention
from allgrad.kernels.gradients import Gradients
from allgrad.kernels.losses import Losses
from allgrad.kernels.norms import Norms
from allgrad.kernels.pooling import Pooling
from allgrad.kernels.random import Random
from allgrad.kernels.recurrence import Recurrence
from allgrad.kernels.rounding import Rounding
from allgrad.kernels.softmax import Softmax
from allgrad.kernels.tiles import Tiles
from allgrad.kernels.updates import Updates

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array


class Kernels(
    Activations, Attention, Gradients, Losses, Norms, Pooling, Random, Recurrence, Rounding, Softmax, Tiles, Updates
):
    """The hot loops of training.

    Args:
        name: `"numpy"` or `"numba"`; recorded with each run, since bits depend on it.
        loops: for each family the module that has its loops.
    """

    def __init__(self, name: str, **loops: Any) -> None:
        self.name = name
        for family, module in loops.items():
            setattr(self, family, module)

    def matmul(self, a: Array, b: Array, *, out: Array | None = None, bias: Array | None = None) -> Array:
        """a @ b + bias over the last two axes, of a (..., rows, inner) and b (..., inner, columns); bias is (columns,).

        `out` may have any strides. In the numba kernels an element is one chain of fused multiply-adds over `inner`, the same
        on every CPU and whatever surrounds the element; in the NumPy kernels its bits are up to BLAS.
        """
        product: Array = np.matmul(a, b, out=out)
        return product if bias is None else np.add(product, bias, out=product)
