"""Nested dicts, lists and tuples of arrays: taken apart into a flat list, and put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.autodiff.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable


def flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The leaves of `tree`, in order, and a function that puts a list of as many leaves into its form.

    >>> leaves, build = flatten({"a": 1.0, "b": (2.0, [3.0])})
    >>> leaves, build([x * 2 for x in leaves])
    ([1.0, 2.0, 3.0], {'a': 2.0, 'b': (4.0, [6.0])})
    """
    leaves: list[Any] = []
    _collect(tree, leaves)
    return leaves, lambda new: _rebuild(tree, iter(new).__next__)


def _collect(tree: Any, leaves: list[Any]) -> None:  # not a closure that calls itself: that would be a reference cycle
    if isinstance(tree, (dict, list, tuple)):
        for value in tree.values() if isinstance(tree, dict) else tree:
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


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """`tree` with every Tensor in it replaced by `function(tensor)`; all else stays."""
    leaves, build = flatten(tree)
    return build([function(x) if isinstance(x, Tensor) else x for x in leaves])
