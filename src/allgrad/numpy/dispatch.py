"""How NumPy's functions get their rules. `implements` is the one way to register; the others are short forms of it.

* `@implements(np.trapezoid)`: a function with NumPy's own signature, written in other differentiated functions, or one that
  sorts its arguments (arrays by position, the rest by keyword) and calls a `Primitive`.
* `elementwise(np.sin, x=lambda x: np.cos(x))`: a ufunc by its partial derivatives, one factor per argument, which serves
  both as vjp and as jvp. `inverse_slope` takes the denominator, `ufunc_rule` the rules themselves.
* `constant(np.argmax, np.greater)`: the derivative does not exist, or is zero wherever it exists; the plain function of the
  plain values is called.

Keywords of ufuncs: `where=` is differentiated (entries outside the mask are 0; NumPy leaves them undefined), `dtype=` casts the
arguments, and the Tensor itself handles `out=`. `casting=`, `order=`, `subok=` and `signature=` are refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from allgrad.autodiff.containers import map_tensors
from allgrad.autodiff.primitive import Primitive
from allgrad.autodiff.tensor import RULES, Tensor
from allgrad.numpy.arguments import refuse, weak
from allgrad.numpy.singular import Factor, Quotient

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

CONSTANT: set[Any] = set()
"""The functions declared to have no derivative."""

WRITERS: set[Any] = set()
"""The functions that write into their first argument and return None."""


def ufunc_keywords(primitive: Primitive, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """A ufunc call with keywords: `where` and `dtype` are differentiated, the others are refused by name."""
    where = keywords.pop("where", True)
    dtype = keywords.pop("dtype", None)
    refuse(primitive.name, **keywords)
    if dtype is not None:
        args = tuple(x.astype(dtype) if isinstance(x, Tensor) else np.asarray(x, dtype) for x in args)
    if where is True:
        return primitive(*args)
    # The masked-out arguments are replaced first, so that a derivative that is infinite there cannot turn 0 into NaN.
    # A Python number stays one: as an array it would promote float32.
    safe = [np.where(where, x, np.ones((), x.dtype)) if hasattr(x, "dtype") else x for x in map(weak, args)]
    result = primitive(*safe)
    return np.where(where, result, np.zeros((), result.dtype))


def elementwise(ufunc: np.ufunc, **partials: Callable[..., Any]) -> Primitive:
    """Declare a ufunc by its partial derivatives, each a function of what it names among x, y and ans."""
    rules: dict[str, Any] = {name: Factor(partial, factor=True) for name, partial in partials.items()}
    return ufunc_rule(ufunc, vjp=rules, jvp=rules)


def inverse_slope(
    ufunc: np.ufunc, denominator: Callable[..., Any], *, singular: Callable[..., int] | None = None, at_end: bool = True
) -> Primitive:
    """Declare a ufunc of one argument whose derivative is 1 / denominator, infinite where that is 0.

    `denominator` is a function of x or of ans; `singular(ans, x)` says whether it is 0 somewhere, as in `Primitive`; and
    `at_end`, whether only at ends of the domain.
    """
    rule: Any = Quotient(denominator, at_end=at_end)
    return ufunc_rule(ufunc, vjp={"x": rule}, jvp={"x": rule}, singular=singular)


def ufunc_rule(
    ufunc: np.ufunc, *, vjp: dict[str, Any], jvp: dict[str, Any], singular: Callable[..., int] | None = None
) -> Primitive:
    """Declare a ufunc by its rules, where a factor is not enough."""
    primitive = Primitive(
        ufunc,
        name=ufunc.__name__,
        arguments=("x", "y")[: ufunc.nin],
        vjp=vjp,
        jvp=jvp,
        policy=ufunc_keywords,
        singular=singular,
    )
    implements(ufunc)(primitive)
    return primitive


def implements(*functions: Any) -> Callable[[F], F]:
    """Register the decorated rule: NumPy calls it in place of `functions` when one of their arguments is a Tensor.

    A ufunc's method is the pair (ufunc, "reduce"). This is the only place that writes to the table of rules.
    """

    def register(rule: F) -> F:
        for function in functions:
            RULES[function] = rule
        return rule

    return register


def constant(*functions: Any) -> None:
    """Declare functions that have no derivative: they compute on the plain values. Floating results are untracked Tensors."""
    for function in functions:
        CONSTANT.add(function)
        implements(function)(on_values(function))


def on_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of the plain values; floating results are untracked Tensors."""

    def rule(*args: Any, **keywords: Any) -> Any:
        values = [a.value if isinstance(a, Tensor) else a for a in args]
        if [a for a in values if isinstance(a, (list, tuple, dict))]:
            values = map_tensors(_value, values)
        return map_tensors_back(function(*values, **(keywords and map_tensors(_value, keywords))))

    return rule


def map_tensors_back(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(map_tensors_back(r) for r in result)
    kind = getattr(getattr(result, "dtype", None), "kind", "")
    return Tensor(np.asarray(result)) if kind in ("f", "c") else result


def _value(t: Tensor) -> Any:
    return t.value
