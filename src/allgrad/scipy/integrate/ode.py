"""`solve_ivp` and `odeint`, by initial value, parameters, and times: see `runge_kutta` for what is differentiated."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.autodiff.modes import no_grad
from allgrad.scipy.integrate.runge_kutta import METHODS, interpolate, take_step
from allgrad.scipy.registry import differentiates, operand, tracked, value, values
from scipy import integrate

if TYPE_CHECKING:
    from collections.abc import Callable


def _captured(fun: Callable[..., Any], t_span: Any, y0: Any, *_: Any, args: Any = None, **__: Any) -> bool:
    return tracked(fun(t_span[0], np.atleast_1d(np.asarray(y0, dtype=float)), *(args or ())))


@differentiates(integrate.solve_ivp, "integrate", also=_captured)
def solve_ivp(
    fun: Callable[..., Any],
    t_span: Any,
    y0: Any,
    method: str = "RK45",
    t_eval: Any = None,
    dense_output: bool = False,
    events: Any = None,
    vectorized: bool = False,
    args: Any = None,
    **options: Any,
) -> Any:
    """The solution of y' = fun(t, y, *args), with `t` and `y: (n, n_points)` on the tape.

    Explicit methods only (RK23, RK45, DOP853). Events and dense output are refused.

    >>> import numpy as np, allgrad as ag
    >>> from allgrad.scipy import integrate
    >>> def end(rate):
    ...     solution = integrate.solve_ivp(lambda t, y: -rate * y, (0.0, 1.0), [1.0], rtol=1e-9, atol=1e-9)
    ...     return solution.y[0, -1]
    >>> bool(np.isclose(ag.grad(end)(0.5), -np.exp(-0.5)))
    True
    """
    if method not in METHODS:
        raise NotDifferentiableError(
            f"solve_ivp(method={method!r}) is not differentiated; use one of {', '.join(METHODS)} "
            "(DOP853 with tight tolerances for a moderately stiff problem)."
        )
    if events is not None or dense_output:
        raise NotDifferentiableError(
            "solve_ivp with events= or dense_output= is not differentiated; pass t_eval= for the values in between."
        )
    args = tuple(args or ())
    t0, t1 = t_span
    plain_fun = _plain(fun, args, vectorized)
    plain_y0 = np.array(value(operand(y0)))
    with no_grad():
        solver = METHODS[method](plain_fun, float(value(t0)), plain_y0, float(value(t1)), **options)
        times = [solver.t]
        message = None
        while solver.status == "running":
            message = solver.step()
            if solver.status != "failed":
                times.append(solver.t)
    failed = solver.status == "failed"

    def f(t: Any, y: Any) -> Any:
        return operand(fun(t, y, *args), y.dtype)

    t, y = _replay(METHODS[method], f, t0, t1, operand(y0, np.result_type(plain_y0, float)), times, t_eval)
    return _result(t, y, solver, failed, message)


def _plain(fun: Callable[..., Any], args: tuple[Any, ...], vectorized: bool) -> Callable[[float, Any], Any]:
    """The right-hand side on plain numbers."""
    plain_args = values(list(args))

    def plain(t: float, y: Any) -> Any:
        if vectorized:
            return np.asarray(value(operand(fun(t, y[:, None], *plain_args))))[:, 0]
        return np.asarray(value(operand(fun(t, y, *plain_args))))

    return plain


def _replay(method: Any, f: Any, t0: Any, t1: Any, y: Any, times: list[float], t_eval: Any) -> tuple[Any, Any]:
    """The steps between `times` on the tape: the times and values asked for, of shapes (k,) and (n, k)."""
    start, length = times[0], float(value(t1)) - times[0]
    moving = tracked((t0, t1))

    def moved(t: float) -> Any:
        return t0 + (t1 - t0) * ((t - start) / length) if moving else t

    wanted = None if t_eval is None else operand(t_eval)
    plain_wanted = np.empty(0) if wanted is None else value(wanted)
    found = [y] if wanted is None else [y for t in plain_wanted if t == start]
    slope = f(moved(start), y)
    direction = np.sign(length)
    for left, right in pairwise(times):
        t = moved(left)
        step = take_step(method, f, t, moved(right) - t, y, slope)
        y, slope = step.end, step.stages[-1]
        if wanted is None:
            found.append(y)
            continue
        inside = np.flatnonzero(
            (direction * plain_wanted > direction * left) & (direction * plain_wanted <= direction * right)
        )
        if len(inside):
            at = interpolate(method, f, step)
            found += [at(wanted[i]) for i in inside]
    result = np.stack(found, axis=1)
    if wanted is not None:
        return wanted, result
    return (np.stack([moved(t) for t in times]) if moving else np.array(times)), result


def _result(t: Any, y: Any, solver: Any, failed: bool, message: str | None) -> Any:
    return integrate._ivp.ivp.OdeResult(
        t=t,
        y=y,
        sol=None,
        t_events=None,
        y_events=None,
        nfev=solver.nfev,
        njev=solver.njev,
        nlu=solver.nlu,
        status=-1 if failed else 0,
        message=message if failed else "The solver successfully reached the end of the integration interval.",
        success=not failed,
    )


def _odeint_captured(
    func: Callable[..., Any], y0: Any, t: Any, args: Any = (), *_: Any, tfirst: bool = False, **__: Any
) -> bool:
    y, start = np.atleast_1d(np.asarray(y0, dtype=float)), np.asarray(t)[0]
    return tracked(func(start, y, *args) if tfirst else func(y, start, *args))


@differentiates(integrate.odeint, "integrate", also=_odeint_captured)
def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Any,
    args: Any = (),
    *,
    tfirst: bool = False,
    rtol: float = 1.49e-8,
    atol: float = 1.49e-8,
    mxstep: int = 0,
) -> Any:
    """The solution at the times t, of shape (len(t), n).

    With Tensors the steps are those of DOP853 with the same tolerances, not LSODA's, so that values differ from
    SciPy's within the tolerances, and a stiff problem takes many steps.

    >>> import numpy as np, allgrad as ag
    >>> from allgrad.scipy import integrate
    >>> times = np.linspace(0.0, 1.0, 5)
    >>> g = ag.grad(lambda y0: integrate.odeint(lambda y, t: -y, y0, times)[-1, 0])(np.array([1.0]))
    >>> bool(np.isclose(g[0], np.exp(-1.0)))
    True
    """
    if mxstep:
        raise NotDifferentiableError("odeint(mxstep=...) is not honoured on Tensors; leave it out.")
    times = operand(t)
    fun = func if tfirst else (lambda s, y, *rest: func(y, s, *rest))
    solution = solve_ivp(
        fun, (times[0], times[-1]), np.atleast_1d(operand(y0)), "DOP853", times, args=args, rtol=rtol, atol=atol
    )
    return np.swapaxes(solution.y, 0, 1)
