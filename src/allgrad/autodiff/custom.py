"""Derivatives of one's own: `custom_vjp` and `custom_jvp`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.autodiff.primitive import Primitive

if TYPE_CHECKING:
    from collections.abc import Callable


def custom_vjp(**rules: Any) -> Callable[[Callable[..., Any]], Primitive]:
    """Give a function reverse-mode rules of its own, one for each argument that is differentiated.

    The function computes on plain arrays, by whatever means: its arrays are positional parameters, all else is keyword-only.
    A rule takes the cotangent of the result, then by name what it needs among `ans`, the arguments, and (keyword-only)
    the static ones; it returns the argument's cotangent. Rules written in NumPy's functions are differentiable again.
    Forward mode needs `custom_jvp` rules too: add them with the `.defjvp(...)` of what this returns.

    >>> import numpy as np, allgrad as ag
    >>> @ag.custom_vjp(x=lambda g, ans: g * ans * (1 - ans))
    ... def logistic(x):
    ...     return 1 / (1 + np.exp(-x))
    >>> ag.grad(logistic)(0.0)
    np.float64(0.25)
    >>> _ = logistic.defjvp(x=lambda t, ans: t * ans * (1 - ans))
    >>> ag.check_grads(logistic, 0.3)
    """
    return lambda function: Primitive(function, name=_name(function), vjp=rules, by_user=True)


def custom_jvp(**rules: Any) -> Callable[[Callable[..., Any]], Primitive]:
    """Give a function forward-mode rules of its own; the mirror image of `custom_vjp`, with `.defvjp(...)` for the other mode.

    A rule takes the tangent of its argument and returns the tangent of the result; `allgrad.LINEAR` stands for the
    function itself. `ag.check_grads` compares the two modes with each other and with numerical differentiation.

    >>> import numpy as np, allgrad as ag
    >>> @ag.custom_jvp(x=lambda t, x: t * 3 * x * x)
    ... def cube(x):
    ...     return x * x * x
    >>> ag.derivative(cube)(2.0)
    np.float64(12.0)
    """
    return lambda function: Primitive(function, name=_name(function), jvp=rules, by_user=True)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
