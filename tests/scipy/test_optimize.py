"""Roots, minima and fits by the implicit function theorem: values, both modes, second order."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

from cases import Case, check, drawn

import allgrad as ag
from allgrad.scipy import optimize

X = np.linspace(0.0, 2.0, 9)


def case(name, function, *draws, label="", **options):
    options = {"spellings": False, "float32": False, "rtol": 1e-5} | options
    return Case(
        f"{name}{label}", function, lambda rng: (tuple(d(rng) for d in draws), {}), tuple(range(len(draws))), **options
    )


def between(low, high, *shape):
    return lambda rng: np.asarray(rng.uniform(low, high, shape))


def ours(a):
    """A Tensor, so that the polished result is compared with itself and not with SciPy's, which is accurate to 1e-8."""
    return a if isinstance(a, ag.Tensor) else ag.tensor(a)


def cubic(x, a):
    return x**3 + x - a


def system(x, a, b):
    return np.stack([x[0] ** 2 + x[1] - a, x[0] - b * x[1]])


def bowl(x, a):
    return np.sum((x - a) ** 2) + np.sum(x) ** 4 / 10


def residuals(p, y):
    return p[0] * np.exp(-p[1] * X) - y


def fit(y, sigma):
    y = ours(np.exp(-X) + y / 20)
    return optimize.curve_fit(
        lambda x, a, b: a * np.exp(-b * x), X, y, p0=[1.0, 1.0], sigma=sigma, ftol=1e-14, xtol=1e-14
    )


A, AB = between(0.5, 2), (between(1, 2), between(0.5, 1))
CASES = [
    case("root", lambda a, b: optimize.root(system, np.ones(2), (a, b), tol=1e-13).x, *AB),
    case(
        "root",
        lambda a, b: optimize.root(lambda x: system(x, a, b), np.ones(2), tol=1e-13).x,
        *AB,
        label=" of a closure",
    ),
    *[
        case(
            "root_scalar",
            lambda a, m=method: optimize.root_scalar(cubic, (a,), m, bracket=[0, 2], xtol=1e-14).root,
            A,
            label=method,
        )
        for method in ("brentq", "bisect")
    ],
    case(
        "root_scalar",
        lambda a: optimize.root_scalar(lambda x: cubic(x, a), x0=0.5, fprime=lambda x: 3 * x * x + 1).root,
        A,
        label=" newton",
    ),
    *[
        case(name, lambda a, name=name: getattr(optimize, name)(cubic, 0.0, 2.0, args=(a,), xtol=1e-14), A)
        for name in ("bisect", "brentq", "brenth", "ridder", "toms748")
    ],
    case("newton", lambda a: optimize.newton(cubic, 0.5, args=(a,), tol=1e-13), A),
    case(
        "fixed_point",
        lambda a: optimize.fixed_point(lambda x, a: np.cos(a * x), 0.5, (a,), xtol=1e-13),
        between(0.5, 0.9),
    ),
    case("minimize", lambda a: optimize.minimize(bowl, np.zeros(2), (ours(a),), tol=1e-10).x, between(0.5, 1.5, 2)),
    case(
        "minimize",
        lambda a: optimize.minimize(bowl, np.zeros(2), (a,), "L-BFGS-B").fun,
        between(0.5, 1.5, 2),
        label=" its value",
    ),
    case(
        "minimize",
        lambda a: optimize.minimize(lambda x: bowl(x, ours(a)), np.zeros(2), method="Nelder-Mead", tol=1e-9).x,
        between(0.5, 1.5, 2),
        label=" by Nelder-Mead",
    ),
    case("minimize_scalar", lambda a: optimize.minimize_scalar(lambda x: (x - a) ** 2 + x**4).x, A),
    case(
        "minimize_scalar",
        lambda a: optimize.minimize_scalar(lambda x: (x - ours(a)) ** 2 + x**4, bounds=(-1.0, 2.0)).x,
        A,
        label=" bounded",
    ),
    case(
        "least_squares",
        lambda y: (
            optimize.least_squares(
                residuals, [1.0, 1.0], args=(np.exp(-X) + y / 20,), xtol=1e-15, ftol=1e-15, gtol=1e-15
            ).x
        ),
        between(-1, 1, 9),
    ),
    case("curve_fit", lambda y: fit(y, None), between(-1, 1, 9), rtol=1e-4),
    case("curve_fit", fit, between(-1, 1, 9), between(1, 2, 9), label=" with errors", rtol=1e-4),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@functools.partial(drawn, examples=1)
def test_rule(case, seed):
    check(case, seed)


def test_a_solver_that_fails_says_so():
    with pytest.raises(Exception, match="did not converge"):
        ag.grad(lambda a: optimize.root(lambda x: x**2 + a, np.ones(1)).x[0])(1.0)


def test_bounds_are_refused():
    with pytest.raises(TypeError, match=r"minimize\(bounds=...\) is not differentiated"):
        optimize.minimize(bowl, np.zeros(2), (ag.tensor(1.0, requires_grad=True),), bounds=[(0, 1), (0, 1)])


def test_an_assignment_is_constant_and_its_cost_is_not():
    def cost(c):
        rows, columns = optimize.linear_sum_assignment(c)
        return np.sum(c[rows, columns])

    np.testing.assert_array_equal(ag.grad(cost)(np.array([[1.0, 3.0], [2.0, 9.0]])), [[0, 1], [1, 0]])
