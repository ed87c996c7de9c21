"""Fused operations: several steps in one, with a backward pass written by hand, for the hot loops of networks.

A fused operation has up to three forms:

* `forward(*values, **statics) -> (ans, residuals)`: on plain arrays, as fast as possible;
* `backward(g, residuals, *, needs, into, **statics) -> cotangents`: one for each argument, None where `needs` is False;
  `into[i]`, if not None, is the array where argument i's cotangent belongs;
* `reference(*args, **statics)`: the same function in differentiated NumPy calls. It runs in place of the fused form where
  derivatives of derivatives are taken (inside another transform, and in forward mode), so every order is right. Without a
  reference, these uses raise an error that names the operation.

Arrays of the user's among the arguments and the statics are copied before `forward` runs, if backward will need it: residuals may
hold them, and the user may write to them (saved.py).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.autodiff.anomaly import caller, check_finite
from allgrad.autodiff.engine import pull
from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.inner import inner_leaf
from allgrad.autodiff.modes import CURRENT, switched
from allgrad.autodiff.node import SEQUENCE, Node
from allgrad.autodiff.plans import ArgumentPlan
from allgrad.autodiff.primitive import Primitive
from allgrad.autodiff.saved import KEPT, keep_all
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.zeros import CUSP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager


_snapshots: dict[Callable[[], Callable[[], AbstractContextManager[Any]] | None], None] = {}


def on_backward(snapshot: Callable[[], Callable[[], AbstractContextManager[Any]] | None]) -> None:
    """Add something that a fused operation's backward pass must see as its forward pass saw it (the precision of products).

    `snapshot()` is called at each forward pass; what it returns, unless it is None, gives a context of the backward pass.
    """
    _snapshots[snapshot] = None


class _Within(NamedTuple):
    """Residuals whose backward pass runs in a context, or in several, one inside another."""

    context: Callable[[], AbstractContextManager[Any]]
    residuals: Any


def _run(backward: Callable[..., Sequence[Any]], g: Any, residuals: Any, keywords: dict[str, Any]) -> Sequence[Any]:
    if type(residuals) is not _Within:
        return backward(g, residuals, **keywords)
    with residuals.context():
        return _run(backward, g, residuals.residuals, keywords)


class _FusedPlan(ArgumentPlan):
    """Backward through a fused operation; `node.saved` is (values of the arguments..., residuals)."""

    __slots__ = ("primitive",)

    def __init__(self, primitive: Fused, tracked: tuple[int, ...], arity: int) -> None:
        super().__init__(primitive.name, tracked, arity, tuple(range(arity)) if primitive.reference else ())
        self.primitive = primitive

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:
        primitive, statics, residuals = self.primitive, node.keywords or {}, node.saved[-1]
        if walk.tensors:
            return self._through_reference(node, g, statics)
        extra = {"needs": self.needs if walk.wanted is None else self.wanted(node, walk), **statics}
        if primitive.takes_into:
            extra["into"] = walk.offers(node, self.tracked, len(self.needs), primitive.by_worker)
        if type(residuals) is _Within:
            cotangents = _run(primitive.backward, g, residuals, extra)
        else:
            cotangents = primitive.backward(g, residuals, **extra)
        return cotangents if self.all_tracked else [cotangents[i] for i in self.tracked]

    def _through_reference(self, node: Node, g: Any, statics: dict[str, Any]) -> Sequence[Any]:
        reference = self.primitive.required_reference("second-order derivatives through it")
        args = self.as_tensors(node)
        floor = next(SEQUENCE)
        targets = []
        for i in self.tracked:
            args[i] = inner_leaf(args[i])
            targets.append(args[i].node)
        with switched(recording=True):
            ans = reference(*args, **statics)
        return pull([ans], [g], targets, linked=CURRENT.get().recording, floor=floor)[0]


class Fused(Primitive):
    """Declare a fused operation; see the top of this file. `forward`'s positional parameters are its arguments.

    `by_worker` says that `backward` can give one gradient per virtual worker of a batch: an `into` may then be a
    `node.Collector`.
    """

    def __init__(
        self,
        forward: Callable[..., tuple[Any, Any]],
        backward: Callable[..., Sequence[Any]],
        *,
        name: str,
        reference: Callable[..., Any] | None = None,
        by_worker: bool = False,
    ) -> None:
        super().__init__(forward, name=name)
        self.by_worker = by_worker
        self.backward = backward
        self.reference = reference
        self.takes_into = "into" in inspect.signature(backward).parameters

    def required_reference(self, use: str) -> Callable[..., Any]:
        if self.reference is None:
            raise NoRuleError(
                f"{self.name} is a fused operation without a form for {use}. Compose it from NumPy's functions instead."
            )
        return self.reference

    def _make_plan(self, tracked: tuple[int, ...], arity: int) -> ArgumentPlan:
        return _FusedPlan(self, tracked, arity)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        values: list[Any] = []
        parents: list[Node] = []
        guards: list[Any] = []
        loose: list[int] = []
        mask, bit = 0, 1
        for a in args:
            if isinstance(a, Tensor):
                if a.tangents is not None:
                    return self.required_reference("forward mode")(*args, **keywords)
                values.append(a.value)
                if (node := a.node) is not None:
                    mask |= bit
                    parents.append(node)
                if (storage := a._storage) is not None and storage.version is not None:
                    guards.append(storage.version)
            else:
                if isinstance(a, KEPT):
                    loose.append(len(values))
                values.append(a)
            bit += bit
        recording, anomaly, _, _, zeros = CURRENT.get()
        records = mask and recording
        if records:  # the residuals may hold any of the user's arrays, so they are kept before the forward pass
            for i in loose:
                values[i] = keep_all(values[i])
            for name, static in keywords.items():
                if isinstance(static, KEPT):
                    keywords[name] = keep_all(static)
        ans, residuals = self.function(*values, **keywords)
        if anomaly:
            check_finite(self.name, ans)
        if type(ans) is not np.ndarray:
            ans = np.asarray(ans)
        if not records:
            return Tensor(ans)
        plan = self.plans.get(mask | bit) or self.plan(mask, len(values))
        for snapshot in _snapshots:
            if (context := snapshot()) is not None:
                residuals = _Within(context, residuals)
        if zeros:
            plan = plan.at_singular_point(CUSP)
        saved = (residuals,) if self.reference is None else (*values, residuals)
        node = Node(plan, tuple(parents), ans.shape, ans.dtype, saved, keywords, guards or None)
        if anomaly:
            node.origin = caller()
        return Tensor(ans, node)
