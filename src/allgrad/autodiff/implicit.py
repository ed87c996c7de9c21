"""`custom_root`: the solution of an equation, differentiated by the implicit function theorem.

A solver finds x with f(x, theta) = 0 on plain arrays, by any means; its iterations are not differentiated. The theorem gives
dx/dtheta = -J^-1 df/dtheta with J = df/dx at the solution. It is applied as chord steps,

    x <- x - J^-1 f(x, theta),          J a constant,

starting from the solution as a constant. Each step makes one more order of derivatives exact, because the error of x as a
function of theta is multiplied by I - J^-1 f_x, which vanishes at the solution (Griewank and Walther, Evaluating Derivatives,
2nd ed., sec. 15.3). As many steps are taken as there are transforms around the call, so every order is exact, in
forward mode and in reverse mode, by the arguments that f captures too, and for any mix of modes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.derivatives import jacobian
from allgrad.autodiff.errors import CotangentError, ImplicitError
from allgrad.autodiff.modes import CURRENT, switched
from allgrad.autodiff.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NEWTON_STEPS = 50


def custom_root(f: Callable[[Any], Any], x0: Any, solve: Callable[..., Any] | None = None) -> Any:
    """The root x of f, an equation in as many unknowns as results, differentiable in everything that f captures.

    Args:
        f: takes x and returns the residual, of x's shape; written in NumPy's functions. It may capture tracked values:
            `lambda x: np.cos(x) - a * x`.
        x0: where the solver starts; a floating array or a number. No derivative flows to it.
        solve: called as solve(f, x0) on plain arrays; returns the root. Newton's method by default. Use SciPy's for hard
            problems: `lambda f, x0: scipy.optimize.root(f, x0).x`.

    Returns:
        The root, of x0's shape: a Tensor if f captured something that is tracked, else an array.

    Raises:
        ImplicitError: the solver failed, or the Jacobian of f is singular at the root.
        CotangentError: the residual does not have x's shape.

    A fixed point x = g(x) is the root of x - g(x); a minimum is the root of `ag.grad(loss)`.

    >>> import numpy as np, allgrad as ag
    >>> def square_root(a):
    ...     return ag.custom_root(lambda x: x * x - a, 1.0)
    >>> float(square_root(4.0)), float(ag.grad(square_root)(4.0)), float(ag.grad(ag.grad(square_root))(4.0))
    (2.0, 0.25, -0.03125)
    """
    start = np.asarray(_value(x0))
    start = start if start.dtype.kind in "fc" else start.astype(float)
    modes = CURRENT.get()

    def residual(x: Any) -> Any:
        """f on plain arrays, as the solver sees it."""
        r = _value(f(x))
        if np.shape(r) != np.shape(x):
            raise CotangentError(f"custom_root: f must return x's shape, {np.shape(x)}; it returned {np.shape(r)}.")
        return r

    with switched(recording=False, forward=0):
        residual(start)
        found = _newton(f, start) if solve is None else solve(residual, start)
        root = np.array(_value(found), dtype=start.dtype).reshape(start.shape)
        residual(root)
        matrix = _jacobian(f, root)
    x: Any = Tensor(root)
    for _ in range(modes.forward + modes.reverse + modes.recording):
        step = np.linalg.solve(matrix, np.reshape(f(x), (-1, 1)))
        x = x - np.reshape(step, root.shape)
    tracked = isinstance(x, Tensor) and (x.node is not None or x.tangents is not None)
    return x if tracked else _value(x)[()]


def _newton(f: Callable[[Any], Any], x: Any) -> Any:
    """Newton's method with the Jacobian of f, on plain arrays: the default solver of `custom_root`.

    Raises:
        ImplicitError: no convergence in `MAX_NEWTON_STEPS` steps.
    """
    tolerance = 10 * float(np.finfo(x.dtype).eps)
    for _ in range(MAX_NEWTON_STEPS):
        step = np.linalg.solve(_jacobian(f, x), np.reshape(_value(f(x)), (-1, 1))).reshape(x.shape)
        x = np.asarray(x - step, dtype=x.dtype)
        if not np.isfinite(x).all():
            break
        if np.max(np.abs(step), initial=0.0) <= tolerance * max(1.0, float(np.max(np.abs(x), initial=0.0))):
            return x
    raise ImplicitError(
        f"custom_root: Newton's method did not converge in {MAX_NEWTON_STEPS} steps. Give a better starting point, or "
        "another solver, e.g. solve=lambda f, x0: scipy.optimize.root(f, x0).x."
    )


def _jacobian(f: Callable[[Any], Any], x: Any) -> Any:
    matrix = np.asarray(_value(jacobian(f)(x))).reshape(x.size, x.size)
    if x.size and np.linalg.matrix_rank(matrix) < x.size:
        raise ImplicitError(
            f"custom_root: the Jacobian of f is singular (rank below {x.size}) at x = {x!r}; "
            "there the root is not a differentiable function of what f captures."
        )
    return matrix


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Tensor) else x
