"""Where the backward pass of a fused operation writes the gradient of a parameter."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def write_gradient(gradient: Array, into: Array | None) -> Array:
    """The gradient in the memory `into` that backward offers, or as it is if `into` is None."""
    if into is None:
        return gradient
    np.copyto(into, gradient)
    return into
