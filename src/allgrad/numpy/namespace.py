"""The functions of `allgrad.numpy`: NumPy's own, which also take lists of Tensors where NumPy takes lists of numbers.

NumPy looks for Tensors among a function's arguments, not inside lists: `np.mean([x, y])` would convert the list, which a
tracked Tensor refuses. Here the list is stacked first. Functions of several arrays (`np.concatenate`) keep their lists.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.tensor import RULES
from allgrad.numpy.arguments import holds_tensor, operand

if TYPE_CHECKING:
    from collections.abc import Callable

OF_SEQUENCES: set[Any] = {
    np.concatenate, np.stack, np.vstack, np.hstack, np.dstack, np.column_stack, np.select, np.choose, np.linalg.multi_dot,
}  # fmt: skip
"""Functions of sequences of arrays: of their lists only the items are stacked."""

UNCHANGED: set[Any] = {np.block}
"""Functions that give nested lists a meaning of their own."""


def _stacked(a: Any) -> Any:
    return operand(a) if type(a) in (list, tuple) and holds_tensor(a) else a


def _items_stacked(a: Any) -> Any:
    return [_stacked(item) for item in a] if type(a) in (list, tuple) else a


def lifted(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with lists and tuples that hold Tensors stacked before it is called."""
    stacked = _items_stacked if function in OF_SEQUENCES else _stacked

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        return function(*map(stacked, args), **{name: stacked(a) for name, a in keywords.items()})

    return call


class Ufunc:
    """A ufunc whose calls and methods take lists of Tensors; everything else is the ufunc's own."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self.ufunc = ufunc
        self.__name__ = self.__qualname__ = ufunc.__name__
        self.__doc__ = ufunc.__doc__
        self.__call = lifted(ufunc)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.__call(*args, **keywords)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.ufunc, name)
        return lifted(attribute) if name in ("reduce", "accumulate", "reduceat", "outer") else attribute

    def __repr__(self) -> str:
        return f"<allgrad.numpy {self.ufunc!r}>"


def offer(name: str, source: Any, scope: dict[str, Any]) -> Any:
    """NumPy's `name` for one of our namespaces, whose globals are `scope` and keep it."""
    try:
        found = getattr(source, name)
    except AttributeError:
        raise AttributeError(f"neither {scope['__name__']} nor {source.__name__} has {name!r}") from None
    if isinstance(found, np.ufunc):
        found = Ufunc(found)
    elif callable(found) and not isinstance(found, type) and found in RULES and found not in UNCHANGED:
        found = lifted(found)
    scope[name] = found
    return found
