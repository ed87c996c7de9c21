"""Checks of what layers are given, and their messages: the layer, its path, what it expects, and what it got."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from allgrad.autodiff import Tensor
from allgrad.nn.errors import IndexRangeError, InputError, InputTypeError

if TYPE_CHECKING:
    from allgrad.nn.module import Module

Array = np.ndarray[Any, Any]


def refuse_input(layer: Module, x: Any, features: int, dtype: np.dtype[Any]) -> NoReturn:
    """Raise for an input that is not (..., features) of the layer's dtype."""
    _check_is_array(layer, x)
    shape = x.shape
    if not shape or shape[-1] != features:
        raise InputError(
            f"{layer.where()}: expects an input of shape (..., {features}), features last. Got shape {shape} instead."
        )
    raise InputTypeError(
        f"{layer.where()}: its parameters are {dtype}, but the input of shape {shape} is {x.dtype}. "
        f"Write x.astype(np.{dtype}), or build the layer with dtype=np.{x.dtype if x.dtype.kind == 'f' else dtype}."
    )


def refuse_image(
    layer: Module,
    x: Any,
    kinds: tuple[tuple[str, ...], ...],
    channels: int | None = None,
    dtype: np.dtype[Any] | None = None,
) -> NoReturn:
    """Raise for an input that is not (batch, *axes, channels) of the layer's dtype, with `axes` one of `kinds`."""
    _check_is_array(layer, x)
    shape = x.shape
    fitting = len(shape) in [2 + len(axes) for axes in kinds]
    if not fitting or channels not in (None, shape[-1]):
        last = "channels" if channels is None else str(channels)
        expected = " or ".join(f"({', '.join(('batch', *axes, last))})" for axes in kinds)
        hint = ""
        if fitting and shape[1] == channels:
            hint = " This looks like PyTorch's order of axes: write np.moveaxis(x, 1, -1)."
        raise InputError(f"{layer.where()}: expects shape {expected}, channels last. Got shape {shape} instead.{hint}")
    raise InputTypeError(
        f"{layer.where()}: expects {dtype or 'floating'} input. Got {x.dtype} of shape {shape} instead."
    )


def check_image(layer: Module, x: Any, axes: tuple[str, ...] = ("height", "width")) -> None:
    """Raise if x is not a floating (batch, *axes, channels)."""
    if getattr(getattr(x, "dtype", None), "kind", "") != "f" or x.ndim != 2 + len(axes):
        refuse_image(layer, x, (axes,))


def check_range(layer: Module, indices: Array, count: int, what: str, table: str) -> None:
    """Raise IndexRangeError unless 0 <= index < count for all of `indices`; kernels rely on this check."""
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= count):
        at = tuple(int(i) for i in np.argwhere((indices < 0) | (indices >= count))[0])
        raise IndexRangeError(
            f"{layer.where()}: {what} {int(indices[at])} at position {at} is out of range for {count} {table} "
            f"(array of shape {indices.shape})."
        )


def private_copy(array: Any) -> Array:
    """A read-only copy of an array that backward will need again, so that later changes by the caller do no harm."""
    copy = np.array(array.value if isinstance(array, Tensor) else array)
    copy.flags.writeable = False
    return copy


def _check_is_array(layer: Module, x: Any) -> None:
    if not hasattr(x, "dtype"):
        raise InputTypeError(f"{layer.where()}: expects an array or a Tensor. Got {type(x).__name__} instead.")
