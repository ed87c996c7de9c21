"""The results of an operation that has several: Tensors that share its node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.autodiff.engine import Share
from allgrad.autodiff.node import Backward, Node
from allgrad.autodiff.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Pick(Backward):
    """Backward from result `index` of an operation that has several: the cotangent goes to its share of the node."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.name = "output"
        self.index = index

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:  # noqa: ARG002
        return (Share(self.index, g),)


_PICKS: list[_Pick] = []


def outputs_of(ans: tuple[Any, ...], node: Node, duals: Any) -> tuple[Tensor, ...]:
    """The results of a node that has several, each with a node of its own that picks it."""
    while len(_PICKS) < len(ans):
        _PICKS.append(_Pick(len(_PICKS)))
    made = []
    for i, a in enumerate(ans):
        pick = Node(_PICKS[i], (node,), a.shape, a.dtype) if a.dtype.kind in "fc" else None
        made.append(Tensor(a, pick, duals[i] if duals else None))
    return tuple(made)
