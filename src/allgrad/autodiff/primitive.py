"""How a primitive is declared: its value, its vjp and its jvp, together.

    square = Primitive(
        lambda x: x * x,
        name="square",
        vjp={"x": lambda g, x: g * (2 * x)},      # cotangent of the result -> cotangent of x
        jvp={"x": lambda t, x: t * (2 * x)},      # tangent of x -> tangent of the result
    )

The conventions that every rule relies on:

* **Arrays are positional, everything else is keyword-only.** The names of the function's positional parameters are the names
  under which rules are declared.
* **A rule asks by name for what it needs**: its first parameter is the cotangent (or tangent); the others are `ans`, argument
  names, or keyword-only static arguments. Only what some needed rule names is saved for backward. A rule that names `into`
  is handed the array where its result belongs (or None), and may write the result there and return it.
* **Rules are written in NumPy calls**, so running one on Tensors records it, and higher orders come by themselves.
* **Broadcasting is undone by the engine**: a rule returns its contribution in the shape of the result; it is summed to the
  argument's shape and cast to its dtype (`engine.fit`). Tangents are broadcast the other way.
* A vjp is a *transpose*, not an adjoint: for a holomorphic f it multiplies by f'(x), without conjugation (JAX's convention).
* `LINEAR` in place of a jvp rule says that the function is linear in that argument: the tangent goes through the function.
* A `joint` rule returns the cotangents of all arguments at once, for functions that share work between them or take any number
  of arrays; it may name `needs`, a tuple of booleans, and `*operands`, all arguments.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import numpy as np

from allgrad.autodiff import saved as guard
from allgrad.autodiff.errors import AnomalyError
from allgrad.autodiff.modes import CURRENT, Modes
from allgrad.autodiff.node import Node, Storage
from allgrad.autodiff.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LINEAR: Final = "linear"
"""As a jvp rule: the function is linear in this argument."""

JOINTLY_LINEAR: Final = "jointly linear"
"""As the only jvp rule: the function is linear in all arguments taken together (concatenate)."""

ANS = -1


class Rule:
    """A rule's function, and what it asks for."""

    __slots__ = ("function", "into", "keywords", "names")

    def __init__(self, function: Callable[..., Any], *, factor: bool = False) -> None:
        parameters = list(inspect.signature(function).parameters.values())
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
        self.function = function
        # A factor (an elementwise partial derivative) is not told the cotangent; whoever subclasses Rule multiplies.
        self.names = tuple(positional if factor else positional[1:])
        keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.into = "into" in keywords
        self.keywords = tuple(k for k in keywords if k not in ("into", "needs"))

    def __call__(self, g: Any, picked: Sequence[Any], keywords: dict[str, Any] | None, **extra: Any) -> Any:
        if self.keywords:
            assert keywords is not None
            for name in self.keywords:
                extra[name] = keywords[name]
        return self.function(g, *picked, **extra)


class Step(NamedTuple):
    """One rule of a plan: for which parent, and where in `node.saved` its named values stand."""

    parent: int
    rule: Rule
    picks: tuple[int, ...]


class Plan:
    """How one primitive goes backward when a given set of its arguments is tracked. Made once for each set."""

    __slots__ = ("joint", "links", "needs", "primitive", "saved", "steps", "tracked")

    def __init__(self, primitive: Primitive, tracked: tuple[int, ...], arity: int) -> None:
        self.primitive = primitive
        self.tracked = tracked
        self.needs = tuple(i in tracked for i in range(arity))
        names = primitive.arguments
        position = {name: i for i, name in enumerate(names)} | {"ans": ANS}
        rules = [primitive.joint] if primitive.joint else [primitive.rule_for(i) for i in tracked]
        saved: dict[int, int] = {}  # argument -> place in node.saved
        steps = []
        for parent, rule in enumerate(rules):
            wanted = range(arity) if rule.names[:1] == ("operands",) else [position[name] for name in rule.names]
            picks = tuple(saved.setdefault(argument, len(saved)) for argument in wanted)
            steps.append(Step(parent, rule, picks))
        self.steps = tuple(steps)
        self.joint = primitive.joint is not None
        self.saved = tuple(saved)
        self.links = tuple(tracked.index(a) if a in tracked else None for a in saved)

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:
        """Contributions for `node.parents`, in order; None where nothing flows. `walk` says how: see `engine.Walk`."""
        saved = self.as_tensors(node) if walk.tensors else node.saved
        keywords = node.keywords
        parents = node.parents
        if self.joint:
            rule, picks = self.steps[0].rule, self.steps[0].picks
            needs = self.needs if walk.wanted is None else self._needs(parents, walk.wanted)
            extra = {"into": self._offers(parents, walk)} if rule.into else {}
            cotangents = rule(g, [saved[k] for k in picks], keywords, needs=needs, **extra)
            return [cotangents[i] for i in self.tracked]
        contributions: list[Any] = []
        for parent, rule, picks in self.steps:
            if walk.wanted is not None and parents[parent] not in walk.wanted:
                contributions.append(None)
            elif rule.into:
                buffer = walk.offer(parents[parent], parents)
                contributions.append(rule(g, [saved[k] for k in picks], keywords, into=buffer))
            else:
                contributions.append(rule(g, [saved[k] for k in picks], keywords))
        return contributions

    def _needs(self, parents: Sequence[Node], wanted: Any) -> tuple[bool, ...]:
        live = {i for i, parent in zip(self.tracked, parents, strict=True) if parent in wanted}
        return tuple(i in live for i in range(len(self.needs)))

    def _offers(self, parents: Sequence[Node], walk: Any) -> list[Any]:
        buffers: list[Any] = [None] * len(self.needs)
        offer = walk.offer
        for i, parent in zip(self.tracked, parents, strict=True):
            buffers[i] = offer(parent, parents)
        return buffers

    def as_tensors(self, node: Node) -> list[Any]:
        """What `node` saved, as Tensors in their places on the tape, so that rules run on them are recorded."""
        duals = node.duals or (None,) * len(self.saved)
        result: list[Any] = []
        values = node.saved[: len(self.saved)]  # a fused operation keeps its residuals behind them
        for argument, link, value, dual in zip(self.saved, self.links, values, duals, strict=True):
            if argument == ANS:
                result.append(_outputs(value, node, dual) if node.outputs else Tensor(value, node, dual))
            elif link is not None:
                result.append(Tensor(value, node.parents[link], dual))
            else:
                result.append(value if dual is None else Tensor(value, None, dual))
        return result


class Primitive:
    """A function with its derivatives. Calling it on Tensors records; calling it on anything else just computes.

    Args:
        function: arrays by position, all else keyword-only; returns an array, or a tuple if `outputs` is given.
        name: for messages and graphs.
        vjp: argument name -> rule, for every differentiable argument.
        jvp: argument name -> rule or `LINEAR`; or one `JOINTLY_LINEAR`; or, with `joint`, one function of
            (tuple of tangents or None, ans and arguments by name).
        joint: one vjp rule for all arguments, in place of `vjp`.
        arguments: the argument names, where the function's signature does not tell (ufuncs). Empty for any number.
        views: the result may be a view of the first argument.
        outputs: whether the result is a tuple; rules then get and give tuples.
        policy: called as policy(primitive, args, keywords) for a call with keywords, where these are not static arguments of
            the rules but must be honoured or refused (a ufunc's where=, out=, dtype=).
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
    ) -> None:
        self.function = function
        self.name = name
        self.views = views
        self.outputs = outputs
        self.policy = policy
        self.arguments = _argument_names(function) if arguments is None else arguments
        self.plans: dict[tuple[int, int], Plan] = {}
        self.vjps: dict[str, Rule] = {}
        self.jvps: dict[str, Rule | str] = {}
        self.joint = Rule(joint) if joint else None
        self.joint_jvp: Rule | str | None = None
        self.defvjp(**(vjp or {}))
        if isinstance(jvp, dict):
            self.defjvp(**jvp)
        elif jvp is not None:
            self.joint_jvp = jvp if isinstance(jvp, str) else Rule(jvp)

    def defvjp(self, **rules: Callable[..., Any] | Rule) -> Primitive:
        """Declare reverse-mode rules by argument name; returns the primitive."""
        self._check_names(rules)
        self.vjps |= {k: _rule(v) for k, v in rules.items()}
        self.plans.clear()
        return self

    def defjvp(self, **rules: Callable[..., Any] | Rule | str) -> Primitive:
        """Declare forward-mode rules by argument name; returns the primitive."""
        self._check_names(rules)
        self.jvps |= {k: v if isinstance(v, str) else _rule(v) for k, v in rules.items()}
        return self

    def _check_names(self, rules: dict[str, Any]) -> None:
        unknown = set(rules) - set(self.arguments)
        if unknown:
            raise ValueError(f"{self.name}: rules for {sorted(unknown)}, but its arguments are {list(self.arguments)}.")
        for rule in rules.values():
            names = set(_rule(rule).names) if not isinstance(rule, str) else set()
            if names - {*self.arguments, "ans", "operands"}:
                raise ValueError(
                    f"{self.name}: a rule asks for {sorted(names - {*self.arguments})}; it may name 'ans' and the arguments "
                    f"{list(self.arguments)}, and static arguments as keyword-only parameters."
                )

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def rule_for(self, i: int) -> Rule:
        rule = self.vjps.get(self.arguments[i]) if i < len(self.arguments) else None
        if rule is None:
            from allgrad.autodiff.errors import NotDifferentiableError

            which = self.arguments[i] if i < len(self.arguments) else i
            raise NotDifferentiableError(
                f"{self.name} is not differentiable in its argument {which!r}; pass it with .detach()."
            )
        return rule

    def plan(self, mask: int, arity: int) -> Plan:
        found = self.plans.get((mask, arity))
        if found is None:
            tracked = tuple(i for i in range(arity) if mask >> i & 1)
            found = self.plans[mask, arity] = Plan(self, tracked, arity)
        return found

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
            from allgrad.autodiff.forward import call

            return call(self, args, keywords)
        ans = self.function(*values, **keywords)
        if not seen:
            return ans
        modes = CURRENT.get()
        if modes.anomaly:
            check_finite(self, ans)
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
        if self.views:
            _share_storage(args[0], made)
        return made

    def _refuse_masked(self) -> NoReturn:
        from allgrad.autodiff.errors import NotDifferentiableError

        raise NotDifferentiableError(
            f"{self.name} of a Tensor and a masked array: the derivative would ignore the mask. "
            "Write np.where(m.mask, 0.0, t * m.filled(0.0)), or pass where=~m.mask."
        )

    def _refuse_objects(self) -> NoReturn:
        from allgrad.autodiff.errors import NotDifferentiableError

        raise NotDifferentiableError(
            f"{self.name} of a Tensor and an array of dtype object gives objects, which have no derivative. "
            "Convert the array to numbers first: a.astype(float)."
        )

    def _record(
        self, args: Any, values: Any, keywords: Any, ans: Any, shape: Any, dtype: Any, mask: int, modes: Modes
    ) -> Node:
        plan = self.plans.get((mask, len(args))) or self.plan(mask, len(args))
        node = Node(plan, tuple([args[i].node for i in plan.tracked]), shape, dtype)
        if plan.saved:
            node.saved = tuple([ans if i < 0 else values[i] for i in plan.saved])
            for k, i in enumerate(plan.saved):
                if i >= 0:
                    a = args[i]
                    if isinstance(a, Tensor):
                        if a._storage is not None:
                            version = a._storage.version
                            node.guards = (*(node.guards or ()), (k, version, version[0]))
                    elif isinstance(values[i], np.ndarray) and values[i].flags.writeable:
                        node.guards = (*(node.guards or ()), (k, None, guard.fingerprint(values[i])))
        if keywords:
            node.keywords = keywords
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
        made = _outputs(ans, node, None)
        if self.views:
            for output in made:
                _share_storage(args[0], output)
        return made


def _rule(rule: Callable[..., Any] | Rule) -> Rule:
    return rule if isinstance(rule, Rule) else Rule(rule)


def _argument_names(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


class Share(NamedTuple):
    """The cotangent of one result of a primitive that has several."""

    output: int
    cotangent: Any


class _Pick(Plan):
    """Backward from result `index` of a primitive with several: the cotangent goes to its share of the node."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        super().__init__(PICK, (0,), 1)
        self.index = index

    def pullback(self, node: Node, g: Any, walk: Any) -> Sequence[Any]:  # noqa: ARG002
        return (Share(self.index, g),)


PICK = Primitive(lambda x: x, name="output", vjp={"x": lambda g: g}, jvp={"x": LINEAR})
_PICKS: list[_Pick] = []


def _outputs(ans: tuple[Any, ...], node: Node, duals: Any) -> tuple[Tensor, ...]:
    while len(_PICKS) < len(ans):
        _PICKS.append(_Pick(len(_PICKS)))
    made = []
    for i, a in enumerate(ans):
        pick = Node(_PICKS[i], (node,), a.shape, a.dtype) if a.dtype.kind in "fc" else None
        made.append(Tensor(a, pick, duals[i] if duals else None))
    return tuple(made)


def _share_storage(source: Any, view: Tensor) -> None:
    """Let a Tensor that may look at the memory of another one share its storage; see `node.Storage`."""
    if isinstance(source, Tensor) and (view.value.base is not None or view.value is source.value):
        if source._storage is None:
            source._storage = Storage()
        view._storage = source._storage


def check_finite(primitive: Primitive, ans: Any, during: str = "gave") -> None:
    for a in ans if isinstance(ans, tuple) else (ans,):
        value = np.asarray(a.value if isinstance(a, Tensor) else a)
        if value.dtype.kind in "fc" and not np.isfinite(value).all():
            bad = value[~np.isfinite(value)].flat[0]
            count = int(np.count_nonzero(~np.isfinite(value)))
            raise AnomalyError(
                f"{primitive.name} {during} {bad} ({count} of {value.size} entries, shape {value.shape}), at {caller()}."
            )


def caller() -> str:
    """The nearest line of code outside this package's own machinery and NumPy."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("allgrad.autodiff", "allgrad.numpy", "numpy")):
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
