"""`Parameter`: a leaf of the tape that belongs to a model.

A parameter's array has the layout in which it computes fastest (a linear layer's weight is (in, out)). On disk it speaks
PyTorch's: `layout` holds the two functions that lead there and back. Tied weights are one Parameter object held by two
modules; it has one gradient, one slot in the arena, and on disk both of PyTorch's names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.autodiff import Tensor
from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.node import Leaf

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]


class TorchLayout(NamedTuple):
    """How an array of ours becomes PyTorch's, and back; each may return a view."""

    to_torch: Callable[[Array], Array]
    from_torch: Callable[[Array], Array]


SAME = TorchLayout(lambda a: a, lambda a: a)
"""PyTorch lays this array out as we do: biases, norms, embeddings."""

TRANSPOSED = TorchLayout(lambda a: a.T, lambda a: a.T)
"""All axes reversed: a linear layer's (in, out) is PyTorch's (out, in)."""


class Parameter(Tensor):
    """A Tensor that training changes.

    Args:
        value: the initial numbers, copied, of float32 or float64 (or complex).
        dtype: as in `np.array`.
        layout: how PyTorch lays it out; see `TorchLayout`.

    Attributes:
        name: its path in the model ("blocks.0.mlp.weight"), None until the model has been asked or called once.

    Raises:
        NotDifferentiableError: for integers and booleans.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> w = nn.Parameter(np.ones((2, 3), np.float32))
    >>> np.sum(w * 2).backward()
    >>> w.grad.tolist()
    [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """

    __slots__ = ("layout", "name")

    def __init__(self, value: Any, *, dtype: Any = None, layout: TorchLayout = SAME) -> None:
        array = np.array(value.value if isinstance(value, Tensor) else value, dtype=dtype, order="C")
        if array.dtype.kind not in "fc":
            raise NotDifferentiableError(
                f"Parameter needs a floating or complex dtype, got {array.dtype} of shape {array.shape}; "
                "pass dtype=np.float32, or register_buffer() for what is not trained."
            )
        leaf = Leaf(array.shape, array.dtype)
        super().__init__(array, leaf)
        self._storage = leaf.storage
        self.name: str | None = None
        self.layout = layout

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        made = Parameter(self.value, layout=self.layout)
        made.name = self.name
        return made

    def __repr__(self) -> str:
        label = f" {self.name!r}" if self.name else ""
        return f"<Parameter{label} {self.dtype} {self.shape}>"
