"""The numba kernels: each makes one pass where NumPy makes several, with bits that are the same on every CPU with fused
multiply-add.
"""

from __future__ import annotations

from allgrad.kernels import (
    numba_activations,
    numba_attention,
    numba_gradients,
    numba_losses,
    numba_norms,
    numba_pooling,
    numba_random,
    numba_recurrence,
    numba_rounding,
    numba_softmax,
    numba_tiles,
    numba_updates,
)
from allgrad.kernels.interface import Kernels
from allgrad.kernels.matmul.product import matmul


class NumbaKernels(Kernels):
    matmul = staticmethod(matmul.__call__)  # a method is called in less time than an object


kernels = NumbaKernels(
    "numba",
    activations=numba_activations,
    attention=numba_attention,
    gradients=numba_gradients,
    losses=numba_losses,
    norms=numba_norms,
    pooling=numba_pooling,
    random=numba_random,
    recurrence=numba_recurrence,
    rounding=numba_rounding,
    softmax=numba_softmax,
    tiles=numba_tiles,
    updates=numba_updates,
)
