"""`custom_vjp` and `custom_jvp`: functions with derivative rules that the user writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.autodiff.primitive import Primitive

if TYPE_CHECKING:
    from collections.abc import Callable


def custom_vjp(**rules: Any) -> Callable[[Callable[..., Any]], Primitive]:
    """Give a function its own reverse-mode rules, one for each argument that is differentiated.

    The function computes on plain arrays, by any means: its arrays are positional parameters, everything else is keyword-only.
    A rule takes the cotangent of the result, then, by name, what it needs: `ans`, arguments, and (keyword-only) static arguments.
    It returns the argument's cotangent. Rules written in NumPy's functions are differentiable again, and may use tracked values
    from outside. Forward mode needs rules too: add them with `.defjvp(...)` of the result.

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
    """Give a function its own forward-mode rules: the mirror image of `custom_vjp`, with `.defvjp(...)` for the other mode.

    A rule takes the tangent of its argument and returns the tangent of the result. In place of a rule, `allgrad.LINEAR` says that
    the function is linear in the argument. `ag.check_grads` compares both modes with numerical differentiation.

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
