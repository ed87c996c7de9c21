"""scipy.stats: every method of every distribution at once, by the variable and the parameters; summary statistics."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the extra 'scipy' is not installed")

import scipy.stats
from cases import Case, check, drawn

import allgrad as ag
from allgrad.scipy import stats
from allgrad.scipy.stats.distribution import OF_PARAMETERS, OF_VARIABLE

POSITIVE = (0.4, 3.0)
REAL = (-2.0, 2.0)
UNIT = (0.1, 0.9)


def continuous(name, x, *shapes, **options):
    """All methods of a distribution, at x, a probability q, the shapes, loc near 0 and scale near 1."""
    distribution = getattr(stats, name)
    intervals = [x, UNIT, *shapes, (-0.05, 0.05), (0.9, 1.1)]

    def sample(rng):
        return tuple(np.asarray(rng.uniform(*i, (2,) if k < 2 else ())) for k, i in enumerate(intervals)), {}

    def everything(x, q, *parameters):
        by_x = [getattr(distribution, m)(x, *parameters) for m in OF_VARIABLE[:-2] if m in distribution.functions]
        by_q = [getattr(distribution, m)(q, *parameters) for m in OF_VARIABLE[-2:] if m in distribution.functions]
        others = [getattr(distribution, m)(*parameters) for m in OF_PARAMETERS if m in distribution.functions]
        return [*by_x, *by_q, *others]

    options = {"spellings": False, "float32": False, "rtol": 1e-5} | options
    return Case(name, everything, sample, wrt=tuple(range(len(intervals))), **options)


def discrete(name, *shapes):
    """All methods of a distribution at whole numbers, by its parameters. An interval of numbers, or a constant."""
    distribution = getattr(stats, name)
    k = np.array([0.0]) if name == "bernoulli" else np.array([1.0, 3.0, 2.0])

    def sample(rng):
        return tuple(np.asarray(rng.uniform(*s)) if isinstance(s, tuple) else s for s in shapes), {}

    def everything(*parameters):
        at_k = [getattr(distribution, m)(k, *parameters) for m in OF_VARIABLE if m in distribution.functions]
        others = [getattr(distribution, m)(*parameters) for m in OF_PARAMETERS if m in distribution.functions]
        return [*at_k, *others]

    wrt = tuple(i for i, s in enumerate(shapes) if isinstance(s, tuple))
    return Case(name, everything, sample, wrt=wrt, spellings=False, float32=False, rtol=1e-5)


DISTRIBUTIONS = [
    *[continuous(name, REAL) for name in ("norm", "laplace", "logistic", "cauchy", "gumbel_r", "gumbel_l")],
    *[continuous(name, POSITIVE) for name in ("halfnorm", "expon", "rayleigh", "maxwell")],
    continuous("uniform", (0.2, 0.8)),
    *[
        continuous(name, POSITIVE, (0.8, 3.0))
        for name in ("lognorm", "gamma", "chi2", "chi", "weibull_min", "invgauss", "fisk")
    ],
    continuous("invgamma", POSITIVE, (2.5, 4)),
    continuous("beta", (0.2, 0.8), POSITIVE, POSITIVE, order=1),  # second order: special.betainc
    continuous("t", REAL, (2.5, 5)),
    continuous("f", POSITIVE, POSITIVE, (4.5, 6), order=1),
    continuous("pareto", (1.5, 4), (2.5, 4)),
    continuous("lomax", POSITIVE, (2.5, 4)),
    continuous("genpareto", (0.2, 2), (0.1, 0.5)),
    continuous("truncnorm", (-0.5, 0.5), (-2, -1), (1, 2)),
    continuous("vonmises", REAL, POSITIVE),
    continuous("skewnorm", REAL, REAL),
    continuous("gennorm", (0.5, 2), (1, 3)),
    continuous("powerlaw", (0.2, 0.8), POSITIVE),
    discrete("poisson", POSITIVE),
    discrete("bernoulli", UNIT),
    discrete("binom", 5, UNIT),
    discrete("nbinom", POSITIVE, UNIT),
    discrete("geom", UNIT),
    discrete("zipf", (2.5, 4)),
    discrete("logser", UNIT),
]


def m(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    return lambda rng: rng.uniform(0.5, 3, shape)


def case(name, *draws, function=None, label="", **options):
    keywords = options.pop("keywords", {})
    wrt = tuple(i for i, draw in enumerate(draws) if callable(draw))
    return Case(
        f"{name}{label}{keywords or ''}",
        function or getattr(stats, name),
        lambda rng: (tuple(draw(rng) if callable(draw) else draw for draw in draws), keywords),
        wrt=wrt,
        **({"spellings": False, "float32": False, "rtol": 1e-5} | options),
    )


def covariance(a):
    return a @ np.swapaxes(a, 0, 1) + 3 * np.eye(a.shape[0])


def simplex(x):
    return x / np.sum(x, axis=0)


OTHERS = [
    case(
        "bernoulli", lambda rng: rng.uniform(0.2, 0.8), function=lambda p: stats.bernoulli.logpmf(1, p), label=" of 1"
    ),
    case(
        "multivariate_normal",
        m(5, 3),
        m(3),
        m(3, 3),
        function=lambda x, mean, a: stats.multivariate_normal.logpdf(x, mean, covariance(a)),
    ),
    case(
        "multivariate_normal",
        m(3),
        m(3),
        m(3, 3),
        function=lambda x, mean, a: stats.multivariate_normal.pdf(x, mean, covariance(a)),
        label=" density",
    ),
    case(
        "multivariate_normal",
        m(3),
        m(3, 3),
        function=lambda mean, a: stats.multivariate_normal.entropy(mean, covariance(a)),
        label=" entropy",
    ),
    case(
        "multivariate_t",
        m(5, 3),
        m(3),
        m(3, 3),
        positive(),
        function=lambda x, loc, a, df: stats.multivariate_t.logpdf(x, loc, covariance(a), df),
    ),
    case("dirichlet", positive(3), positive(3), function=lambda x, alpha: stats.dirichlet.logpdf(simplex(x), alpha)),
    case(
        "dirichlet",
        positive(3),
        function=lambda a: (stats.dirichlet.entropy(a), stats.dirichlet.mean(a), stats.dirichlet.var(a)),
        label=" moments",
    ),
    case("multinomial", positive(3), function=lambda p: stats.multinomial.logpmf(np.array([1, 2, 2]), 5, simplex(p))),
    case(
        "wishart",
        m(3, 3),
        positive(),
        m(3, 3),
        function=lambda x, df, a: stats.wishart.logpdf(covariance(x), df + 3, covariance(a)),
    ),
    case(
        "invwishart",
        m(3, 3),
        positive(),
        m(3, 3),
        function=lambda x, df, a: stats.invwishart.logpdf(covariance(x), df + 3, covariance(a)),
    ),
    case("gmean", positive(4, 2)),
    case("gmean", positive(4, 2), keywords={"axis": None}),
    case("hmean", positive(4, 2), keywords={"weights": np.arange(1.0, 9.0).reshape(4, 2)}),
    case("pmean", positive(4, 2), 1.5),
    case("moment", m(6, 2), 3),
    case("skew", m(6, 2)),
    case("skew", m(6, 2), keywords={"bias": False}),
    case("kurtosis", m(6, 2)),
    case("kurtosis", m(6, 2), keywords={"bias": False, "fisher": False, "axis": None}),
    case("zscore", m(6, 2)),
    case("zmap", m(6, 2), m(5, 2)),
    case("sem", m(6, 2)),
    case("variation", positive(6, 2)),
    case("gstd", positive(6, 2)),
    case("entropy", positive(4, 2)),
    case("entropy", positive(4), positive(4), keywords={"base": 2}),
    case("boxcox_llf", positive(), positive(6)),
    case("circmean", positive(6)),
    case("circvar", positive(6)),
    case("wasserstein_distance", m(6), m(5)),
    case("pearsonr", m(6), m(6), function=lambda x, y: stats.pearsonr(x, y)[0]),
    case("linregress", m(6), m(6), function=lambda x, y: [*stats.linregress(x, y)[:3], *stats.linregress(x, y)[4:]]),
]


@pytest.mark.parametrize("case", [*DISTRIBUTIONS, *OTHERS], ids=str)
@functools.partial(drawn, examples=1)
def test_rule(case, seed):
    check(case, seed)


def test_outside_the_support_the_derivative_is_zero():
    value, gradient = ag.value_and_grad(lambda x: stats.expon.pdf(x))(-1.0)
    assert (value, gradient) == (0.0, 0.0)
    x = ag.tensor([-1.0, 2.0], requires_grad=True)
    np.testing.assert_array_equal(stats.gamma.logpdf(x, 2.0).numpy(), scipy.stats.gamma.logpdf([-1.0, 2.0], 2.0))


def test_invalid_parameters_give_nan():
    assert np.isnan(stats.norm.logpdf(0.0, 0.0, ag.tensor(-1.0, requires_grad=True)).item())


def test_a_frozen_distribution():
    gradient = ag.grad(lambda s: stats.norm(0.0, s).logpdf(1.0) + stats.norm(0.0, s).entropy())(2.0)
    np.testing.assert_allclose(gradient, -1 / 2 + 1 / 8 + 1 / 2)


def test_a_method_without_a_rule_says_what_there_is():
    with pytest.raises(TypeError, match="expect is not differentiated"):
        stats.norm.expect(lambda x: x, loc=ag.tensor(0.0, requires_grad=True))
