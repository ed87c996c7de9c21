"""The inputs of a transform: places on the tape at which an inner walk starts from a value and stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.autodiff.node import Backward, Node, Storage
from allgrad.autodiff.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Input(Backward):
    """The identity: the cotangent goes on to what the input is outside, if it is linked to that."""

    __slots__ = ()

    def __init__(self) -> None:
        self.name = "input"

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:  # noqa: ARG002
        return (g,) * len(node.parents)


_INPUT = _Input()


def inner_leaf(x: Tensor, *, linked: bool = True) -> Tensor:
    """A fresh place on the tape for `x`, linked to the place that `x` has outside, if wanted; writing to it changes only it."""
    parents = (x.node,) if linked and x.node is not None else ()
    made = Tensor(x.value, Node(_INPUT, parents, x.shape, x.dtype), x.tangents)
    keep_version(x, made)
    return made


def keep_version(x: Any, made: Tensor) -> None:
    """Let `made`, which has the memory of `x`, be guarded as `x` is if that is a leaf or a view of one."""
    if x._storage is not None and x._storage.version is not None:
        made._storage = Storage(x._storage.version)
