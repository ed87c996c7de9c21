"""What only leaves have, the Tensors with `requires_grad=True`: a gradient, and memory that may be written."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.aliases import write_leaf
from allgrad.autodiff.node import Leaf


class OfLeaves:
    """The methods of `Tensor` that raise for other Tensors."""

    __slots__ = ()

    @property
    def is_leaf(self: Any) -> bool:
        return isinstance(self.node, Leaf)

    @property
    def grad(self: Any) -> np.ndarray[Any, Any] | None:
        """The gradient that `.backward()` left on this leaf, or None; the array is the caller's to keep or change.

        For a bound leaf (`bind`) it is the memory that the leaf was bound to.
        """
        leaf = self.node
        return leaf.buffer if isinstance(leaf, Leaf) and leaf.filled else None

    def zero_grad(self: Any) -> None:
        """Empty the gradient: the next `.backward()` writes it anew."""
        self._leaf("zero_grad").clear()

    def bind(self: Any, *, value: np.ndarray[Any, Any] | None = None, grad: np.ndarray[Any, Any] | None = None) -> None:
        """Move this leaf to the given memory: its value is copied there, and its gradients are written there.

        Both arrays have the leaf's shape and dtype, normally as views of a flat array. Backward writes the first
        contribution of a pass straight into `grad` (big products with `out=`), and adds the later ones.
        """
        leaf = self._leaf("bind")
        for what, memory in (("value", value), ("grad", grad)):
            if memory is not None and (memory.shape != self.shape or memory.dtype != self.dtype):
                raise ValueError(
                    f"bind({what}=...) needs an array of shape {self.shape} and dtype {self.dtype}, "
                    f"got {memory.shape} and {memory.dtype}."
                )
        if value is not None:
            np.copyto(value, self.value)
            self.value = value
            self.touch()
        if grad is not None:
            if leaf.filled:
                np.copyto(grad, leaf.buffer)
            leaf.buffer, leaf.bound = grad, True

    def assign(self: Any, value: Any) -> None:
        """Overwrite a leaf's value in place, keeping memory and dtype. Graphs that saved it can no longer run backward."""
        self._leaf("assign")
        value = np.asarray(value)
        if value.shape != self.shape:
            raise ValueError(f"assign() needs an array of shape {self.shape}, got {value.shape}.")
        write_leaf(self.value, value)
        self.touch()

    def touch(self: Any) -> None:
        """Tell the tape that the memory behind this leaf was written by other means (an optimizer, a broadcast)."""
        self._leaf("touch").touch()

    def _leaf(self: Any, call: str) -> Leaf:
        if not isinstance(self.node, Leaf):
            raise TypeError(f"{call}() is for leaves, made by ag.tensor(..., requires_grad=True); this is {self!r}.")
        return self.node
