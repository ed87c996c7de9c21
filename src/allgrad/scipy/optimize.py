"""`scipy.optimize` with derivatives: roots, fixed points, minima and least squares, by the implicit function theorem.

SciPy's solver runs on plain numbers. Its result x solves f(x, p) = 0, or grad f(x, p) = 0 for a minimum, so
dx/dp = -f_x^-1 f_p (`allgrad.custom_root`), for `args` and for whatever the functions captured. No derivative flows to the
starting point or the bracket. The result is polished by Newton steps, so it can differ from SciPy's within its tolerance.

A solver that fails raises ImplicitError, since there is no derivative at a point that is no solution. Bounds and constraints
are refused: where one is active the derivative is another one.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize as _scipy_optimize

from allgrad.autodiff.derivatives import jacobian
from allgrad.autodiff.errors import ImplicitError, NotDifferentiableError
from allgrad.autodiff.implicit import custom_root
from allgrad.autodiff.modes import no_grad
from allgrad.autodiff.tensor import Tensor
from allgrad.autodiff.transforms import grad
from allgrad.scipy.implicit import root_at
from allgrad.scipy.registry import TABLE, Row, differentiates, operand, tracked, value, values

if TYPE_CHECKING:
    from collections.abc import Callable


def _tuple(args: Any) -> tuple[Any, ...]:
    return args if isinstance(args, tuple) else (args,)


def _captured(fun: Callable[..., Any], x0: Any, args: Any = (), *_: Any, **__: Any) -> bool:
    """Whether fun captured a Tensor: it then returns one."""
    return tracked(fun(np.asarray(x0, dtype=float), *_tuple(args)))


def _plain(fun: Callable[..., Any] | None, args: Any) -> Callable[..., Any] | None:
    """fun on plain numbers, with the numbers of the Tensors in args."""
    if not callable(fun):
        return fun
    plain_args = values(list(_tuple(args)))

    def plain(x: Any) -> Any:
        with no_grad():
            return value(operand(fun(x, *plain_args)))

    return plain


def _refuse(name: str, **options: Any) -> None:
    for option, given in options.items():
        if given is not None and given is not False and np.size(given):
            raise NotDifferentiableError(
                f"scipy.optimize.{name}({option}=...) is not differentiated; leave it out, or pass .detach()ed Tensors."
            )


def _solved(name: str, result: Any) -> Any:
    if not getattr(result, "success", getattr(result, "converged", True)):
        reason = getattr(result, "message", getattr(result, "flag", "no convergence"))
        raise ImplicitError(f"scipy.optimize.{name} did not converge ({reason}), and only a solution has a derivative.")
    return result


def _polished(f: Callable[[Any], Any], x: Any) -> Any:
    """x after SciPy's root finder has run from there on the plain function, if that brought it closer to a root."""
    better = _scipy_optimize.root(lambda x: np.ravel(f(x.reshape(np.shape(x)))), np.ravel(x), tol=1e-14).x
    better = better.reshape(np.shape(x))
    return better if np.max(np.abs(f(better)), initial=0) < np.max(np.abs(f(x)), initial=0) else x


# Roots.


@differentiates(_scipy_optimize.root, "optimize", also=_captured)
def root(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str = "hybr",
    jac: Any = None,
    tol: Any = None,
    callback: Any = None,
    options: Any = None,
) -> Any:
    """The OptimizeResult of SciPy, with x on the tape.

    >>> import numpy as np, allgrad as ag
    >>> from allgrad.scipy import optimize
    >>> def solution(a):
    ...     return optimize.root(lambda x: x**3 - a, np.array([1.0])).x[0]
    >>> bool(np.isclose(ag.grad(solution)(8.0), 1 / 12))
    True
    """
    if jac is True:
        raise NotDifferentiableError(
            "scipy.optimize.root(jac=True) is not differentiated; pass jac as a function of its own."
        )
    with no_grad():
        result = _scipy_optimize.root(
            _plain(fun, args), value(operand(x0)), (), method, _plain(jac, args), tol, callback, options
        )
    found = _solved("root", result).x
    result.x = root_at(lambda x: operand(fun(x, *_tuple(args))), found)
    return result


def _scalar_root(f: Callable[..., Any], args: Any, found: float) -> Any:
    return root_at(lambda x: operand(f(x, *_tuple(args))), float(found))


def _scalar_captured(f: Callable[..., Any], *numbers: Any, args: Any = (), **keywords: Any) -> bool:
    point = next(
        (
            float(np.ravel(value(n))[0])
            for n in (*numbers, keywords.get("x0"), keywords.get("bracket"))
            if _is_number(n)
        ),
        0.5,
    )
    return tracked(f(point, *_tuple(args)))


def _is_number(n: Any) -> bool:
    return n is not None and not isinstance(n, str) and not callable(n)


@differentiates(
    _scipy_optimize.root_scalar, "optimize", also=lambda f, args=(), *_, **k: _scalar_captured(f, args=args, **k)
)
def root_scalar(f: Callable[..., Any], args: Any = (), *positional: Any, **keywords: Any) -> Any:
    """The RootResults of SciPy, with root on the tape."""
    functions = {k: _plain(v, args) for k, v in keywords.items() if k in ("fprime", "fprime2")}
    others = {k: values(v) if isinstance(v, (list, tuple)) else value(v) for k, v in keywords.items()}
    with no_grad():
        result = _scipy_optimize.root_scalar(_plain(f, args), (), *positional, **(others | functions))
    result.root = _scalar_root(f, args, _solved("root_scalar", result).root)
    return result


def _bracketing(name: str) -> Callable[..., Any]:
    solver = getattr(_scipy_optimize, name)

    @differentiates(solver, "optimize", also=_scalar_captured)
    def function(f: Callable[..., Any], a: Any, b: Any, args: Any = (), **keywords: Any) -> Any:
        _refuse(name, full_output=keywords.get("full_output"))
        with no_grad():
            found = solver(_plain(f, args), float(value(a)), float(value(b)), **keywords)
        return _scalar_root(f, args, found)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`scipy.optimize.{name}`: the root on the tape."
    return function


bisect, brentq, brenth, ridder, toms748 = map(_bracketing, ("bisect", "brentq", "brenth", "ridder", "toms748"))


@differentiates(
    _scipy_optimize.newton, "optimize", also=lambda func, x0, *_, args=(), **__: _scalar_captured(func, x0, args=args)
)
def newton(
    func: Callable[..., Any], x0: Any, fprime: Any = None, args: Any = (), *positional: Any, **keywords: Any
) -> Any:
    _refuse("newton", full_output=keywords.get("full_output"))
    keywords |= {"fprime2": _plain(keywords.get("fprime2"), args)}
    with no_grad():
        found = _scipy_optimize.newton(_plain(func, args), value(x0), _plain(fprime, args), (), *positional, **keywords)
    return root_at(lambda x: operand(func(x, *_tuple(args))), found)


@differentiates(_scipy_optimize.fixed_point, "optimize", also=_captured)
def fixed_point(
    func: Callable[..., Any], x0: Any, args: Any = (), xtol: float = 1e-8, maxiter: int = 500, method: str = "del2"
) -> Any:
    """x with x = func(x, *args)."""
    with no_grad():
        found = _scipy_optimize.fixed_point(_plain(func, args), value(operand(x0)), (), xtol, maxiter, method)

    def residual(x: Any) -> Any:
        return x - func(x, *_tuple(args))

    return custom_root(residual, found, _polished)


# Minima.


@differentiates(_scipy_optimize.minimize, "optimize", also=_captured)
def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: Any = None,
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: Any = None,
    callback: Any = None,
    options: Any = None,
) -> Any:
    """The OptimizeResult of SciPy, with x and fun on the tape. The gradient comes from the tape, unless jac is a function.

    >>> import numpy as np, allgrad as ag
    >>> from allgrad.scipy import optimize
    >>> def minimum(a):
    ...     return optimize.minimize(lambda x: np.sum((x - a) ** 2 + x**4), np.array([0.5])).x[0]
    >>> x = minimum(1.0)
    >>> bool(np.isclose(ag.grad(minimum)(1.0), 2 / (2 + 12 * float(x) ** 2)))
    True
    """
    _refuse("minimize", bounds=bounds, constraints=constraints)
    plain_args = values(list(_tuple(args)))

    def slope(x: Any) -> Any:
        return grad(lambda x: operand(fun(x, *_tuple(args))))(x)

    def plain_slope(x: Any) -> Any:
        with no_grad():
            return value(grad(lambda x: operand(fun(x, *plain_args)))(x))

    given = _plain(jac, args) if callable(jac) else plain_slope
    wants_none = method in ("Nelder-Mead", "Powell", "COBYLA", "COBYQA")
    with no_grad():
        result = _scipy_optimize.minimize(
            lambda x: float(_plain(fun, args)(x)),  # type: ignore[misc]
            value(operand(x0)),
            (),
            method,
            None if wants_none else given,
            _plain(hess, args),
            None if hessp is None else lambda x, p: value(hessp(x, p, *plain_args)),
            tol=tol,
            callback=callback,
            options=options,
        )
    found = _solved("minimize", result).x
    result.x = custom_root(slope, found, _polished)
    result.fun = fun(result.x, *_tuple(args))
    return result


def _captured_by_scalar(
    fun: Callable[..., Any], bracket: Any = None, bounds: Any = None, args: Any = (), **_: Any
) -> bool:
    ends = bounds if bounds is not None else bracket if bracket is not None else (0.0, 1.0)
    return tracked(fun((float(value(ends[0])) + float(value(ends[1]))) / 2, *_tuple(args)))


@differentiates(_scipy_optimize.minimize_scalar, "optimize", also=_captured_by_scalar)
def minimize_scalar(
    fun: Callable[..., Any],
    bracket: Any = None,
    bounds: Any = None,
    args: Any = (),
    method: Any = None,
    tol: Any = None,
    options: Any = None,
) -> Any:
    """The OptimizeResult of SciPy, with x and fun on the tape. A minimum at a bound is refused."""
    with no_grad():
        result = _scipy_optimize.minimize_scalar(
            lambda x: float(_plain(fun, args)(x)),  # type: ignore[misc]
            values(bracket),
            values(bounds),
            (),
            method,
            tol,
            options,
        )
    found = float(_solved("minimize_scalar", result).x)
    if bounds is not None:
        low, high = map(float, values(list(bounds)))
        if min(found - low, high - found) < 1e-4 * (high - low):
            raise NotDifferentiableError(
                f"minimize_scalar found its minimum, {found:g}, at a bound: that is not differentiated."
            )

    def slope(x: Any) -> Any:
        return grad(lambda x: operand(fun(x, *_tuple(args))))(x)

    result.x = custom_root(slope, found, _polished)
    result.fun = fun(result.x, *_tuple(args))
    return result


# Least squares.


def _least_squares_root(residual: Callable[[Any], Any], found: Any) -> Any:
    """The root of the gradient of |residual|^2 / 2 next to `found`."""

    def slope(x: Any) -> Any:
        return grad(lambda x: np.sum(residual(x) ** 2) / 2)(x)

    return custom_root(slope, found, _polished)


@differentiates(
    _scipy_optimize.least_squares, "optimize", also=lambda fun, x0, *_, args=(), **__: _captured(fun, x0, args)
)
def least_squares(fun: Callable[..., Any], x0: Any, jac: Any = "2-point", *, args: Any = (), **keywords: Any) -> Any:
    """The OptimizeResult of SciPy, with x, fun and cost on the tape; loss='linear' and no bounds."""
    _refuse("least_squares", bounds=keywords.get("bounds"), kwargs=keywords.get("kwargs"))
    if keywords.get("loss", "linear") != "linear":
        raise NotDifferentiableError("scipy.optimize.least_squares is differentiated with loss='linear'.")
    with no_grad():
        result = _scipy_optimize.least_squares(_plain(fun, args), value(operand(x0)), _plain(jac, args), **keywords)

    def residual(x: Any) -> Any:
        return operand(fun(x, *_tuple(args)))

    result.x = _least_squares_root(residual, _solved("least_squares", result).x)
    result.fun = residual(result.x)
    result.cost = np.sum(result.fun**2) / 2
    return result


@differentiates(
    _scipy_optimize.curve_fit,
    "optimize",
    also=lambda f, xdata, _, p0=None, *__, **___: p0 is not None and tracked(f(xdata, *p0)),
)
def curve_fit(
    f: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    **keywords: Any,
) -> Any:
    """(popt, pcov), by xdata, ydata and the standard deviations sigma: (m,)."""
    _refuse("curve_fit", bounds=keywords.pop("bounds", None), full_output=keywords.pop("full_output", None))
    if sigma is not None and np.ndim(value(sigma)) != 1:
        raise NotDifferentiableError("curve_fit is differentiated with sigma=None or a vector of standard deviations.")
    if p0 is None:
        p0 = np.ones(len(inspect.signature(f).parameters) - 1)
    plain: list[Any] = [None if v is None else value(operand(v)) for v in (xdata, ydata, p0, sigma)]
    with no_grad():
        found = _scipy_optimize.curve_fit(lambda x, *p: value(f(x, *p)), *plain, absolute_sigma, **keywords)[0]

    def residual(p: Any) -> Any:
        difference = f(xdata, *[p[i] for i in range(len(found))]) - operand(ydata)
        return difference if sigma is None else difference / operand(sigma)

    popt = _least_squares_root(residual, found)
    J = jacobian(residual)(popt)
    pcov = np.linalg.inv(np.matmul(np.swapaxes(J, 0, 1), J))
    if not absolute_sigma:
        pcov = pcov * np.sum(residual(popt) ** 2) / (np.size(plain[1]) - len(found))
    return popt, pcov


def linear_sum_assignment(cost_matrix: Any, maximize: bool = False) -> Any:
    """SciPy's rows and columns: whole numbers, which are constant in the costs. The chosen costs are differentiable."""
    return _scipy_optimize.linear_sum_assignment(
        cost_matrix.value if isinstance(cost_matrix, Tensor) else cost_matrix, maximize
    )


TABLE.add(Row("linear_sum_assignment", "optimize", "constant"))


def __getattr__(name: str) -> Any:
    return getattr(_scipy_optimize, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_optimize)})
