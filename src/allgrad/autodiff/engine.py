"""The backward walk.

From the root, the nodes that it reaches are collected (iteratively, so no depth is too deep) and visited in descending order of
creation, which is a reverse topological order. When a node is visited its cotangent is complete; its `plan` gives one
contribution to each parent. A leaf counts its pending uses: with the last one its gradient is final, and communication starts
from that event.

**The hook contract.** `FinalGradients(leaves, callback).arm()` asks for the events of the *next* `.backward()` on this
thread (and task). In that pass `callback(leaf, used)` is called for each of the leaves exactly once:

1. after all its contributions of this pass are in `leaf.grad`: from every branch, from tied uses, and from recomputed regions
   (`checkpoint` names the leaves that its function captured as its parents, so their uses are counted from the start);
2. on the thread that called `.backward()`, during the walk, in the order in which gradients become final;
3. for a leaf that this pass does not reach, at the end of the walk, in the order in which the leaves were given, with
   used=False and its `.grad` as it was.

Arming lasts for one pass: a second `.backward()` fires nothing unless it is armed again. Inner walks (`ag.grad` and the other
transforms, recomputation) fire nothing, touch no `.grad`, and free nothing that an outer walk needs. If the walk raises, no
further events fire. Several armed watchers are served in the order of arming.

A walk runs rules on raw arrays where it can. It runs them on Tensors where the result must be differentiable again: inside
another transform, or when the function captured something that is tracked outside (see `pull`).

NumPy's floating-point warnings are off during a walk: they belong to the forward pass, and a rule may divide by a zero that a
mask then removes. `detect_anomaly` finds the operation that makes the first NaN.
"""

from __future__ import annotations

from contextvars import ContextVar
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.autodiff.anomaly import check_finite
from allgrad.autodiff.cotangents import cast, run_hooks, unbroadcast
from allgrad.autodiff.errors import GraphFreedError
from allgrad.autodiff.modes import CURRENT, walking
from allgrad.autodiff.node import Collector, Leaf, Node
from allgrad.autodiff.operators import Operators
from allgrad.autodiff.saved import check_versions
from allgrad.autodiff.zeros import EXACT, KINK, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from weakref import ref

OBSERVERS: list[ref[Any]] = []
"""Whoever wants to see the cotangents of `.backward()` passes; see `graph.Graph`. (Whether a `WeakSet` is empty takes longer.)"""

_armed: ContextVar[tuple[FinalGradients, ...]] = ContextVar("allgrad_final_gradients", default=())
_by_creation = attrgetter("seq")


class FinalGradients:
    """Watches for the moment at which each leaf's gradient is final; the contract is at the top of this file.

    Args:
        leaves: leaf Tensors; a Tensor given twice (tied weights) is watched once.
        callback: called as callback(leaf, used).

    >>> import numpy as np, allgrad as ag
    >>> w, b = ag.tensor([2.0], requires_grad=True), ag.tensor([1.0], requires_grad=True)
    >>> ag.FinalGradients([w, b], lambda leaf, used: print(leaf.grad, used)).arm()
    >>> np.sum(w * w).backward()
    [4.] True
    None False
    """

    def __init__(self, leaves: Iterable[Any], callback: Callable[[Any, bool], None]) -> None:
        self.tensors = {t._leaf("FinalGradients"): t for t in leaves}
        self.callback = callback

    def arm(self) -> None:
        """Ask for the events of the next `.backward()`; arming twice is arming once."""
        if self not in _armed.get():
            _armed.set((*_armed.get(), self))

    def disarm(self) -> None:
        _armed.set(tuple(watch for watch in _armed.get() if watch is not self))


class Share(NamedTuple):
    """The cotangent of one result of an operation that has several."""

    output: int
    cotangent: Any


class Walk:
    """One backward walk: what it visits, how its rules run, and where contributions go.

    With `targets` (inner walks) it stops at them, and at nodes older than `floor`; `outside` lists the tracked nodes at
    which it stopped for the latter reason. Without, it collects into the leaves.
    """

    tensors = False
    zeros = EXACT
    wanted: set[Node] | None = None
    observers: Sequence[Any] = ()

    def __init__(self, roots: Sequence[Node], targets: frozenset[Node] = frozenset(), floor: int = 0) -> None:
        self.targets = targets
        self.outside: dict[Node, None] = {}
        self.pending: dict[Leaf, int] = {}
        self.cotangents: dict[Node, Any] = {}
        self._own: set[Node] = set()  # nodes whose cotangent is an array of ours, which may be added to in place
        self.watchers: dict[Leaf, list[FinalGradients]] = {}
        self.nodes = self._collect(roots, floor)

    def _collect(self, roots: Sequence[Node], floor: int) -> list[Node]:
        pending, targets = self.pending, self.targets
        seen = set(roots)
        if targets:
            older = [r for r in roots if r not in targets and (r.seq < floor or isinstance(r, Leaf))]
            self.outside.update(dict.fromkeys(older))
            seen.difference_update(older)
        stack = list(seen)
        dead = False
        while stack:
            node = stack.pop()
            if targets and node in targets:
                continue
            plan = node.plan
            if plan is not None:
                if plan.singular > self.zeros:
                    self.zeros = plan.singular
            elif not isinstance(node, Leaf):
                if node.origin != CLOSED:
                    raise GraphFreedError(
                        "backward() reached a part of the graph that an earlier backward pass has freed. "
                        "Pass retain_graph=True to that one, or compute the value again."
                    )
                dead = True
            for parent in node.parents:
                if parent in seen:
                    continue
                if isinstance(parent, Leaf) and not targets:
                    pending[parent] = pending.get(parent, 0) + 1
                elif targets and parent not in targets and (parent.seq < floor or isinstance(parent, Leaf)):
                    self.outside[parent] = None
                else:
                    seen.add(parent)
                    stack.append(parent)
        nodes = sorted(seen, key=_by_creation, reverse=True)
        if targets or dead:
            self.wanted = self._leading_to_targets(nodes)
            nodes = [node for node in nodes if node in self.wanted]
            for leaf in pending:
                pending[leaf] = sum(node.parents.count(leaf) for node in nodes)
        return nodes

    def _leading_to_targets(self, nodes: list[Node]) -> set[Node]:
        wanted: set[Node] = set(self.targets) if self.targets else set(self.pending)
        for node in reversed(nodes):
            if not wanted.isdisjoint(node.parents):
                wanted.add(node)
        return wanted

    def run(self, keep: bool) -> None:
        """Visit the nodes; the roots' cotangents have been `add`ed."""
        anomaly = CURRENT.get().anomaly
        cotangents, targets, pending, add = self.cotangents, self.targets, self.pending, self.add
        watchers = self.watchers
        observers = self.observers
        plain = not self.zeros and not observers and not targets
        for node in self.nodes:
            if targets and node in targets:
                continue
            g = cotangents.pop(node, None)
            if g is None:
                self._skip(node)
                continue
            if node.outputs:
                g = self._fill(node, g)
            if node.hooks:
                g = run_hooks(node, settle(g) if self.zeros else g, self.tensors)
            for observer in observers:
                observer.observe(node, g)
            plan = node.plan
            if plan is None:  # a root that is a leaf itself, with hooks
                assert isinstance(node, Leaf)
                node.accumulate(g)
                continue
            if node.guards is not None:
                check_versions(node)
            contributions = plan.pullback(node, g, self)
            if anomaly:
                for c in contributions:
                    if c is not None and not isinstance(c, Share):
                        check_finite(plan.name, c, f"(called at {node.origin}) was given the gradient")
            for parent, c in zip(node.parents, contributions, strict=True):
                if parent not in pending:
                    if c is not None:
                        add(parent, c)
                    continue
                if c is not None:
                    # What was `offer`ed comes back filled.
                    if plain and (c is parent.buffer or c is parent.collector) and not parent.hooks:
                        parent.filled = True
                    else:
                        add(parent, c)
                left = pending[parent] - 1
                if left:
                    pending[parent] = left
                elif watchers or parent in cotangents:
                    self._final(parent)
            if not keep:
                node.free()

    def add(self, parent: Node, c: Any) -> None:
        """Add a contribution to a parent's cotangent, after summing and casting it to the parent's shape and dtype."""
        cotangents = self.cotangents
        if parent.outputs:
            shares = cotangents.setdefault(parent, [None] * parent.outputs)
            before = shares[c.output]
            shares[c.output] = c.cotangent if before is None else before + c.cotangent
            return
        if self.wanted is not None and parent not in self.wanted:
            return
        try:
            shape = c.shape
        except AttributeError:  # a rule gave a Python number (-1j * a NumPy scalar is one)
            c = np.asarray(c)
            shape = ()
        if shape != parent.shape:
            c = unbroadcast(c, parent.shape)
        if c.dtype != parent.dtype:
            c = cast(c, parent.dtype)
        if isinstance(parent, Leaf) and not self.targets:
            if self.zeros and not isinstance(c, Collector):
                c = settle(c)
            if not parent.hooks and not self.observers:
                parent.accumulate(c)
                return
        before = cotangents.get(parent)
        if before is None:
            cotangents[parent] = c
        elif parent in self._own and type(before) is type(c) is np.ndarray:
            np.add(before, c, out=before)
        else:
            total = cotangents[parent] = before + c
            if type(total) is np.ndarray and total.ndim:
                self._own.add(parent)

    def runs_user_code(self) -> bool:
        """Whether a hook or a user's own rule will run, which may use tracked values that the graph does not show."""
        return any(node.hooks or (node.plan is not None and node.plan.by_user) for node in self.nodes)

    def offers(self, node: Node, tracked: Sequence[int], arity: int, collectors: bool = False) -> list[Any]:
        """For each of the `arity` arguments of a node, the array in which a rule may leave its gradient, or None.

        There is one if the argument is a bound leaf and this is its first contribution. `tracked` are the positions of the
        arguments that the node's parents are, and `collectors` says whether the rule can fill a collector.
        """
        buffers: list[Any] = [None] * arity
        if self.targets:
            return buffers
        parents = node.parents
        for i, parent in zip(tracked, parents):  # noqa: B905 - as many by construction, and it runs for each operation
            if not isinstance(parent, Leaf) or not parent.bound or parent.hooks:
                continue
            if parent.collector is not None:
                if collectors:
                    last = self.pending[parent] == 1
                    buffers[i] = parent.collector.offered(last=last, settles=self.zeros != EXACT)
            elif not parent.filled and parents.count(parent) == 1:
                # w @ w: its other contribution would overwrite this one before it is counted
                buffers[i] = parent.buffer
        return buffers

    def _fill(self, node: Node, shares: list[Any]) -> tuple[Any, ...]:
        return tuple(
            np.zeros(shape, dtype) if g is None else g
            for g, shape, dtype in zip(shares, node.shape, node.dtype, strict=True)
        )

    def _skip(self, node: Node) -> None:
        if self.pending:
            for parent in node.parents:
                if isinstance(parent, Leaf):
                    self.pending[parent] -= 1
                    if not self.pending[parent]:
                        self._final(parent)

    def _final(self, leaf: Leaf) -> None:
        if leaf in self.cotangents:  # it has hooks, or somebody observes it
            g = run_hooks(leaf, self.cotangents.pop(leaf), tensors=False)
            for observer in self.observers:
                observer.observe(leaf, g)
            leaf.accumulate(g)
        for watch in self.watchers.get(leaf, ()) if self.watchers else ():
            watch.callback(watch.tensors[leaf], True)


CLOSED = "<closed>"
"""The origin of an inner leaf whose transform has ended: nothing wants its gradient any more."""


def backward(root: Node, cotangent: Any, *, keep: bool) -> None:
    """Add to the gradient of every leaf that `root` depends on; see `Tensor.backward`."""
    walk = Walk((root,))
    armed = _armed.get()
    if armed:
        _armed.set(())
    for watch in armed:
        for leaf in watch.tensors:
            walk.watchers.setdefault(leaf, []).append(watch)
    if OBSERVERS:
        alive = [found() for found in tuple(OBSERVERS)]
        walk.observers = [observer for observer in alive if observer is not None and observer.sees(root)]
    walk.add(root, cotangent)
    with walking(recording=False, zeros=walk.zeros), np.errstate(all="ignore"):
        walk.run(keep=keep)
    for watch in armed:
        for leaf, tensor in watch.tensors.items():
            if leaf not in walk.pending:
                watch.callback(tensor, leaf is root)


def pull(
    roots: Sequence[Any],
    cotangents: Sequence[Any],
    targets: Sequence[Node],
    *,
    linked: bool,
    keep: bool = False,
    floor: int | None = None,
) -> tuple[list[Any], bool]:
    """The cotangents of `targets` (inner leaves, or nodes) given those of `roots`, None where nothing flows; and whether
    they depend on something tracked outside.

    The walk stays among nodes no older than `floor`, the oldest target unless given. Its rules run on Tensors and are
    recorded if the result must be differentiable outside: `linked` targets, a tracked cotangent, or something tracked
    that the function captured.
    """
    pairs = [(r.node, c) for r, c in zip(roots, cotangents, strict=True) if getattr(r, "node", None) is not None]
    if not pairs:
        return [None] * len(targets), False
    walk = _inner_walk([node for node, _ in pairs], targets, floor)
    modes = CURRENT.get()
    tracked_cotangent = any(getattr(c, "node", None) is not None for _, c in pairs)
    depends = linked or bool(walk.outside) or tracked_cotangent
    record = modes.recording and (depends or walk.runs_user_code())
    walk.tensors = record or modes.forward > 0
    if walk.tensors and walk.zeros == EXACT:
        walk.zeros = KINK  # derivatives of this derivative may be infinite where it is not
    with walking(recording=record, zeros=walk.zeros), np.errstate(all="ignore"):
        for node, c in pairs:
            walk.add(node, c)
        walk.run(keep=keep or record)
    parts = [walk.cotangents.get(t) for t in targets]
    if walk.zeros:
        parts = [None if p is None else settle(p) for p in parts]
    if record and not depends and not captured(_with_tangents(parts), targets, floor):
        return [_unlinked(p) for p in parts], False  # the user's code used nothing that is tracked outside
    return parts, record


def _with_tangents(values: Iterable[Any]) -> list[Any]:
    """The Tensors among `values`, their tangents, the tangents of those, ..."""
    found = [v for v in values if isinstance(v, Operators)]
    for t in found:
        found += [v for v in (t.tangents or {}).values() if isinstance(v, Operators)]
    return found


def _unlinked(x: Any) -> Any:
    """`x` without its history."""
    if not isinstance(x, Operators):
        return x
    if x.tangents is None:
        return x.value
    return x.having(x.value, None, {level: _unlinked(t) for level, t in x.tangents.items()})


def captured(roots: Sequence[Any], targets: Sequence[Node], floor: int | None = None) -> list[Node]:
    """The tracked nodes older than `targets` (or `floor`) that `roots` depend on, oldest first."""
    nodes = [r.node for r in roots if getattr(r, "node", None) is not None]
    return sorted(_inner_walk(nodes, targets, floor).outside, key=_by_creation) if nodes else []


_NOTHING = frozenset((Node(None, (), (), None),))


def _inner_walk(roots: Sequence[Node], targets: Sequence[Node], floor: int | None) -> Walk:
    oldest = min((t.seq for t in targets), default=0) if floor is None else floor
    return Walk(roots, frozenset(targets) or _NOTHING, oldest)
