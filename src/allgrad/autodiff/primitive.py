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
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from allgrad.autodiff import forward
from allgrad.autodiff.aliases import share
from allgrad.autodiff.anomaly import caller, check_finite
from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.modes import CURRENT, Modes
from allgrad.autodiff.node import Node
from allgrad.autodiff.outputs import outputs_of
from allgrad.autodiff.plans import ArgumentPlan, RulePlan
from allgrad.autodiff.rule import ANS, Rules, as_rule
from allgrad.autodiff.rule import JOINTLY_LINEAR as JOINTLY_LINEAR
from allgrad.autodiff.rule import LINEAR as LINEAR
from allgrad.autodiff.rule import Rule as Rule
from allgrad.autodiff.saved import keep
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.zeros import CUSP, EXACT

if TYPE_CHECKING:
    from collections.abc import Callable


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
        self.plans: dict[int, ArgumentPlan] = {}  # by the mask, with the bit behind the last argument's set
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
        key = mask | 1 << arity
        found = self.plans.get(key)
        if found is None:
            tracked = tuple(i for i in range(arity) if mask >> i & 1)
            found = self.plans[key] = self._make_plan(tracked, arity)
        return found

    def _make_plan(self, tracked: tuple[int, ...], arity: int) -> ArgumentPlan:
        return RulePlan(self, tracked, arity, by_user=self.by_user)

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
        plan = self.plans.get(mask | 1 << len(args)) or self.plan(mask, len(args))
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
                    if a._storage is not None and (version := a._storage.version) is not None:
                        node.guards = (*(node.guards or ()), version)
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


def _argument_names(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
