"""Linear functions along one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.scipy.registry import operand, value

if TYPE_CHECKING:
    from collections.abc import Callable


def by_matrix(function: Callable[[Any], Any], x: Any, axis: int) -> Any:
    """`function`, which is linear along the last axis of an array, applied along `axis` of a Tensor.

    Its matrix is found by applying it to the unit vectors, so the cost is O(n^2) for n samples.
    """
    x = np.moveaxis(operand(x), axis, -1)
    matrix = np.asarray(function(np.eye(x.shape[-1], dtype=value(x).real.dtype)))
    if matrix.dtype.kind != "c":
        matrix = matrix.astype(value(x).real.dtype)
    return np.moveaxis(np.matmul(x, matrix), -1, axis)
