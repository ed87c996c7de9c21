"""Matrices the way PyTorch lays them out.

Inside, a linear layer's weight is (in, out); PyTorch's is (out, in). An optimizer that tells rows from columns must see
what PyTorch's sees, or the same settings would train differently. A parameter that knows how it is laid out says so by its
`layout` (nn.Parameter); any other leaf is taken as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from allgrad.autodiff import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


def as_torch(leaf: Tensor, array: Array) -> Array:
    """A view of `array` (of the leaf's shape) in PyTorch's layout.

    Raises:
        ValueError: if the parameter's layout is not a mere view, so that an update in place would be lost.
    """
    layout = getattr(leaf, "layout", None)
    if layout is None:
        return array
    view: Array = layout.to_torch(array)
    if array.size and not np.shares_memory(view, array):
        raise ValueError(f"parameter {getattr(leaf, 'name', None)!r}: its PyTorch layout is a copy, not a view.")
    return view
