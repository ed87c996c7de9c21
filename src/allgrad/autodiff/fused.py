"""Fused operations: several steps in one, with a backward written by hand, for the hot loops of networks.

A fused operation has up to three forms:

* `forward(*values, **statics) -> (ans, residuals)`: plain arrays, as fast as can be;
* `backward(g, residuals, *, needs, into, **statics) -> cotangents`: one for each argument, None where `needs` is False;
  `into[i]`, if not None, is the array where argument i's cotangent belongs;
* `reference(*args, **statics)`: the same function in differentiated NumPy calls. It runs in place of the fused form wherever
  derivatives of derivatives are taken (inside another transform, and in forward mode), so every order is right. Without a
  reference, those uses raise an error that names the operation.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.engine import pull
from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.modes import CURRENT, switched
from allgrad.autodiff.node import SEQUENCE, Node
from allgrad.autodiff.primitive import Plan, Primitive, check_finite
from allgrad.autodiff.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class _FusedPlan(Plan):
    """Backward through a fused operation; `node.saved` is (values of the arguments..., residuals)."""

    __slots__ = ()

    primitive: Fused

    def __init__(self, primitive: Fused, tracked: tuple[int, ...], arity: int) -> None:
        self.primitive = primitive
        self.tracked = tracked
        self.needs = tuple(i in tracked for i in range(arity))
        self.saved = tuple(range(arity)) if primitive.reference else ()
        self.links = tuple(tracked.index(i) if i in tracked else None for i in self.saved)
        self.steps = ()
        self.joint = True

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:
        statics = node.keywords or {}
        if walk.tensors:
            return self._through_reference(node, g, statics)
        needs = self.needs if walk.wanted is None else self._needs(node.parents, walk.wanted)
        extra = {"into": self._offers(node.parents, walk)} if self.primitive.takes_into else {}
        cotangents = self.primitive.backward(g, node.saved[-1], needs=needs, **extra, **statics)
        return [cotangents[i] for i in self.tracked]

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


_INPUT = Primitive(lambda x: x, name="input", vjp={"x": lambda g: g}, jvp={"x": lambda t: t})
_LINKED = Plan(_INPUT, (0,), 1)
_UNLINKED = Plan(_INPUT, (), 1)


def inner_leaf(x: Tensor, *, linked: bool = True) -> Tensor:
    """A fresh place on the tape for `x`, at which an inner walk stops; linked to what `x` is outside, if wanted."""
    parents = (x.node,) if linked and x.node is not None else ()
    made = Tensor(x.value, Node(_LINKED if parents else _UNLINKED, parents, x.shape, x.dtype), x.tangents)
    made._storage = x._storage
    return made


class Fused(Primitive):
    """Declare a fused operation; see the top of this file. `forward`'s positional parameters are its arguments."""

    def __init__(
        self,
        forward: Callable[..., tuple[Any, Any]],
        backward: Callable[..., Sequence[Any]],
        *,
        name: str,
        reference: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(forward, name=name)
        self.backward = backward
        self.reference = reference
        self.takes_into = "into" in inspect.signature(backward).parameters

    def required_reference(self, use: str) -> Callable[..., Any]:
        if self.reference is None:
            raise NoRuleError(
                f"{self.name} is a fused operation without a form for {use}. Compose it from NumPy's functions instead."
            )
        return self.reference

    def plan(self, mask: int, arity: int) -> Plan:
        found = self.plans.get((mask, arity))
        if found is None:
            found = self.plans[mask, arity] = _FusedPlan(self, tuple(i for i in range(arity) if mask >> i & 1), arity)
        return found

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        values: list[Any] = []
        mask = 0
        for i, a in enumerate(args):
            if isinstance(a, Tensor):
                if a.tangents is not None:
                    return self.required_reference("forward mode")(*args, **keywords)
                values.append(a.value)
                if a.node is not None:
                    mask |= 1 << i
            else:
                values.append(a)
        ans, residuals = self.function(*values, **keywords)
        modes = CURRENT.get()
        if modes.anomaly:
            check_finite(self, ans)
        ans = np.asarray(ans)
        if not mask or not modes.recording:
            return Tensor(ans)
        node = self._record(args, values, keywords, ans, ans.shape, ans.dtype, mask, modes)
        node.saved = (*node.saved, residuals)
        return Tensor(ans, node)
