"""Integrals and ordinary differential equations: values, both modes, second order; see tests/support/cases.py."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

import scipy.integrate
from cases import Case, check, drawn

import allgrad as ag
from allgrad.scipy import integrate


def case(name, *draws, function=None, label="", **options):
    keywords = options.pop("keywords", {})
    wrt = tuple(i for i, draw in enumerate(draws) if callable(draw))
    return Case(
        f"{name}{label}{keywords or ''}",
        function or getattr(integrate, name),
        lambda rng: (tuple(draw(rng) if callable(draw) else draw for draw in draws), keywords),
        wrt=wrt,
        **({"spellings": False, "rtol": 1e-6} | options),
    )


def m(*shape):
    return lambda rng: rng.standard_normal(shape)


def points(n):
    return lambda rng: np.cumsum(rng.uniform(0.5, 1.5, n))


def between(low, high, *shape):
    return lambda rng: np.asarray(rng.uniform(low, high, shape))


def gaussian(a, b, s):
    return integrate.quad(lambda x, s: np.exp(-s * x * x), a, b, args=(s,))[0]


def singular(s):
    return integrate.quad(lambda x: np.log(x) * np.exp(s * x), 0.0, 1.0)[0]


def half_line(a, s):
    return integrate.quad(lambda x: np.exp(-s * x) * np.cos(x), a, np.inf)[0]


def whole_line(s):
    return integrate.quad(lambda x: np.exp(-s * x * x), -np.inf, np.inf)[0]


def vector(a, b, s):
    return integrate.quad_vec(lambda x: np.exp(-s * x), a, b)[0]


def double(a, b, s):
    return integrate.dblquad(lambda y, x: np.exp(-s * x * y), a, b, 0.0, lambda x: x)[0]


def lotka_volterra(t, y, a, b):
    return np.stack([a * y[0] - b * y[0] * y[1], b * y[0] * y[1] - a * y[1]])


def ivp(method, t_eval=None):
    def solve(y0, a, b, start, end):
        solution = integrate.solve_ivp(
            lotka_volterra, (start, end), y0, method, t_eval, args=(a, b), rtol=1e-11, atol=1e-11
        )
        return solution.y[:, -3:] if t_eval is not None else solution.y[:, -1]

    return solve


def by_odeint(y0, a, b):
    times = np.linspace(0.0, 1.0, 5)
    return integrate.odeint(lambda y, t: lotka_volterra(t, y, a, b), y0, times, rtol=1e-11, atol=1e-11)


def by_times(t):
    return integrate.solve_ivp(
        lambda t, y: np.cos(t) * y, (0.0, 3.0), [1.0], "DOP853", t_eval=t, rtol=1e-11, atol=1e-11
    ).y


IVP = [between(0.5, 1.0, 2), between(0.5, 1.0), between(0.5, 1.0), between(0.0, 0.2), between(0.8, 1.0)]
ODE = {"float32": False, "rtol": 1e-6}
QUAD = {"float32": False}

CASES = [
    case("trapezoid", m(2, 5)),
    case("trapezoid", m(2, 5), points(5)),
    case("trapezoid", m(5, 2), points(5), keywords={"axis": 0}),
    case("cumulative_trapezoid", m(2, 5), points(5)),
    case("cumulative_trapezoid", m(2, 5), keywords={"dx": 0.5, "initial": 0}),
    case("cumulative_trapezoid", m(5, 2), points(5), keywords={"axis": 0}),
    *[
        case("simpson", m(2, n), points(n), function=lambda y, x: integrate.simpson(y, x=x), label=n, float32=False)
        for n in (3, 4, 5, 6)
    ],
    case("simpson", m(5, 2), keywords={"axis": 0, "dx": 0.5}),
    *[
        case(
            "cumulative_simpson",
            m(2, n),
            points(n),
            function=lambda y, x: integrate.cumulative_simpson(y, x=x),
            label=n,
        )
        for n in (3, 4, 5, 6)
    ],
    case(
        "cumulative_simpson", m(2, 5), keywords={"dx": 0.5, "initial": 0.0}, float32=False
    ),  # SciPy answers in float64
    case("romb", m(2, 5), float32=False),  # SciPy answers in float64
    case(
        "fixed_quad", between(0, 1), between(2, 3), function=lambda a, b: integrate.fixed_quad(np.exp, a, b)[0], **QUAD
    ),
    case("quad", between(-1, 0), between(1, 2), between(0.5, 2), function=gaussian, **QUAD),
    case("quad", between(2, 3), between(1, 1.5), between(0.5, 2), function=gaussian, label=" backwards", **QUAD),
    case("quad", between(0.5, 1), function=singular, label=" with a singular end", order=1, **QUAD),
    case("quad", between(0, 1), between(1, 2), function=half_line, label=" to infinity", **QUAD),
    case("quad", between(1, 2), function=whole_line, label=" over the line", **QUAD),
    case("quad_vec", between(0, 1), between(2, 3), between(0.5, 1, 3), function=vector, **QUAD),
    case("dblquad", between(0, 0.5), between(1, 2), between(0.5, 1), function=double, order=1, **QUAD),
    *[case("solve_ivp", *IVP, function=ivp(method), label=f" by {method}", **ODE) for method in ("RK45", "DOP853")],
    case("solve_ivp", *IVP, function=ivp("RK45", [0.3, 0.5, 0.7]), label=" at given times", **ODE),
    case("solve_ivp", *IVP, function=ivp("DOP853", [0.3, 0.5, 0.7]), label=" at given times by DOP853", **ODE),
    case("odeint", *IVP[:3], function=by_odeint, **ODE),
    case("solve_ivp", lambda rng: np.sort(rng.uniform(0.5, 2.5, 3)), function=by_times, label=" by the times", **ODE),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@functools.partial(drawn, examples=1)
def test_rule(case, seed):
    check(case, seed)


def test_the_solution_on_the_tape_is_scipys():
    y0 = ag.tensor([1.0, 0.5], requires_grad=True)
    arguments = {"t_eval": np.linspace(0, 5, 7), "args": (0.7, 0.9)}
    for method in ("RK23", "RK45", "DOP853"):
        ours = integrate.solve_ivp(lotka_volterra, (0.0, 5.0), y0, method, **arguments)
        theirs = scipy.integrate.solve_ivp(lotka_volterra, (0.0, 5.0), [1.0, 0.5], method, **arguments)
        np.testing.assert_allclose(ours.y.numpy(), theirs.y, rtol=1e-12)
        np.testing.assert_array_equal(ours.t, theirs.t)


@pytest.mark.parametrize("keywords", [{"method": "BDF"}, {"events": lambda t, y: y[0]}, {"dense_output": True}])
def test_what_is_refused(keywords):
    with pytest.raises(TypeError, match="not differentiated"):
        integrate.solve_ivp(lambda t, y: -y, (0.0, 1.0), ag.tensor([1.0], requires_grad=True), **keywords)
