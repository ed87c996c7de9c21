"""The common discrete distributions, by their parameters: the variable is a whole number and has no derivative."""

from __future__ import annotations

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.scipy.stats.distribution import Distribution

poisson = Distribution(
    "poisson",
    inside=1.0,
    logpmf=lambda k, mu: sc.xlogy(k, mu) - sc.gammaln(k + 1) - mu,
    cdf=lambda k, mu: sc.pdtr(np.floor(k), mu),
    sf=lambda k, mu: sc.pdtrc(np.floor(k), mu),
    mean=lambda mu: mu,
    var=lambda mu: mu,
)
bernoulli = Distribution(
    "bernoulli",
    inside=1.0,
    logpmf=lambda k, p: sc.xlogy(k, p) + sc.xlog1py(1 - k, -p),
    cdf=lambda k, p: np.where(np.floor(k) >= 1, 1.0, 1 - p),
    sf=lambda k, p: np.where(np.floor(k) >= 1, 0.0, p),
    mean=lambda p: p,
    var=lambda p: p * (1 - p),
    entropy=lambda p: sc.entr(p) + sc.entr(1 - p),
)
binom = Distribution(
    "binom",
    inside=0.0,
    logpmf=lambda k, n, p: (
        sc.gammaln(n + 1) - sc.gammaln(k + 1) - sc.gammaln(n - k + 1) + sc.xlogy(k, p) + sc.xlog1py(n - k, -p)
    ),
    cdf=lambda k, n, p: np.where(
        np.floor(k) >= n, 1.0, sc.betaincc(np.floor(k) + 1, np.maximum(n - np.floor(k), 0.5), p)
    ),
    sf=lambda k, n, p: np.where(
        np.floor(k) >= n, 0.0, sc.betainc(np.floor(k) + 1, np.maximum(n - np.floor(k), 0.5), p)
    ),
    mean=lambda n, p: n * p,
    var=lambda n, p: n * p * (1 - p),
)
nbinom = Distribution(
    "nbinom",
    inside=1.0,
    logpmf=lambda k, n, p: sc.gammaln(n + k) - sc.gammaln(k + 1) - sc.gammaln(n) + n * np.log(p) + sc.xlog1py(k, -p),
    cdf=lambda k, n, p: sc.betainc(n, np.floor(k) + 1, p),
    sf=lambda k, n, p: sc.betaincc(n, np.floor(k) + 1, p),
    mean=lambda n, p: n * (1 - p) / p,
    var=lambda n, p: n * (1 - p) / (p * p),
)
geom = Distribution(
    "geom",
    inside=1.0,
    logpmf=lambda k, p: sc.xlog1py(k - 1, -p) + np.log(p),
    cdf=lambda k, p: -np.expm1(np.log1p(-p) * np.floor(k)),
    sf=lambda k, p: np.exp(np.log1p(-p) * np.floor(k)),
    mean=lambda p: 1 / p,
    var=lambda p: (1 - p) / (p * p),
    entropy=lambda p: -np.log(p) - np.log1p(-p) * (1 - p) / p,
)
zipf = Distribution(
    "zipf",
    inside=1.0,
    logpmf=lambda k, a: -a * np.log(k) - np.log(sc._zeta(a, 1.0)),
    mean=lambda a: np.where(a > 2, sc._zeta(np.maximum(a - 1, 1.01), 1.0) / sc._zeta(a, 1.0), np.inf),
)
logser = Distribution(
    "logser",
    inside=1.0,
    logpmf=lambda k, p: k * np.log(p) - np.log(k) - np.log(-np.log1p(-p)),
    mean=lambda p: -p / ((1 - p) * np.log1p(-p)),
)
