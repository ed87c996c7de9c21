"""Runge-Kutta steps on the tape: how `solve_ivp` and `odeint` are differentiated.

**Discrete**: SciPy's solver chooses its steps on the plain numbers; the same steps are then taken with Tensors, and the
derivative is that of this sequence of steps, at fixed step sizes. So value and derivative belong to each other, both
modes and all orders work, and the right-hand side may capture Tensors. The whole solution is kept: memory grows with the
number of steps.

Steps are kept as fractions of the time span, so that they stretch with its ends, which gives the derivative by t0 and t1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.autodiff.primitive import Primitive
from scipy import integrate

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS: dict[str, Any] = {"RK23": integrate.RK23, "RK45": integrate.RK45, "DOP853": integrate.DOP853}


# y + h (c_1 k_1 + c_2 k_2 + ...) as one operation: a step of RK45 is 7 of these and 6 calls of the right-hand side.


def _combination(y: Any, h: Any, *ks: Any, coefficients: tuple[float, ...]) -> Any:
    return y + h * _weighted(ks, coefficients)


def _weighted(ks: Any, coefficients: tuple[float, ...]) -> Any:
    total = None
    for k, c in zip(ks, coefficients, strict=True):
        if c and k is not None:
            total = c * k if total is None else total + c * k
    return 0.0 if total is None else total


def _combination_vjp(g: Any, *operands: Any, coefficients: tuple[float, ...], needs: tuple[bool, ...]) -> list[Any]:
    _, h, *ks = operands
    scaled = g * h
    by_h = np.sum(g * _weighted(ks, coefficients)) if needs[1] else None
    by_ks = [c * scaled if need else None for c, need in zip(coefficients, needs[2:], strict=True)]
    return [g, by_h, *by_ks]


def _combination_jvp(moving: Any, *operands: Any, coefficients: tuple[float, ...]) -> Any:
    _, h, *ks = operands
    ty, th, *tks = moving
    total = h * _weighted(tks, coefficients)
    if th is not None:
        total = total + th * _weighted(ks, coefficients)
    return total if ty is None else ty + total


combination: Primitive = Primitive(
    _combination, name="runge-kutta step", joint=_combination_vjp, jvp=_combination_jvp, arguments=()
)


class Step(NamedTuple):
    """One step on the tape: its start, its length, the value there, the stages, and the value at its end."""

    t: Any
    h: Any
    y: Any
    stages: list[Any]
    end: Any


def take_step(method: Any, f: Callable[[Any, Any], Any], t: Any, h: Any, y: Any, first: Any) -> Step:
    """One step of an explicit method; `first` is f(t, y). The last stage is f at the end of the step."""
    stages = [first]
    for row, c in zip(method.A[1 : method.n_stages], method.C[1 : method.n_stages], strict=True):
        coefficients = tuple(float(a) for a in row[: len(stages)])
        stages.append(f(t + c * h, combination(y, h, *stages, coefficients=coefficients)))
    end = combination(y, h, *stages, coefficients=tuple(float(b) for b in method.B))
    stages.append(f(t + h, end))
    return Step(t, h, y, stages, end)


def interpolate(method: Any, f: Callable[[Any, Any], Any], step: Step) -> Callable[[Any], Any]:
    """The solution inside a step as a function of the time: SciPy's own dense output, on the tape."""
    if method is integrate.DOP853:
        return _interpolate_dop853(method, f, step)

    def at(t: Any) -> Any:
        theta = (t - step.t) / step.h
        total = step.y
        power = theta
        for p in range(method.P.shape[1]):
            weights = _weighted(step.stages, tuple(float(c) for c in method.P[:, p]))
            total = total + step.h * power * weights
            power = power * theta
        return total

    return at


def _interpolate_dop853(method: Any, f: Callable[[Any, Any], Any], step: Step) -> Callable[[Any], Any]:
    stages = list(step.stages)
    for row, c in zip(method.A_EXTRA, method.C_EXTRA, strict=True):
        coefficients = tuple(float(a) for a in row[: len(stages)])
        stages.append(f(step.t + c * step.h, combination(step.y, step.h, *stages, coefficients=coefficients)))
    change = step.end - step.y
    parts = [change, step.h * stages[0] - change, 2 * change - step.h * (step.stages[-1] + stages[0])]
    parts += [step.h * _weighted(stages, tuple(float(d) for d in row)) for row in method.D]

    def at(t: Any) -> Any:
        theta = (t - step.t) / step.h
        total: Any = 0.0
        for i, part in enumerate(reversed(parts)):
            total = (total + part) * (theta if i % 2 == 0 else 1 - theta)
        return step.y + total

    return at
