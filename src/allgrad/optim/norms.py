"""Euclidean norms of flat memory whose bits do not depend on who holds which part.

A parameter's sum of squares is formed in fixed blocks from its first element, each in the parameter's dtype, and added
up in float64 in order. Sums over several parameters follow the order of registration. A parameter is never cut, so a
sharded optimizer gets the same numbers as an unsharded one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from allgrad.kernels import active

Array = np.ndarray[Any, np.dtype[Any]]
BLOCK = 16384


def sum_of_squares(values: Array) -> float:
    """Sum of the squares of all elements, in float64 between blocks of 16384.

    Example:
        >>> import numpy as np
        >>> from allgrad.optim.norms import sum_of_squares
        >>> sum_of_squares(np.array([3.0, 4.0]))
        25.0
    """
    flat = values.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        total += active().dot(block, block)
    return total


def norm(values: Array) -> float:
    """Euclidean norm of one array."""
    return math.sqrt(sum_of_squares(values))
