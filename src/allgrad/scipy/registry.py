"""How SciPy's functions get their rules, and the table of which have one.

There are two kinds of functions:

* **ufuncs** (most of scipy.special). NumPy hands them to `Tensor.__array_ufunc__`, so plain SciPy works. A ufunc is declared
  by its partial derivatives: `ufunc("gammaln", "x", x=lambda x: sc.psi(x))`.
* **other functions** (scipy.linalg, scipy.signal, ...). NumPy's protocols cannot catch these, so this package offers a
  function of the same name and signature: `from allgrad.scipy import linalg`. `@differentiates(scipy.linalg.solve)` registers
  it, and calls SciPy itself when no argument is a Tensor.

Rules run with NumPy's floating-point warnings off, as SciPy's special functions do at their poles.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import _ufuncs

from allgrad.autodiff.containers import flatten
from allgrad.autodiff.primitive import Primitive
from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import operand as any_operand
from allgrad.numpy.arguments import value as value
from allgrad.numpy.dispatch import implements, on_values, ufunc_keywords
from allgrad.numpy.singular import Factor, product

if TYPE_CHECKING:
    from collections.abc import Callable


class Row(NamedTuple):
    """A SciPy function with a rule: its name, its family, and "differentiated" or "constant"."""

    name: str
    family: str
    kind: str


TABLE: set[Row] = set()
"""Every function registered so far; `allgrad.scipy.coverage()` sorts it."""


class Partial(Factor):
    """A partial derivative of an elementwise function, which multiplies the cotangent or tangent.

    Args:
        function: computes the factor.
        names: what the function is called with; by default the names of its parameters.
    """

    __slots__ = ()

    def __init__(self, function: Callable[..., Any], names: tuple[str, ...] = ()) -> None:
        super().__init__(function, factor=True)
        self.names = names or self.names

    def direct(self, g: Any, *picked: Any) -> Any:
        with np.errstate(all="ignore"):
            return super().direct(g, *[_quiet(x) for x in picked])


def _quiet(x: Any) -> Any:
    """A Python number as NumPy's, whose division by 0 is infinite and no exception."""
    return np.float64(x) if type(x) is float else np.complex128(x) if type(x) is complex else x


class Partials(Partial):
    """The partial derivatives of all results of an elementwise function by one argument; None where one is 0."""

    __slots__ = ("forward",)

    def __init__(self, function: Callable[..., Any], *, forward: bool) -> None:
        super().__init__(function)
        self.forward = forward

    def direct(self, g: Any, *picked: Any) -> Any:
        with np.errstate(all="ignore"):
            factors = self.function(*[_quiet(x) for x in picked])
            if self.forward:
                return tuple(g * 0 if d is None else product(g, d) for d in factors)
            terms = [product(c, d) for c, d in zip(g, factors, strict=True) if d is not None]
            return sum(terms[1:], terms[0])


def elementwise(
    function: Callable[..., Any], arguments: str, name: str | None = None, **partials: Callable[..., Any] | Partial
) -> Primitive:
    """An elementwise primitive from its partial derivatives, each a function of what it names among `arguments` and ans."""
    rules: dict[str, Any] = {k: p if isinstance(p, Partial) else Partial(p) for k, p in partials.items()}
    return Primitive(
        function,
        name=name or str(getattr(function, "__name__", "function")),
        arguments=tuple(arguments.split()),
        vjp=rules,
        jvp=rules,
        policy=ufunc_keywords if isinstance(function, np.ufunc) else None,
    )


def ufunc(name: str, arguments: str, **partials: Callable[..., Any] | Partial) -> Primitive:
    """Declare a ufunc of scipy.special with one result by its partial derivatives.

    An argument without a partial (an integer order) raises a `TypeError` by name when it is tracked.
    """
    function = getattr(_ufuncs, name)
    primitive = elementwise(function, arguments, name, **partials)
    implements(function)(primitive)
    TABLE.add(Row(name.lstrip("_"), "special", "differentiated"))
    return primitive


def ufunc_of_many(name: str, arguments: str, **partials: Callable[..., Any]) -> Primitive:
    """Declare a ufunc with several results. A partial returns one factor per result."""
    function = getattr(_ufuncs, name)
    primitive = Primitive(
        function,
        name=name,
        arguments=tuple(arguments.split()),
        vjp={argument: Partials(partial, forward=False) for argument, partial in partials.items()},
        jvp={argument: Partials(partial, forward=True) for argument, partial in partials.items()},
        outputs=True,
    )
    implements(function)(primitive)
    TABLE.add(Row(name, "special", "differentiated"))
    return primitive


def constant_ufunc(*names: str) -> None:
    """Declare ufuncs whose derivative is zero wherever it exists."""
    for name in names:
        function = getattr(_ufuncs, name)
        implements(function)(on_values(function))
        TABLE.add(Row(name, "special", "constant"))


def tracked(tree: Any) -> bool:
    """Whether a Tensor is anywhere in nested lists, tuples and dicts."""
    if isinstance(tree, dict):
        return any(map(tracked, tree.values()))
    if isinstance(tree, (list, tuple)):
        return any(map(tracked, tree))
    return isinstance(tree, Tensor)


HINTS = {"overwrite_a", "overwrite_b", "overwrite_ab", "overwrite_x", "overwrite_data", "check_finite"} | {
    "driver",
    "lapack_driver",
    "lwork",
    "workers",
    "plan",
}
"""Keywords of SciPy that say how to compute and not what: on Tensors they are ignored."""


def differentiates(
    function: Callable[..., Any], family: str, also: Callable[..., bool] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorated function stands in for SciPy's `function` when an argument is a Tensor.

    Args:
        function: SciPy's function, called when no argument holds a Tensor.
        family: where `coverage()` lists it; "" leaves it out.
        also: from the arguments, whether the rule is needed although none of them holds a Tensor: a function among
            them may have captured one.
    """

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(rule)
        def either(*args: Any, **keywords: Any) -> Any:
            if tracked(args) or tracked(keywords) or (also is not None and also(*args, **keywords)):
                return rule(*args, **{k: v for k, v in keywords.items() if k not in HINTS})
            return function(*args, **keywords)

        if family:
            TABLE.add(Row(function.__name__, family, "differentiated"))
        return either

    return register


def operand(x: Any, dtype: Any = None) -> Any:
    """An argument as an array or a Tensor of floating numbers; integers become float64."""
    x = any_operand(x)
    if dtype is None and x.dtype.kind not in "fc":
        dtype = float
    return x if dtype is None or x.dtype == dtype else x.astype(dtype)


def values(tree: Any) -> Any:
    """`tree` with the numbers of each Tensor in its place."""
    leaves, build = flatten(tree)
    return build([x.value if isinstance(x, Tensor) else x for x in leaves])
