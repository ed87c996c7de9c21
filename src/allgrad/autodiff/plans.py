"""How an operation goes backward when some of its arguments are tracked: which rules run, and on which saved values."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.autodiff.node import Backward, Node
from allgrad.autodiff.outputs import outputs_of
from allgrad.autodiff.rule import ANS, LINEAR, Rule, Rules
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.zeros import EXACT, exact, inexact, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Step(NamedTuple):
    """One rule of a plan: for which parent, and where in `node.saved` the values it names are.

    `direct` is the rule as a function of the cotangent and these values, if it needs nothing else.
    """

    parent: int
    rule: Rule
    picks: tuple[int, ...]
    direct: Callable[..., Any] | None
    fixed: bool
    """Whether the rule names nothing that is tracked, so that its zeros are exact."""


class ArgumentPlan(Backward):
    """What rules and fused operations have in common: some of the arguments are tracked, some values are saved.

    Attributes:
        tracked: the positions of the arguments that are tracked.
        needs: for each argument, whether it is tracked.
        all_tracked: whether all arguments are.
        saved: what is in `node.saved`: positions of arguments, or `ANS`.
        links: for each of these, the number of the parent that it is, or None.
    """

    __slots__ = ("all_tracked", "links", "needs", "saved", "singular", "tracked", "variants")

    def __init__(self, name: str, tracked: tuple[int, ...], arity: int, saved: tuple[int, ...]) -> None:
        self.name = name
        self.tracked = tracked
        self.needs = tuple(i in tracked for i in range(arity))
        self.all_tracked = len(tracked) == arity
        self.saved = saved
        self.links = tuple(tracked.index(a) if a in tracked else None for a in saved)
        self.singular = EXACT
        self.variants: dict[int, ArgumentPlan] = {}

    def at_singular_point(self, kind: int) -> ArgumentPlan:
        """The same plan, for nodes whose point is singular."""
        found = self.variants.get(kind)
        if found is None:
            found = self.variants[kind] = copy(self)
            found.singular = kind
        return found

    def wanted(self, node: Node, walk: Any) -> tuple[bool, ...]:
        """For each argument, whether this walk wants its cotangent."""
        if walk.wanted is None:
            return self.needs
        live = {i for i, parent in zip(self.tracked, node.parents, strict=True) if parent in walk.wanted}
        return tuple(i in live for i in range(len(self.needs)))

    def as_tensors(self, node: Node) -> list[Any]:
        """What `node` saved, as Tensors in their places on the tape, so that rules run on them are recorded."""
        duals = node.duals or (None,) * len(self.saved)
        result: list[Any] = []
        values = node.saved[: len(self.saved)]  # a fused operation keeps its residuals behind them
        for argument, link, value, dual in zip(self.saved, self.links, values, duals, strict=True):
            if argument == ANS:
                result.append(outputs_of(value, node, dual) if node.outputs else Tensor(value, node, dual))
            elif link is not None:
                result.append(Tensor(value, node.parents[link], dual))
            else:
                result.append(value if dual is None else Tensor(value, None, dual))
        return result

    def arguments(self, node: Node) -> list[str | None]:
        known = dict(zip(self.saved, node.saved, strict=False))
        return [None if tracked else _describe(known.get(i)) for i, tracked in enumerate(self.needs)]


def _describe(constant: Any) -> str:
    if constant is None:
        return "constant"
    shape = np.shape(constant)
    return f"constant {shape}" if shape else f"{np.asarray(constant)[()]:.4g}"


class RulePlan(ArgumentPlan):
    """How one primitive goes backward when a given set of its arguments is tracked. Made once for each set."""

    __slots__ = ("by_user", "joint", "multilinear", "steps", "takes_into")

    def __init__(self, primitive: Rules, tracked: tuple[int, ...], arity: int, *, by_user: bool) -> None:
        names = primitive.arguments
        position = {name: i for i, name in enumerate(names)} | {"ans": ANS}
        rules = [primitive.joint] if primitive.joint else [primitive.vjp_of(i) for i in tracked]
        saved: dict[int, int] = {}  # argument -> place in node.saved
        steps = []
        for parent, rule in enumerate(rules):
            wanted = range(arity) if rule.names[:1] == ("operands",) else [position[name] for name in rule.names]
            picks = tuple(saved.setdefault(argument, len(saved)) for argument in wanted)
            fixed = not any(i == ANS or i in tracked for i in wanted)
            direct = rule.function if type(rule) is Rule else rule.direct
            steps.append(Step(parent, rule, picks, None if rule.keywords or rule.into else direct, fixed))
        super().__init__(primitive.name, tracked, arity, tuple(saved))
        self.steps = tuple(steps)
        self.joint = primitive.joint is not None
        self.takes_into = any(rule.into for rule in rules)
        self.by_user = by_user
        self.multilinear = primitive.joint_jvp == LINEAR or all(
            primitive.jvps.get(name) == LINEAR for name in names[:arity]
        )

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:
        saved = self.as_tensors(node) if walk.tensors else node.saved
        keywords = node.keywords
        if walk.zeros and self.multilinear:  # what varies is a factor, in rules that may multiply as they like
            saved = [x if link is None else inexact(x) for x, link in zip(saved, self.links, strict=True)]
        buffers = walk.offers(node, self.tracked, len(self.needs)) if self.takes_into else ()
        if self.joint:
            rule, picks = self.steps[0].rule, self.steps[0].picks
            extra = {"into": buffers} if rule.into else {}
            cotangents = rule(g, [saved[k] for k in picks], keywords, needs=self.wanted(node, walk), **extra)
            return [cotangents[i] for i in self.tracked]
        parents = node.parents
        contributions: list[Any] = []
        for parent, rule, picks, direct, fixed in self.steps:
            if walk.wanted is not None and parents[parent] not in walk.wanted:
                contributions.append(None)
            elif fixed and walk.zeros:
                extra = {"into": buffers[self.tracked[parent]]} if rule.into else {}
                contributions.append(plain(rule(g, [exact(saved[k]) for k in picks], keywords, **extra)))
            elif direct is not None:
                contributions.append(direct(g, *[saved[k] for k in picks]))
            elif rule.into:
                buffer = buffers[self.tracked[parent]]
                contributions.append(rule(g, [saved[k] for k in picks], keywords, into=buffer))
            else:
                contributions.append(rule(g, [saved[k] for k in picks], keywords))
        if self.by_user and not walk.tensors:
            return [c.value if isinstance(c, Tensor) else c for c in contributions]
        return contributions
