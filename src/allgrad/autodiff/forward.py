"""Forward mode: tangents by level.

**Design.** `jvp` opens a level. A level is a number from the same sequence as the nodes', so an inner `jvp` always has a larger
one than those around it. A Tensor carries a dict {level: tangent}: its value is the coefficient of 1, and the tangent at level L
is that of the nilpotent e_L. A tangent at level L may itself be a Tensor, with tangents at *smaller* levels only: the product
e_K e_L (K < L) is kept as the K-part of the L-tangent. This triangular order keeps perturbations apart: what an inner derivative
treats as a constant still has its outer tangents, but no inner one.

An operation out = f(x) on such numbers therefore gives, for each level L in ascending order,

    out.tangent[L] = jvp_f(x.tangent[L]; x seen without the tangents of levels >= L),

where the jvp rule runs on Tensors, so the same mechanism carries the lower levels through (and the reverse tape, if x is on it).
At the end of its `jvp` a level is removed from the results, and nothing of it remains.

Reverse over forward works because tangents are Tensors that are recorded. Forward over reverse works because nodes keep the
tangents of what they saved (`Node.duals`), and the backward walk runs its rules on those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.aliases import share
from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.modes import switched
from allgrad.autodiff.rule import ANS, JOINTLY_LINEAR, LINEAR, Rule, Rules
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.zeros import FORWARD, exact, plain

if TYPE_CHECKING:
    from collections.abc import Sequence


def below(x: Any, level: int) -> Any:
    """`x` as the operations of `level` see it: without the tangents of this level and those inside it."""
    if not isinstance(x, Tensor) or x.tangents is None:
        return x
    lower = {k: t for k, t in x.tangents.items() if k < level} or None
    return strip(Tensor(x.value, x.node, lower))


def strip(x: Tensor) -> Any:
    """A Tensor without history and tangents is just its array: rules run faster on it."""
    return x.value if x.node is None and x.tangents is None else x


def call(primitive: Rules, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """Apply a primitive to arguments of which at least one carries tangents."""
    levels = sorted({level for a in args if isinstance(a, Tensor) for level in a.tangents or ()})
    primal_args = [a if not isinstance(a, Tensor) else _without_tangents(a) for a in args]
    primal = primitive(*primal_args, **keywords)
    outs = primal if isinstance(primal, tuple) else (primal,)
    tangents: list[dict[int, Any]] = [{} for _ in outs]
    for level in levels:
        lower = [below(a, level) for a in args]
        ans = tuple(strip(Tensor(o.value, o.node, dict(t) or None)) for o, t in zip(outs, tangents, strict=True))
        moving = [a.tangents.get(level) if isinstance(a, Tensor) and a.tangents else None for a in args]
        with switched(zeros=FORWARD), np.errstate(all="ignore"):  # warnings belong to the forward pass
            out = push(primitive, moving, ans if primitive.outputs else ans[0], lower, keywords)
        for o, mine, t in zip(outs, tangents, out if primitive.outputs else (out,), strict=True):
            if t is not None and o.dtype.kind in "fc":
                mine[level] = fit_tangent(t, o)
    made = tuple(Tensor(o.value, o.node, mine or None) for o, mine in zip(outs, tangents, strict=True))
    if primitive.views and isinstance(args[0], Tensor):
        for view in made:
            share(args[0], view, primitive, keywords)
    _keep_duals(outs, made, args)
    return made if primitive.outputs else made[0]


def push(primitive: Rules, moving: Sequence[Any], ans: Any, args: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """The tangent of the result: the sum of what each moving argument contributes; None if none does."""
    rule = primitive.joint_jvp
    if rule == JOINTLY_LINEAR:
        return primitive(*[_zeros(a) if t is None else t for t, a in zip(moving, args, strict=True)], **keywords)
    if isinstance(rule, Rule):
        return _run(rule, tuple(moving), moving, ans, args, keywords, primitive)
    total = None
    for i, t in enumerate(moving):
        if t is None:
            continue
        one = _one(primitive, i, t, moving, ans, args, keywords)
        total = one if total is None else _add(total, one, primitive.outputs)
    return total


def _one(
    primitive: Rules, i: int, t: Any, moving: Sequence[Any], ans: Any, args: Sequence[Any], keywords: dict[str, Any]
) -> Any:
    if primitive.joint_jvp == LINEAR:  # multilinear in any number of arguments
        return primitive(*args[:i], t, *args[i + 1 :], **keywords)
    rule = primitive.jvps.get(primitive.arguments[i]) if i < len(primitive.arguments) else None
    if rule is None:
        raise NoRuleError(
            f"{primitive.name} has no jvp rule for its argument {i}; declare one, or pass it with .detach()."
        )
    if isinstance(rule, str):
        return primitive(*args[:i], t, *args[i + 1 :], **keywords)
    return _run(rule, t, moving, ans, args, keywords, primitive)


def _run(
    rule: Rule,
    t: Any,
    moving: Sequence[Any],
    ans: Any,
    args: Sequence[Any],
    keywords: dict[str, Any],
    primitive: Rules,
) -> Any:
    if rule.names[:1] == ("operands",):
        return rule(t, list(args), keywords)
    places = [ANS if name == "ans" else primitive.arguments.index(name) for name in rule.names]
    picked = [ans if i == ANS else args[i] for i in places]
    if all(i != ANS and moving[i] is None for i in places):
        picked = [exact(x) for x in picked]
    return plain(rule(t, picked, keywords))


def _add(a: Any, b: Any, outputs: bool) -> Any:
    return tuple(x + y for x, y in zip(a, b, strict=True)) if outputs else a + b


def fit_tangent(t: Any, out: Tensor) -> Any:
    """A tangent in the shape and dtype of the value that it belongs to."""
    if not isinstance(t, (Tensor, np.ndarray)):
        t = np.asarray(t)
    if t.shape != out.shape:
        t = np.broadcast_to(t, out.shape)
    if t.dtype != out.dtype:
        t = np.real(t) if t.dtype.kind == "c" and out.dtype.kind != "c" else t
        t = t.astype(out.dtype)
    return t


def _zeros(a: Any) -> Any:
    return np.zeros_like(a.value if isinstance(a, Tensor) else a)


def _without_tangents(t: Tensor) -> Tensor:
    if t.tangents is None:
        return t
    bare = Tensor(t.value, t.node)
    bare._storage = t._storage
    return bare


def _keep_duals(outs: Sequence[Tensor], made: Sequence[Tensor], args: Sequence[Any]) -> None:
    """Give the node the tangents of what it saved, so that a backward walk inside these levels differentiates through them."""
    node = next((o.node for o in outs if o.node is not None), None)
    if node is not None and node.parents and node.parents[0].outputs:
        node = node.parents[0]  # the shared node behind the picks of several results
    if node is None or node.plan is None or not node.saved:
        return

    def tangents_of(argument: int) -> Any:
        if argument == ANS:
            return tuple(m.tangents for m in made) if node.outputs else made[0].tangents
        return args[argument].tangents if isinstance(args[argument], Tensor) else None

    plan: Any = node.plan  # of a primitive, so it says what is saved
    node.duals = tuple(tangents_of(argument) for argument in plan.saved)
