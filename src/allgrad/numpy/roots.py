"""Roots that are squared again: norm(x)**2, sqrt(s)**2, abs(z)**2, hypot(x, y)**2, std(x)**2.

A root has no second derivative at 0, and its first derivative there is taken as 0 (`quotient`). The square of a root does have
derivatives: the Hessian of norm(w)**2 is 2 I at w = 0 too. The root's own derivatives cannot tell, because they give 0 times
infinity. So a root that has a zero in it remembers the number under the root, and squaring it returns that number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable


class Root(Tensor):
    """A tracked square root that is 0 somewhere, and its square."""

    __slots__ = ("_made", "_square")

    def __init__(self, root: Tensor, square: Any) -> None:
        super().__init__(root.value, root.node, root.tangents)
        self._storage = root._storage
        self._square = square
        self._made = (root.value, root.node, root.tangents)

    def squared(self) -> Any:
        """What the root was taken of; None if this Tensor has been written to since."""
        now = (self.value, self.node, self.tangents)
        return +self._square if all(a is b for a, b in zip(now, self._made, strict=True)) else None

    def __mul__(self, other: Any) -> Any:
        return self**2 if other is self else super().__mul__(other)


def rooted(root: Any, square: Callable[[], Any]) -> Any:
    """`root`, which remembers square() if it is tracked and has a zero in it."""
    if type(root) is not Tensor or np.count_nonzero(root.value) == root.value.size:
        return root
    if root.node is None and root.tangents is None:
        return root
    return Root(root, square())
