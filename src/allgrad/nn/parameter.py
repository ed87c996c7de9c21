"""`Parameter`: a leaf of the tape that belongs to a model.

A parameter's array has the layout that computes fastest (a linear layer's weight is (in, out)). Files contain PyTorch's layout;
`layout` holds the functions that convert to it and back. Tied weights are one Parameter object in two modules. It has one
gradient and one place in the arena, and is saved under both of PyTorch's names.
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
    """Functions from our layout of an array to PyTorch's, and back. Each may return a view."""

    to_torch: Callable[[Array], Array]
    from_torch: Callable[[Array], Array]


SAME = TorchLayout(lambda a: a, lambda a: a)
"""PyTorch's layout is ours: biases, norms, embeddings."""

TRANSPOSED = TorchLayout(lambda a: a.T, lambda a: a.T)
"""All axes are reversed: a linear layer's (in, out) is PyTorch's (out, in)."""


class Parameter(Tensor):
    """A Tensor that training changes.

    Args:
        value: the initial numbers, float32, float64, or complex; they are copied.
        dtype: as in `np.array`.
        layout: PyTorch's layout; see `TorchLayout`.
        embedding: whether this is a table whose rows are looked up by index. Some optimizers treat those differently.

    Attributes:
        name: the path in the model that last listed its parameters ("blocks.0.linear1.weight"); None before that.

    Raises:
        NotDifferentiableError: for integers and booleans.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> w = nn.Parameter(np.ones((2, 3), np.float32))
    >>> np.sum(w * 2).backward()
    >>> w.grad.tolist()
    [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """

    __slots__ = ("embedding", "layout", "name")

    def __init__(self, value: Any, *, dtype: Any = None, layout: TorchLayout = SAME, embedding: bool = False) -> None:
        array = np.array(value.value if isinstance(value, Tensor) else value, dtype=dtype, order="C")
        if array.dtype.kind not in "fc":
            raise NotDifferentiableError(
                f"Parameter: expected a floating or complex dtype. Got {array.dtype} of shape {array.shape} instead. "
                "Pass dtype=np.float32, or use register_buffer() for an array that is not trained."
            )
        leaf = Leaf(array.shape, array.dtype)
        super().__init__(array, leaf)
        self._storage = leaf.storage
        self.name: str | None = None
        self.layout = layout
        self.embedding = embedding

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        made = Parameter(self.value, layout=self.layout, embedding=self.embedding)
        made.name = self.name
        return made

    def __repr__(self) -> str:
        label = f" {self.name!r}" if self.name else ""
        return f"<Parameter{label} {self.dtype} {self.shape}>"
