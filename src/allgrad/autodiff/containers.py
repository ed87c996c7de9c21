"""Nested dicts, lists and tuples of arrays: taken apart into a flat list, and put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import CotangentError, NotDifferentiableError
from allgrad.autodiff.operators import Operators

if TYPE_CHECKING:
    from collections.abc import Callable


def flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The leaves of `tree`, in order, and a function that builds the same structure from a list of as many leaves.

    >>> leaves, build = flatten({"a": 1.0, "b": (2.0, [3.0])})
    >>> leaves, build([x * 2 for x in leaves])
    ([1.0, 2.0, 3.0], {'a': 2.0, 'b': (4.0, [6.0])})
    """
    leaves: list[Any] = []
    _collect(tree, leaves)
    return leaves, lambda new: _rebuild(tree, iter(new).__next__)


def _collect(tree: Any, leaves: list[Any]) -> None:  # no closure that calls itself: that would be a reference cycle
    if isinstance(tree, (dict, list, tuple)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            if type(value) is np.ndarray:
                leaves.append(value)
            else:
                _collect(value, leaves)
    elif tree is not None:
        leaves.append(tree)


def _rebuild(tree: Any, take: Callable[[], Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _rebuild(value, take) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        items = [_rebuild(value, take) for value in tree]
        if isinstance(tree, list):
            return items
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    return None if tree is None else take()


def map_tensors(function: Callable[[Any], Any], tree: Any) -> Any:
    """`tree` with every Tensor in it replaced by `function(tensor)`; everything else stays."""
    leaves, build = flatten(tree)
    return build([function(x) if isinstance(x, Operators) else x for x in leaves])


def ravel(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """All numbers in nested dicts, lists and tuples of arrays as one vector, and the function that puts a vector back.

    Both directions are differentiable, so a vector optimizer (SciPy's `minimize`) can work on nested parameters.

    Args:
        tree: floating, complex or integer arrays, Tensors and numbers, nested.

    Returns:
        (vector, unravel): vector has shape (sum of sizes,) and the dtype that all arrays fit in; unravel(vector) has the
        structure, shapes and dtypes of `tree`.

    Raises:
        NotDifferentiableError: something in `tree` is not an array of numbers.
        CotangentError: from unravel, if the vector has another length.

    >>> import numpy as np, allgrad as ag
    >>> vector, unravel = ag.ravel({"a": np.array([[1.0, 2.0]]), "b": 3.0})
    >>> vector, unravel(vector * 2)
    (array([1., 2., 3.]), {'a': array([[2., 4.]]), 'b': np.float64(6.0)})
    """
    given, build = flatten(tree)
    leaves = [x if isinstance(x, Operators) else np.asarray(x) for x in given]
    for x, original in zip(leaves, given, strict=True):
        if x.dtype.kind not in "fciub":
            raise NotDifferentiableError(f"ravel needs arrays of numbers, nested; it found {type(original).__name__}.")
    forms = [(x.shape, x.dtype, x.size) for x in leaves]
    vector = np.concatenate([np.reshape(x, -1) for x in leaves]) if leaves else np.zeros(0)

    def unravel(vector: Any) -> Any:
        length = sum(size for _, _, size in forms)
        if np.shape(vector) != (length,):
            raise CotangentError(f"unravel needs a vector of shape ({length},); got {np.shape(vector)}.")
        parts, start = [], 0
        for shape, dtype, size in forms:
            part = np.reshape(vector[start : start + size], shape)
            part = part if part.dtype == dtype else np.astype(np.real(part) if dtype.kind != "c" else part, dtype)
            parts.append(part if isinstance(part, Operators) or shape else part[()])
            start += size
        return build(parts)

    return vector, unravel
