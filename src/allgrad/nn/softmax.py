"""Softmax and its logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad import kernels
from allgrad.autodiff import Fused, Tensor
from allgrad.kernels import elementary
from allgrad.nn.module import Module
from allgrad.nn.primitives import exp, log

Array = np.ndarray[Any, Any]


def _value(x: Any) -> Array:
    return x.value if isinstance(x, Tensor) else np.asarray(x)


def row_shift(x: Any) -> Array:
    """The maximum over the last axis as a constant, since softmax does not depend on what is subtracted."""
    shift: Array = np.max(_value(x), axis=-1, keepdims=True)
    return shift


def softmax_reference(x: Any) -> Any:
    e = exp(x - row_shift(x))
    return e / np.sum(e, axis=-1, keepdims=True)


def log_softmax_reference(x: Any) -> Any:
    shifted = x - row_shift(x)
    return shifted - log(np.sum(exp(shifted), axis=-1, keepdims=True))


def _softmax_forward(x: Array) -> tuple[Array, Array]:
    y = kernels.active().softmax_forward(x)
    return y, y


_softmax = Fused(
    _softmax_forward,
    lambda g, y, *, needs: (kernels.active().softmax_backward(g, y),),  # noqa: ARG005
    name="softmax",
    reference=softmax_reference,
)


def _log_softmax_forward(x: Array) -> tuple[Array, Array]:
    y = log_softmax_reference(x)
    return y, y


_log_softmax = Fused(
    _log_softmax_forward,
    lambda g, y, *, needs: (g - elementary.exp(y) * np.sum(g, axis=-1, keepdims=True),),  # noqa: ARG005
    name="log_softmax",
    reference=log_softmax_reference,
)


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along an axis; x: any shape, float.

    >>> import numpy as np
    >>> softmax(np.zeros(4)).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return _along(_softmax, x, axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x - log(sum(exp(x))) along an axis; x: any shape, float."""
    return _along(_log_softmax, x, axis)


def _along(operation: Fused, x: Any, axis: int) -> Any:
    if axis in (-1, x.ndim - 1):
        return operation(x)
    return np.moveaxis(operation(np.moveaxis(x, axis, -1)), -1, axis)


class Softmax(Module):
    """`softmax` along an axis, by default the last (the channels). x: any shape, float."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class LogSoftmax(Module):
    """`log_softmax` along an axis, by default the last (the channels). x: any shape, float."""

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return log_softmax(x, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"
