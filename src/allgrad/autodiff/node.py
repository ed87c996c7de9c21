"""A place on the tape.

`Node` records one application of an operation: how its cotangent goes back (`plan`), to which parents, and what that needs from
the forward pass. Nodes point to their parents and never to their children or to Tensors, so a graph has no reference cycles
and is freed together with its last Tensor. `seq` grows with creation, so a parent always has the smaller one: descending
`seq` is a topological order, and no depth-first search is needed to find one.

`Leaf` is a node without parents that owns a gradient: what `ag.tensor(..., requires_grad=True)` and parameters have.

`Backward` is what every operation implements to take part in a backward walk. There are five kinds: rules (plans.py), fused
operations (fused.py), recomputed regions (recompute.py), one of several results (outputs.py) and inputs of a transform
(inner.py).
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import InFlightError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SEQUENCE = count(1)
"""Numbers nodes, and the levels of forward mode, in order of creation, in all threads."""


class Backward:
    """How cotangents pass through a node.

    Attributes:
        name: of the operation, for messages and graphs.
        by_user: whether a rule that a user wrote will run, which may use tracked values that are no parents of the node.
        singular: `zeros.KINK` or `zeros.CUSP` if a derivative is infinite at the point where the node is.
    """

    __slots__ = ("name",)
    name: str
    by_user = False
    singular = 0

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:
        """The contributions to the cotangents of `node.parents`, in order; None where nothing flows.

        Args:
            g: the cotangent of the node's result; a tuple of them if the node has several.
            walk: the `engine.Walk` that calls: which parents it wants, and whether rules run on Tensors.
        """
        raise NotImplementedError

    def arguments(self, node: Node) -> list[str | None]:
        """For graphs: the text of each argument that is a constant, and None for each that is a parent."""
        return [None] * len(node.parents)


class Node:
    """One application of an operation.

    Attributes:
        plan: how to go backward; None for leaves and once the node is freed.
        parents: the nodes of the tracked arguments, in order.
        saved: the raw arrays that `plan` needs from the forward pass.
        keywords: the static arguments of the call.
        shape, dtype: of the result; a cotangent must fit them. For an operation with several results,
            tuples of them, and `outputs` is their number.
        guards: the versions of the leaves among the arguments that may be saved; see `saved.check_versions`.
        duals: tangents of the saved arrays, where forward mode was open during the call.
        hooks: functions that may replace this node's cotangent.
        origin: the line of code that made it (anomaly detection only), or the name a user gave it.
    """

    __slots__ = (
        "__weakref__", "dtype", "duals", "guards", "hooks", "keywords",
        "origin", "outputs", "parents", "plan", "saved", "seq", "shape",
    )  # fmt: skip

    def __init__(
        self,
        plan: Backward | None,
        parents: tuple[Node, ...],
        shape: Any,
        dtype: Any,
        saved: tuple[Any, ...] = (),
        keywords: dict[str, Any] | None = None,
        guards: Sequence[Version] | None = None,
    ) -> None:
        self.seq = next(SEQUENCE)
        self.plan = plan
        self.parents = parents
        self.shape = shape
        self.dtype = dtype
        self.saved = saved
        self.keywords = keywords
        self.outputs: int | None = None
        self.guards = guards
        self.duals: tuple[Any, ...] | None = None
        self.hooks: list[Callable[[Any], Any]] | None = None
        self.origin: str | None = None

    def free(self) -> None:
        """Forget everything that backward needed; what is left is enough to say that the node was freed."""
        self.plan = None
        self.parents = ()
        self.saved = ()
        self.guards = self.duals = self.keywords = None


class Version:
    """When the memory of a leaf of this shape was written last, on the scale of `Node.seq`; 0 if never."""

    __slots__ = ("shape", "written")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.written = shape, 0


class Storage:
    """How a Tensor shares memory with others; only Tensors that do have one. See aliases.py.

    Attributes:
        version: for a leaf and its views: that of the leaf's memory.
        view_of: for a view: its source (a Tensor), the operation that made it from the source, and the operation's keywords.
        views: weak references to the Tensors that view this one.
    """

    __slots__ = ("version", "view_of", "views")

    def __init__(self, version: Version | None = None, view_of: tuple[Any, Any, dict[str, Any]] | None = None) -> None:
        self.version = version
        self.view_of = view_of
        self.views: list[Any] | None = None


class Collector:
    """Takes a leaf's contributions where one array is not enough: a batch of several virtual workers gives one per worker.

    An operation that can tell them apart (nn/gradients.py) is offered the collector in place of the array `into`, fills it, and
    returns it as the cotangent.

    Attributes:
        shape, dtype: of the leaf.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def offered(self, *, last: bool, settles: bool) -> Collector:
        """The collector itself, to an operation that now fills it.

        Args:
            last: whether no other contribution of this pass will follow.
            settles: whether contributions must go through `zeros.settle`.
        """
        raise NotImplementedError


class Leaf(Node):
    """A node that a gradient is collected for.

    The gradient is in `buffer`. A bound leaf (`Tensor.bind`) has been told which array that is: the first contribution of a
    pass is written there, later ones are added. An unbound leaf gets a new array in each pass. `filled` says whether the
    buffer holds a gradient now, and `shared` that other processes see it too: it is read-only, and can be emptied. With a
    `collector`, contributions go there, and the buffer is not used. `version` is that of the storage.
    """

    __slots__ = ("bound", "buffer", "collector", "filled", "shared", "storage", "version")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(None, (), shape, dtype)
        self.buffer: np.ndarray[Any, Any] | None = None
        self.bound = False
        self.filled = False
        self.shared = False
        self.collector: Collector | None = None
        self.version = Version(shape)
        self.storage = Storage(self.version)

    def accumulate(self, gradient: Any) -> None:
        """Add a raw array of this leaf's shape and dtype to its gradient; it may be `buffer` itself, just written."""
        if self.collector is not None:
            if gradient is not self.collector:
                raise RuntimeError(
                    f"A parameter of shape {self.shape} got one gradient for a batch of several virtual workers, which cannot be "
                    "taken apart. Its module declares `rows_independent`, but uses the parameter outside of allgrad.nn's layers."
                )
            self.filled = True
            return
        if not self.bound:
            # Never in place: the user may hold the array of an earlier pass.
            self.buffer = np.array(gradient) if self.buffer is None else np.asarray(self.buffer + gradient)
            self.filled = True
            return
        assert self.buffer is not None
        if self.shared:
            raise InFlightError(
                f"The gradient of a parameter of shape {self.shape} is in memory that the ranks of this node share. Run backward "
                "passes through DataParallel.step."
            )
        if not self.buffer.flags.writeable:
            raise InFlightError(
                f"The gradient of a parameter of shape {self.shape} is being reduced over the ranks and cannot be written "
                "now. Only one backward pass per worker may start the reduction; run the others under no_sync()."
            )
        if self.filled:
            np.add(self.buffer, gradient, out=self.buffer)
        elif gradient is not self.buffer:
            np.copyto(self.buffer, gradient)
        self.filled = True

    def redirect(self, buffer: np.ndarray[Any, Any], filled: bool = False, shared: bool = False) -> None:
        """Collect in another array from now on; `filled` says whether it already holds a part of the gradient."""
        self.buffer, self.bound, self.filled, self.shared, self.collector = buffer, True, filled, shared, None

    def collect(self, collector: Collector) -> None:
        """Give the contributions to `collector` from now on, until `redirect`."""
        self.collector, self.filled = collector, False

    def touch(self) -> None:
        """The leaf's memory was written: nodes that saved it can no longer go backward (`saved.check_versions`)."""
        self.version.written = next(SEQUENCE)

    def clear(self) -> None:
        """Empty the gradient."""
        if not self.bound:
            self.buffer = None
        elif self.buffer is not None and not self.buffer.flags.writeable and not self.shared:
            raise InFlightError(
                "zero_grad() was called while the gradient is being reduced over the ranks. Wait for the reduction first."
            )
        self.filled = False
