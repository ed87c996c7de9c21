"""Parameters in PyTorch's layout.

Here a linear layer's weight is (in, out); PyTorch's is (out, in). An optimizer that distinguishes rows from columns must
work on PyTorch's layout, or the same settings would train differently. A parameter with a layout of its own has an
attribute `layout` (see `nn.Parameter`); any other leaf is used as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from allgrad.autodiff import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


def to_torch(leaf: Tensor, array: Array) -> Array:
    """An array of the leaf's shape in PyTorch's layout: a view or a copy."""
    layout = getattr(leaf, "layout", None)
    return array if layout is None else np.asarray(layout.to_torch(array))


def from_torch(leaf: Tensor, array: Array) -> Array:
    """The way back from `to_torch`: a view or a copy."""
    layout = getattr(leaf, "layout", None)
    return array if layout is None else np.asarray(layout.from_torch(array))
