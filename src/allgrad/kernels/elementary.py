"""exp and log of any float array with the bits of the active kernels, for what the fused loops do not cover.

Second derivatives and a few losses need them. With the numba kernels the result is the same on every CPU; with the NumPy kernels
it is NumPy's. Dtypes other than float32 and float64 always go to NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.kernels import active

if TYPE_CHECKING:
    from allgrad.kernels.blocks import Array

__all__ = ["exp", "log"]


def exp(x: Array) -> Array:
    """e^x, within 3 units in the last place; 0 and infinity from where e^-|x| is below the normal numbers.

    Example:
        >>> exp(np.zeros(2, np.float32)).tolist()
        [1.0, 1.0]
    """
    return active().exp(x) if x.dtype.char in "fd" else np.asarray(np.exp(x))


def log(x: Array) -> Array:
    """The natural logarithm of x >= 0, within 2 units in the last place for normal numbers.

    Example:
        >>> log(np.ones(2, np.float32)).tolist()
        [0.0, 0.0]
    """
    return active().log(x) if x.dtype.char in "fd" else np.asarray(np.log(x))
