"""How a primitive is declared: its value, its vjp and its jvp, together.

    square = Primitive(
        lambda x: x * x,
        name="square",
        vjp={"x": lambda g, x: g * (2 * x)},      # cotangent of the result -> cotangent of x
        jvp={"x": lambda t, x: t * (2 * x)},      # tangent of x -> tangent of the result
    )

The conventions that every rule relies on:

* **Arrays are positional, everything else is keyword-only.** Rules are declared under the names of the function's positional
  parameters.
* **A rule asks by name for what it needs**: its first parameter is the cotangent (or tangent); the others are `ans`, argument
  names, or keyword-only static arguments. Only what some needed rule names is saved for backward. A rule that names `into`
  gets the array where its result belongs (or None), and may write the result there and return it.
* **Rules are written in NumPy calls**, so running one on Tensors records it, and higher orders come by themselves.
* **Broadcasting is undone by the engine**: a rule returns its contribution in the shape of the result; it is summed to the
  argument's shape and cast to its dtype (`engine.Walk.add`). Tangents are broadcast the other way.
* A vjp is a *transpose*, not an adjoint: for a holomorphic f it multiplies by f'(x), without conjugation (JAX's convention).
* `LINEAR` in place of a jvp rule says that the function is linear in that argument: the tangent goes through the function.
* A `joint` rule returns the cotangents of all arguments at once, for functions that share work between them or take any number
  of arrays; it may name `needs`, a tuple of booleans, and `*operands`, which stands for all arguments.
"""

from __future__ import annotations

import inspect
import weakref
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from allgrad.autodiff import forward
from allgrad.autodiff.aliases import share
from allgrad.autodiff.anomaly import caller, check_finite
from allgrad.autodiff.engine import Share
from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.modes import CURRENT, Modes
from allgrad.autodiff.node import Backward, Leaf, Node
from allgrad.autodiff.rule import ANS, Rules, as_rule
from allgrad.autodiff.rule import JOINTLY_LINEAR as JOINTLY_LINEAR
from allgrad.autodiff.rule import LINEAR as LINEAR
from allgrad.autodiff.rule import Rule as Rule
from allgrad.autodiff.saved import keep
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.zeros import CUSP, EXACT, exact, inexact, plain

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

    def offers(self, node: Node, walk: Any, *, collectors: bool = False) -> list[Any]:
        """For each argument, the array where its cotangent belongs (or, if wanted, a `node.Collector`), or None."""
        buffers: list[Any] = [None] * len(self.needs)
        parents = node.parents
        for i, parent in zip(self.tracked, parents):  # noqa: B905 - as many by construction, and it runs for each operation
            if isinstance(parent, Leaf):
                buffers[i] = walk.offer(parent, parents, collectors=collectors)
        return buffers

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

    __slots__ = ("by_user", "joint", "multilinear", "steps")

    def __init__(self, primitive: Primitive, tracked: tuple[int, ...], arity: int) -> None:
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
        self.by_user = primitive.by_user
        self.multilinear = primitive.joint_jvp == LINEAR or all(
            primitive.jvps.get(name) == LINEAR for name in names[:arity]
        )

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:
        saved = self.as_tensors(node) if walk.tensors else node.saved
        keywords = node.keywords
        if walk.zeros and self.multilinear:  # what varies is a factor, in rules that may multiply as they like
            saved = [x if link is None else inexact(x) for x, link in zip(saved, self.links, strict=True)]
        if self.joint:
            rule, picks = self.steps[0].rule, self.steps[0].picks
            extra = {"into": self.offers(node, walk)} if rule.into else {}
            cotangents = rule(g, [saved[k] for k in picks], keywords, needs=self.wanted(node, walk), **extra)
            return [cotangents[i] for i in self.tracked]
        parents = node.parents
        contributions: list[Any] = []
        for parent, rule, picks, direct, fixed in self.steps:
            if walk.wanted is not None and parents[parent] not in walk.wanted:
                contributions.append(None)
            elif fixed and walk.zeros:
                extra = {"into": walk.offer(parents[parent], parents)} if rule.into else {}
                contributions.append(plain(rule(g, [exact(saved[k]) for k in picks], keywords, **extra)))
            elif direct is not None:
                contributions.append(direct(g, *[saved[k] for k in picks]))
            elif rule.into:
                buffer = walk.offer(parents[parent], parents)
                contributions.append(rule(g, [saved[k] for k in picks], keywords, into=buffer))
            else:
                contributions.append(rule(g, [saved[k] for k in picks], keywords))
        if self.by_user and not walk.tensors:
            return [c.value if isinstance(c, Tensor) else c for c in contributions]
        return contributions


PRIMITIVES: weakref.WeakSet[Primitive] = weakref.WeakSet()
"""Every operation of this process; `recorded.py` asks which of them were recorded."""


class Primitive(Rules):
    """A function with its derivatives. Calling it on Tensors records; calling it on anything else just computes.

    Args:
        function: arrays by position, all else keyword-only; returns an array, or a tuple if `outputs` is given.
        name: for messages and graphs.
        vjp: argument name -> rule, for every differentiable argument.
        jvp: argument name -> rule or `LINEAR`; or one `JOINTLY_LINEAR`; or, with `joint`, one function of
            (tuple of tangents or None, ans and arguments by name).
        joint: one vjp rule for all arguments, in place of `vjp`.
        arguments: the argument names, where the function's signature does not tell (ufuncs). Empty for any number.
        views: the result may be a view of the first argument, and `function` is linear in it.
        outputs: whether the result is a tuple; rules then get and give tuples.
        policy: called as policy(primitive, args, keywords) for a call with keywords, where these are not static arguments of
            the rules but must be honoured or refused (a ufunc's where=, out=, dtype=).
        by_user: rules may use tracked values that are not among the arguments, as users' own rules do.
        singular: called as singular(ans, *arguments, **statics) on plain arrays: whether a derivative is infinite there, as
            `zeros.KINK` or `zeros.CUSP`, or 0.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        vjp: dict[str, Callable[..., Any] | Rule] | None = None,
        jvp: dict[str, Any] | str | Callable[..., Any] | None = None,
        joint: Callable[..., Any] | None = None,
        arguments: tuple[str, ...] | None = None,
        views: bool = False,
        outputs: bool = False,
        policy: Callable[..., Any] | None = None,
        by_user: bool = False,
        singular: Callable[..., int] | None = None,
    ) -> None:
        super().__init__(name, _argument_names(function) if arguments is None else arguments)
        self.function = function
        self.views = views
        self.outputs = outputs
        self.policy = policy
        self.keeps_statics = not views  # those of views are numbers
        self.by_user = by_user
        self.singular = singular
        self.plans: dict[tuple[int, int], ArgumentPlan] = {}
        PRIMITIVES.add(self)
        self.joint = as_rule(joint) if joint else None
        self.defvjp(**(vjp or {}))
        if isinstance(jvp, dict):
            self.defjvp(**jvp)
        elif jvp is not None:
            self.joint_jvp = jvp if isinstance(jvp, str) else as_rule(jvp)

    def defvjp(self, **rules: Callable[..., Any] | Rule) -> Primitive:
        super().defvjp(**rules)
        self.plans.clear()
        return self

    def plan(self, mask: int, arity: int) -> ArgumentPlan:
        """How to go backward if the arguments whose bits are set in `mask` are tracked."""
        found = self.plans.get((mask, arity))
        if found is None:
            tracked = tuple(i for i in range(arity) if mask >> i & 1)
            found = self.plans[mask, arity] = self._make_plan(tracked, arity)
        return found

    def _make_plan(self, tracked: tuple[int, ...], arity: int) -> ArgumentPlan:
        return RulePlan(self, tracked, arity)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if keywords and self.policy is not None:
            return self.policy(self, args, keywords)
        values = []
        mask = 0
        bit = 1
        seen = dual = False
        for a in args:
            if isinstance(a, Tensor):
                seen = True
                values.append(a.value)
                if a.node is not None:
                    mask |= bit
                if a.tangents is not None:
                    dual = True
            else:
                values.append(a if not isinstance(a, (list, tuple)) else np.asarray(a))
            bit += bit
        if dual:
            return forward.call(self, args, keywords)
        ans = self.function(*values, **keywords)
        if not seen:
            return ans
        modes = CURRENT.get()
        if modes.anomaly:
            check_finite(self.name, ans)
        if self.outputs:
            return self._record_tuple(args, values, keywords, ans, mask if modes.recording else 0, modes)
        if type(ans) is not np.ndarray:
            if isinstance(ans, np.ma.MaskedArray):
                self._refuse_masked()
            ans = np.asarray(ans)
        if not mask or not modes.recording or ans.dtype.kind not in "fc":
            if ans.dtype.kind == "O":
                self._refuse_objects()
            made = Tensor(ans)
        else:
            made = Tensor(ans, self._record(args, values, keywords, ans, ans.shape, ans.dtype, mask, modes))
        if self.views and isinstance(args[0], Tensor):
            share(args[0], made, self, keywords)
        return made

    def _refuse_masked(self) -> NoReturn:
        raise NotDifferentiableError(
            f"{self.name} of a Tensor and a masked array: the derivative would ignore the mask. "
            "Write np.where(m.mask, 0.0, t * m.filled(0.0)), or pass where=~m.mask."
        )

    def _refuse_objects(self) -> NoReturn:
        raise NotDifferentiableError(
            f"{self.name} of a Tensor and an array of dtype object gives objects, which have no derivative. "
            "Convert the array to numbers first: a.astype(float)."
        )

    def _record(
        self, args: Any, values: Any, keywords: Any, ans: Any, shape: Any, dtype: Any, mask: int, modes: Modes
    ) -> Node:
        plan = self.plans.get((mask, len(args))) or self.plan(mask, len(args))
        if modes.zeros:  # a derivative of a derivative counts as singular: it may have zeros that are limits
            plan = plan.at_singular_point(CUSP)
        elif self.singular is not None and (kind := self.singular(ans, *values, **keywords)) != EXACT:
            plan = plan.at_singular_point(kind)
        node = Node(plan, tuple([args[i].node for i in plan.tracked]), shape, dtype)
        if plan.saved:
            saved = []
            for i in plan.saved:
                if i == ANS:
                    saved.append(ans)
                    continue
                a, value = args[i], values[i]
                if isinstance(a, Tensor):
                    if a._storage is not None and (seen := guard(a)) is not None:
                        node.guards = (*(node.guards or ()), seen)
                elif value is a and isinstance(a, np.ndarray):
                    value = keep(a)
                saved.append(value)
            node.saved = tuple(saved)
        if keywords:
            node.keywords = keywords
            if self.keeps_statics:
                for name, static in keywords.items():
                    if type(static) is np.ndarray:
                        keywords[name] = keep(static)
        if modes.anomaly:
            node.origin = caller()
        return node

    def _record_tuple(
        self, args: Any, values: Any, keywords: Any, ans: tuple[Any, ...], mask: int, modes: Modes
    ) -> tuple[Tensor, ...]:
        ans = tuple(np.asarray(a) for a in ans)
        if not mask:
            return tuple(Tensor(a) for a in ans)
        shapes, dtypes = tuple(a.shape for a in ans), tuple(a.dtype for a in ans)
        node = self._record(args, values, keywords, ans, shapes, dtypes, mask, modes)
        node.outputs = len(ans)
        made = outputs_of(ans, node, None)
        if self.views and isinstance(args[0], Tensor):
            for output in made:
                share(args[0], output, self, keywords)
        return made


def guard(a: Tensor) -> tuple[list[int], int, tuple[int, ...]] | None:
    """What lets backward raise if `a`, which a node saves, is a leaf or a view of one and is written before (`Node.guards`)."""
    version = a._storage.version if a._storage is not None else None
    return None if version is None else (version, version[0], a.value.shape)


def _argument_names(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


class _Pick(Backward):
    """Backward from result `index` of an operation that has several: the cotangent goes to its share of the node."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.name = "output"
        self.index = index

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:  # noqa: ARG002
        return (Share(self.index, g),)


_PICKS: list[_Pick] = []


def outputs_of(ans: tuple[Any, ...], node: Node, duals: Any) -> tuple[Tensor, ...]:
    """The results of a node that has several, each with a node of its own that picks it."""
    while len(_PICKS) < len(ans):
        _PICKS.append(_Pick(len(_PICKS)))
    made = []
    for i, a in enumerate(ans):
        pick = Node(_PICKS[i], (node,), a.shape, a.dtype) if a.dtype.kind in "fc" else None
        made.append(Tensor(a, pick, duals[i] if duals else None))
    return tuple(made)
