"""How the derivatives of an operation are declared: its rules.

A `Rule` is a function and the names of what it needs. `Rules` is the table of one operation's rules; `Primitive` and `Fused` are
the two kinds of operation that have one. The conventions of rules are in primitive.py.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from allgrad.autodiff.errors import NotDifferentiableError, RuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LINEAR: Final = "linear"
"""As a jvp rule: the function is linear in this argument."""

JOINTLY_LINEAR: Final = "jointly linear"
"""As the only jvp rule: the function is linear in all arguments taken together (concatenate)."""

ANS: Final = -1
"""The place of the result, where arguments have the places 0, 1, ..."""


class Rule:
    """A rule's function, and what it asks for."""

    __slots__ = ("function", "into", "keywords", "names")

    def __init__(self, function: Callable[..., Any], *, factor: bool = False) -> None:
        parameters = list(inspect.signature(function).parameters.values())
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
        self.function = function
        # A factor (an elementwise partial derivative) does not get the cotangent; the subclass of Rule that calls it multiplies.
        self.names = tuple(positional if factor else positional[1:])
        keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.into = "into" in keywords
        self.keywords = tuple(k for k in keywords if k not in ("into", "needs"))

    def direct(self, g: Any, *picked: Any) -> Any:
        """The rule, if it asks for no keywords."""
        return self.function(g, *picked)

    def __call__(self, g: Any, picked: Sequence[Any], keywords: dict[str, Any] | None, **extra: Any) -> Any:
        if not self.keywords and not extra:
            return self.direct(g, *picked)
        if self.keywords:
            assert keywords is not None
            for name in self.keywords:
                extra[name] = keywords[name]
        return self.function(g, *picked, **extra)


class Rules:
    """The name, the arguments and the rules of one operation; calling it applies the operation."""

    def __init__(self, name: str, arguments: tuple[str, ...]) -> None:
        self.name = name
        self.arguments = arguments
        self.vjps: dict[str, Rule] = {}
        self.jvps: dict[str, Rule | str] = {}
        self.joint: Rule | None = None
        self.joint_jvp: Rule | str | None = None
        self.outputs = False
        self.views = False

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        raise NotImplementedError

    def defvjp(self, **rules: Callable[..., Any] | Rule) -> Any:
        """Declare reverse-mode rules by argument name; returns the operation."""
        self._check_names(rules)
        self.vjps |= {k: as_rule(v) for k, v in rules.items()}
        return self

    def defjvp(self, **rules: Callable[..., Any] | Rule | str) -> Any:
        """Declare forward-mode rules by argument name; returns the operation."""
        self._check_names(rules)
        self.jvps |= {k: v if isinstance(v, str) else as_rule(v) for k, v in rules.items()}
        return self

    def vjp_of(self, i: int) -> Rule:
        """The vjp rule of argument number `i`."""
        rule = self.vjps.get(self.arguments[i]) if i < len(self.arguments) else None
        if rule is None:
            which = self.arguments[i] if i < len(self.arguments) else i
            raise NotDifferentiableError(
                f"{self.name} has no vjp rule for its argument {which!r}. Pass that argument with .detach(), or declare a rule."
            )
        return rule

    def _check_names(self, rules: dict[str, Any]) -> None:
        unknown = set(rules) - set(self.arguments)
        if unknown:
            raise RuleError(
                f"{self.name}: rules were declared for {sorted(unknown)}, but its arguments are {list(self.arguments)}."
            )
        for rule in rules.values():
            names = set(as_rule(rule).names) if not isinstance(rule, str) else set()
            if unknown := names - {*self.arguments, "ans", "operands"}:
                raise RuleError(
                    f"{self.name}: a rule asks for {sorted(unknown)}. It may name 'ans' and the arguments "
                    f"{list(self.arguments)}, and static arguments as keyword-only parameters."
                )

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def as_rule(rule: Callable[..., Any] | Rule) -> Rule:
    return rule if isinstance(rule, Rule) else Rule(rule)
