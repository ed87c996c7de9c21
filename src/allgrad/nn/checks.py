"""What layers say about arrays that they cannot take: the layer, its path, what it expects, and what came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from allgrad.nn.module import Module


def refuse_input(layer: Module, x: Any, features: int, dtype: np.dtype[Any]) -> NoReturn:
    """Raise for an input that is not (..., features) of the layer's dtype."""
    shape = np.shape(x)
    if not hasattr(x, "dtype"):
        raise TypeError(f"{layer.where()}: expects an array or a Tensor. Got {type(x).__name__} instead.")
    if not shape or shape[-1] != features:
        raise ValueError(
            f"{layer.where()}: expects an input of shape (..., {features}), the features last. Got shape {shape} instead."
        )
    raise TypeError(
        f"{layer.where()}: its parameters are {dtype}, and the input of shape {shape} is {x.dtype}. "
        f"Write x.astype(np.{dtype}), or build the layer with dtype=np.{x.dtype if x.dtype.kind == 'f' else dtype}."
    )
