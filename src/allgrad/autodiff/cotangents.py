"""What a cotangent must be like: the first one of a walk, what hooks make of it, and how it fits the argument it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import CotangentError
from allgrad.autodiff.operators import Operators

if TYPE_CHECKING:
    from allgrad.autodiff.node import Node


def first_cotangent(root: Any, cotangent: Any) -> Any:
    """The cotangent that a walk from the Tensor `root` starts with: `cotangent` in its dtype, or 1 if it is one number."""
    if cotangent is None:
        value = root.value
        if value.size != 1:
            raise CotangentError(
                f"The gradient of a result of shape {root.shape} needs a cotangent of that shape; "
                "only that of a single number may go without. Sum it first, or use ag.jacobian or ag.vjp."
            )
        one = np.empty(value.shape, value.dtype)  # np.ones takes six times as long
        one.fill(1)
        return one
    shape = np.shape(cotangent)
    if shape != root.shape:
        raise CotangentError(f"The cotangent must have the shape of the result, {root.shape}; got {shape}.")
    given = cotangent if isinstance(cotangent, Operators) else np.asarray(cotangent)
    if given.dtype.kind not in "fciub":
        raise CotangentError(f"The cotangent must hold numbers; got {given.dtype}.")
    if given.dtype.kind == "c" and root.dtype.kind != "c":
        raise CotangentError(f"The cotangent is complex, but the result is {root.dtype}.")
    return given.astype(root.dtype)  # a copy: the walk may add to it


def run_hooks(node: Node, g: Any, tensors: bool) -> Any:
    """`g`, or what the hooks of `node` replace it with, in the node's dtype; `tensors` says whether it may be a Tensor."""
    for hook in list(node.hooks or ()):
        replaced = hook(g)
        if replaced is not None:
            if np.shape(replaced) != np.shape(g):
                raise CotangentError(
                    f"A hook must return the shape it was given, {np.shape(g)}; it returned {np.shape(replaced)}."
                )
            g = replaced if isinstance(replaced, Operators) else np.asarray(replaced)
            if isinstance(g, Operators) and not tensors:
                g = g.value
            g = cast(g, node.dtype)
    return g


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum `g` over the axes along which an argument of `shape` was broadcast."""
    extra = g.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1)
    if extra < 0 or any(n not in (1, g.shape[extra + i]) for i, n in enumerate(shape)):
        raise CotangentError(f"A vjp rule gave shape {g.shape} for an argument of shape {shape}: the rule is wrong.")
    g = np.sum(g, axis=axes, keepdims=True)
    return np.reshape(g, shape) if extra else g


def cast(g: Any, dtype: np.dtype[Any]) -> Any:
    """`g` in an argument's dtype; of a complex cotangent for a real argument the real part counts."""
    if g.dtype.kind == "c" and dtype.kind != "c":
        g = np.real(g)
    return g if g.dtype == dtype else g.astype(dtype)
