"""A place on the tape.

`Node` is the record of one application of a primitive: which primitive, from which parents, and what its rules
need of the forward pass. Nodes point to their parents and never to their children or to Tensors, so a graph has no
reference cycles and is freed the moment its last Tensor is. `seq` grows with creation, hence a parent always has the
smaller one: descending `seq` is a topological order, and no depth-first search has to find one.

`Leaf` is a node without parents that owns a gradient: what `ag.tensor(..., requires_grad=True)` and parameters have.
`Storage` is shared by all Tensors that may view the same memory; its version counts the writes to it.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import InFlightError

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.autodiff.primitive import Plan

SEQUENCE = count(1)
"""Numbers nodes, and the levels of forward mode, in order of creation, in all threads."""


class Node:
    """One application of a primitive.

    Attributes:
        plan: which rules to run for the tracked arguments; None once the node is freed.
        parents: the nodes of the tracked arguments, in order.
        saved: the raw arrays that the rules named, as `plan.saved` lists them.
        keywords: the static arguments of the call.
        shape, dtype: of the result; a cotangent must fit them. For a primitive with several results,
            tuples of them, and `outputs` is their number.
        guards: what `saved.verify` checks before backward uses `saved`.
        duals: tangents of the saved arrays, where forward mode was open during the call.
        hooks: functions that may replace this node's cotangent.
        origin: the line of code that made it (anomaly detection only), or the name a user gave it.
    """

    __slots__ = (
        "__weakref__", "dtype", "duals", "guards", "hooks", "keywords",
        "origin", "outputs", "parents", "plan", "saved", "seq", "shape",
    )  # fmt: skip

    def __init__(self, plan: Plan | None, parents: tuple[Node, ...], shape: Any, dtype: Any) -> None:
        self.seq = next(SEQUENCE)
        self.plan = plan
        self.parents = parents
        self.shape = shape
        self.dtype = dtype
        self.saved: tuple[Any, ...] = ()
        self.keywords: dict[str, Any] | None = None
        self.outputs: int | None = None
        self.guards: tuple[Any, ...] | None = None
        self.duals: tuple[Any, ...] | None = None
        self.hooks: list[Callable[[Any], Any]] | None = None
        self.origin: str | None = None

    def free(self) -> None:
        """Forget all that backward needed; what is left is enough to say that it was freed."""
        self.plan = None
        self.parents = ()
        self.saved = ()
        self.guards = self.duals = self.keywords = None


class Storage:
    """Memory that several Tensors may look at. Only Tensors hold it, so its reference count tells how many do."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = [0]  # a cell of its own: saved-array guards keep it without counting as Tensors


class Leaf(Node):
    """A node that a gradient is collected for.

    The gradient lives in `buffer`. A bound leaf (`Tensor.bind`) has been told which array that is: the first
    contribution of a pass is written there, later ones are added. An unbound leaf gets a new array each pass.
    `filled` says whether the buffer holds a gradient now.
    """

    __slots__ = ("bound", "buffer", "filled", "storage")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(None, (), shape, dtype)
        self.buffer: np.ndarray[Any, Any] | None = None
        self.bound = False
        self.filled = False
        self.storage = Storage()

    def accumulate(self, gradient: Any) -> None:
        """Add a raw array of this leaf's shape and dtype to its gradient; it may be `buffer` itself, just written."""
        if not self.bound:
            # Never in place: the array of the pass before may be in the user's hands.
            self.buffer = np.array(gradient) if self.buffer is None else np.asarray(self.buffer + gradient)
            self.filled = True
            return
        assert self.buffer is not None
        if not self.buffer.flags.writeable:
            raise InFlightError(
                f"The gradient of a parameter of shape {self.shape} is being reduced over the ranks, and cannot be "
                "written now. One backward pass a worker fires the reduction; run the others under no_sync()."
            )
        if self.filled:
            np.add(self.buffer, gradient, out=self.buffer)
        elif gradient is not self.buffer:
            np.copyto(self.buffer, gradient)
        self.filled = True

    def redirect(self, buffer: np.ndarray[Any, Any], filled: bool = False) -> None:
        """Collect in another array from now on; `filled` says whether it holds a part of the gradient already."""
        self.buffer, self.bound, self.filled = buffer, True, filled

    def clear(self) -> None:
        """Empty the gradient."""
        if not self.bound:
            self.buffer = None
        elif self.buffer is not None and not self.buffer.flags.writeable:
            raise InFlightError(
                "zero_grad() while the gradient is being reduced over the ranks. Wait for the reduction."
            )
        self.filled = False
