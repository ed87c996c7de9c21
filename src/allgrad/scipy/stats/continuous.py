"""The common continuous distributions, each by its functions for loc = 0 and scale = 1.

Formulas: the "Notes" of each distribution in SciPy's documentation; entropies: Cover and Thomas, Elements of Information
Theory (2006), chapter 17. Distribution functions by shape parameters are accurate as their special functions are (1e-11).
"""

from __future__ import annotations

from math import log, pi, sqrt
from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.scipy.stats.distribution import Distribution

EULER = float(np.euler_gamma)
HALF_LOG_2PI = log(2 * pi) / 2
norm = Distribution(
    "norm",
    logpdf=lambda z: -z * z / 2 - HALF_LOG_2PI,
    cdf=lambda z: sc.ndtr(z),
    sf=lambda z: sc.ndtr(-z),
    logcdf=lambda z: sc.log_ndtr(z),
    logsf=lambda z: sc.log_ndtr(-z),
    ppf=lambda q: sc.ndtri(q),
    isf=lambda q: -sc.ndtri(q),
    mean=lambda: 0.0,
    var=lambda: 1.0,
    entropy=lambda: HALF_LOG_2PI + 0.5,
)
halfnorm = Distribution(
    "halfnorm",
    inside=1.0,
    logpdf=lambda z: log(2 / pi) / 2 - z * z / 2,
    cdf=lambda z: sc.erf(z / sqrt(2)),
    sf=lambda z: 2 * sc.ndtr(-z),
    ppf=lambda q: sc.ndtri((1 + q) / 2),
    mean=lambda: sqrt(2 / pi),
    var=lambda: 1 - 2 / pi,
    entropy=lambda: log(pi / 2) / 2 + 0.5,
)
lognorm = Distribution(
    "lognorm",
    inside=1.0,
    logpdf=lambda z, s: -((np.log(z) / s) ** 2) / 2 - np.log(s * z) - HALF_LOG_2PI,
    cdf=lambda z, s: sc.ndtr(np.log(z) / s),
    sf=lambda z, s: sc.ndtr(-np.log(z) / s),
    logcdf=lambda z, s: sc.log_ndtr(np.log(z) / s),
    logsf=lambda z, s: sc.log_ndtr(-np.log(z) / s),
    ppf=lambda q, s: np.exp(s * sc.ndtri(q)),
    mean=lambda s: np.exp(s * s / 2),
    var=lambda s: np.expm1(s * s) * np.exp(s * s),
    entropy=lambda s: 0.5 + HALF_LOG_2PI + np.log(s),
)
expon = Distribution(
    "expon",
    inside=1.0,
    logpdf=lambda z: -z,
    cdf=lambda z: -np.expm1(-z),
    sf=lambda z: np.exp(-z),
    logsf=lambda z: -z,
    ppf=lambda q: -np.log1p(-q),
    isf=lambda q: -np.log(q),
    mean=lambda: 1.0,
    var=lambda: 1.0,
    entropy=lambda: 1.0,
)
gamma = Distribution(
    "gamma",
    inside=1.0,
    logpdf=lambda z, a: sc.xlogy(a - 1, z) - z - sc.gammaln(a),
    cdf=lambda z, a: sc.gammainc(a, z),
    sf=lambda z, a: sc.gammaincc(a, z),
    ppf=lambda q, a: sc.gammaincinv(a, q),
    isf=lambda q, a: sc.gammainccinv(a, q),
    mean=lambda a: a,
    var=lambda a: a,
    entropy=lambda a: a + sc.gammaln(a) + (1 - a) * sc.psi(a),
)
invgamma = Distribution(
    "invgamma",
    inside=1.0,
    logpdf=lambda z, a: -(a + 1) * np.log(z) - sc.gammaln(a) - 1 / z,
    cdf=lambda z, a: sc.gammaincc(a, 1 / z),
    sf=lambda z, a: sc.gammainc(a, 1 / z),
    ppf=lambda q, a: 1 / sc.gammainccinv(a, q),
    mean=lambda a: np.where(a > 1, 1 / (a - 1), np.inf),
    var=lambda a: np.where(a > 2, 1 / ((a - 1) ** 2 * (a - 2)), np.inf),
    entropy=lambda a: a + sc.gammaln(a) - (1 + a) * sc.psi(a),
)
chi2 = Distribution(
    "chi2",
    inside=1.0,
    logpdf=lambda z, df: sc.xlogy(df / 2 - 1, z) - z / 2 - sc.gammaln(df / 2) - log(2) * df / 2,
    cdf=lambda z, df: sc.chdtr(df, z),
    sf=lambda z, df: sc.chdtrc(df, z),
    ppf=lambda q, df: 2 * sc.gammaincinv(df / 2, q),
    isf=lambda q, df: sc.chdtri(df, q),
    mean=lambda df: df,
    var=lambda df: 2 * df,
    entropy=lambda df: df / 2 + log(2) + sc.gammaln(df / 2) + (1 - df / 2) * sc.psi(df / 2),
)
chi = Distribution(
    "chi",
    inside=1.0,
    logpdf=lambda z, df: log(2) * (1 - df / 2) - sc.gammaln(df / 2) + sc.xlogy(df - 1, z) - z * z / 2,
    cdf=lambda z, df: sc.gammainc(df / 2, z * z / 2),
    sf=lambda z, df: sc.gammaincc(df / 2, z * z / 2),
    ppf=lambda q, df: np.sqrt(2 * sc.gammaincinv(df / 2, q)),
    mean=lambda df: sqrt(2) * sc.poch(df / 2, 0.5),
    var=lambda df: df - 2 * sc.poch(df / 2, 0.5) ** 2,
)
beta = Distribution(
    "beta",
    inside=0.5,
    logpdf=lambda z, a, b: sc.xlogy(a - 1, z) + sc.xlog1py(b - 1, -z) - sc.betaln(a, b),
    cdf=lambda z, a, b: sc.betainc(a, b, z),
    sf=lambda z, a, b: sc.betaincc(a, b, z),
    ppf=lambda q, a, b: sc.betaincinv(a, b, q),
    isf=lambda q, a, b: sc.betainccinv(a, b, q),
    mean=lambda a, b: a / (a + b),
    var=lambda a, b: a * b / ((a + b) ** 2 * (a + b + 1)),
    entropy=lambda a, b: sc.betaln(a, b) - (a - 1) * sc.psi(a) - (b - 1) * sc.psi(b) + (a + b - 2) * sc.psi(a + b),
)
t = Distribution(
    "t",
    logpdf=lambda z, df: (
        sc.gammaln((df + 1) / 2) - sc.gammaln(df / 2) - np.log(pi * df) / 2 - (df + 1) / 2 * np.log1p(z * z / df)
    ),
    cdf=lambda z, df: sc.stdtr(df, z),
    sf=lambda z, df: sc.stdtr(df, -z),
    ppf=lambda q, df: sc.stdtrit(df, q),
    isf=lambda q, df: -sc.stdtrit(df, q),
    mean=lambda df: np.where(df > 1, 0.0 * df, np.inf),
    var=lambda df: np.where(df > 2, df / (df - 2), np.where(df > 1, np.inf, np.nan)),
    entropy=lambda df: (df + 1) / 2 * (sc.psi((df + 1) / 2) - sc.psi(df / 2)) + np.log(df) / 2 + sc.betaln(df / 2, 0.5),
)
f = Distribution(
    "f",
    inside=1.0,
    logpdf=lambda z, dfn, dfd: (
        sc.xlogy(dfn / 2, dfn)
        + sc.xlogy(dfd / 2, dfd)
        + sc.xlogy(dfn / 2 - 1, z)
        - (dfn + dfd) / 2 * np.log(dfd + dfn * z)
        - sc.betaln(dfn / 2, dfd / 2)
    ),
    cdf=lambda z, dfn, dfd: sc.fdtr(dfn, dfd, z),
    sf=lambda z, dfn, dfd: sc.fdtrc(dfn, dfd, z),
    ppf=lambda q, dfn, dfd: sc.fdtri(dfn, dfd, q),
    mean=lambda dfn, dfd: np.where(dfd > 2, dfd / (dfd - 2) + 0.0 * dfn, np.inf),
    var=lambda dfn, dfd: np.where(
        dfd > 4, 2 * dfd * dfd * (dfn + dfd - 2) / (dfn * (dfd - 2) ** 2 * (dfd - 4)), np.inf
    ),
)
laplace = Distribution(
    "laplace",
    logpdf=lambda z: -np.abs(z) - log(2),
    cdf=lambda z: np.where(z > 0, 1 - np.exp(-np.abs(z)) / 2, np.exp(-np.abs(z)) / 2),
    sf=lambda z: np.where(z > 0, np.exp(-np.abs(z)) / 2, 1 - np.exp(-np.abs(z)) / 2),
    ppf=lambda q: np.where(q > 0.5, -np.log(2 * (1 - q)), np.log(2 * q)),
    mean=lambda: 0.0,
    var=lambda: 2.0,
    entropy=lambda: log(2) + 1,
)
logistic = Distribution(
    "logistic",
    logpdf=lambda z: -np.abs(z) - 2 * np.log1p(np.exp(-np.abs(z))),
    cdf=lambda z: sc.expit(z),
    sf=lambda z: sc.expit(-z),
    logcdf=lambda z: sc.log_expit(z),
    logsf=lambda z: sc.log_expit(-z),
    ppf=lambda q: sc.logit(q),
    isf=lambda q: -sc.logit(q),
    mean=lambda: 0.0,
    var=lambda: pi * pi / 3,
    entropy=lambda: 2.0,
)
cauchy = Distribution(
    "cauchy",
    logpdf=lambda z: -log(pi) - np.log1p(z * z),
    cdf=lambda z: np.arctan2(1.0, -z) / pi,
    sf=lambda z: np.arctan2(1.0, z) / pi,
    ppf=lambda q: -1 / np.tan(pi * q),
    isf=lambda q: 1 / np.tan(pi * q),
    entropy=lambda: log(4 * pi),
)
uniform = Distribution(
    "uniform",
    inside=0.5,
    logpdf=lambda z: 0.0 * z,
    cdf=lambda z: z,
    sf=lambda z: 1 - z,
    ppf=lambda q: q,
    mean=lambda: 0.5,
    var=lambda: 1 / 12,
    entropy=lambda: 0.0,
)
weibull_min = Distribution(
    "weibull_min",
    inside=1.0,
    logpdf=lambda z, c: np.log(c) + sc.xlogy(c - 1, z) - np.power(z, c),
    cdf=lambda z, c: -np.expm1(-np.power(z, c)),
    sf=lambda z, c: np.exp(-np.power(z, c)),
    logsf=lambda z, c: -np.power(z, c),
    ppf=lambda q, c: np.power(-np.log1p(-q), 1 / c),
    isf=lambda q, c: np.power(-np.log(q), 1 / c),
    mean=lambda c: sc.gamma(1 + 1 / c),
    var=lambda c: sc.gamma(1 + 2 / c) - sc.gamma(1 + 1 / c) ** 2,
    entropy=lambda c: EULER * (1 - 1 / c) - np.log(c) + 1,
)
pareto = Distribution(
    "pareto",
    inside=2.0,
    logpdf=lambda z, b: np.log(b) - (b + 1) * np.log(z),
    cdf=lambda z, b: 1 - np.power(z, -b),
    sf=lambda z, b: np.power(z, -b),
    logsf=lambda z, b: -b * np.log(z),
    ppf=lambda q, b: np.power(1 - q, -1 / b),
    isf=lambda q, b: np.power(q, -1 / b),
    mean=lambda b: np.where(b > 1, b / (b - 1), np.inf),
    var=lambda b: np.where(b > 2, b / ((b - 2) * (b - 1) ** 2), np.inf),
    entropy=lambda b: 1 + 1 / b - np.log(b),
)
lomax = Distribution(
    "lomax",
    inside=1.0,
    logpdf=lambda z, c: np.log(c) - (c + 1) * np.log1p(z),
    cdf=lambda z, c: -np.expm1(-c * np.log1p(z)),
    sf=lambda z, c: np.exp(-c * np.log1p(z)),
    logsf=lambda z, c: -c * np.log1p(z),
    ppf=lambda q, c: np.expm1(-np.log1p(-q) / c),
    mean=lambda c: np.where(c > 1, 1 / (c - 1), np.inf),
    entropy=lambda c: 1 + 1 / c - np.log(c),
)
gumbel_r = Distribution(
    "gumbel_r",
    logpdf=lambda z: -z - np.exp(-z),
    cdf=lambda z: np.exp(-np.exp(-z)),
    sf=lambda z: -np.expm1(-np.exp(-z)),
    logcdf=lambda z: -np.exp(-z),
    ppf=lambda q: -np.log(-np.log(q)),
    isf=lambda q: -np.log(-np.log1p(-q)),
    mean=lambda: EULER,
    var=lambda: pi * pi / 6,
    entropy=lambda: EULER + 1,
)
gumbel_l = Distribution(
    "gumbel_l",
    logpdf=lambda z: z - np.exp(z),
    cdf=lambda z: -np.expm1(-np.exp(z)),
    sf=lambda z: np.exp(-np.exp(z)),
    logsf=lambda z: -np.exp(z),
    ppf=lambda q: np.log(-np.log1p(-q)),
    isf=lambda q: np.log(-np.log(q)),
    mean=lambda: -EULER,
    var=lambda: pi * pi / 6,
    entropy=lambda: EULER + 1,
)
rayleigh = Distribution(
    "rayleigh",
    inside=1.0,
    logpdf=lambda z: np.log(z) - z * z / 2,
    cdf=lambda z: -np.expm1(-z * z / 2),
    sf=lambda z: np.exp(-z * z / 2),
    logsf=lambda z: -z * z / 2,
    ppf=lambda q: np.sqrt(-2 * np.log1p(-q)),
    isf=lambda q: np.sqrt(-2 * np.log(q)),
    mean=lambda: sqrt(pi / 2),
    var=lambda: 2 - pi / 2,
    entropy=lambda: EULER / 2 + 1 - log(2) / 2,
)
maxwell = Distribution(
    "maxwell",
    inside=1.0,
    logpdf=lambda z: log(2 / pi) / 2 + 2 * np.log(z) - z * z / 2,
    cdf=lambda z: sc.gammainc(1.5, z * z / 2),
    sf=lambda z: sc.gammaincc(1.5, z * z / 2),
    ppf=lambda q: np.sqrt(2 * sc.gammaincinv(1.5, q)),
    mean=lambda: 2 * sqrt(2 / pi),
    var=lambda: 3 - 8 / pi,
)
genpareto = Distribution(
    "genpareto",
    inside=lambda c: np.where(c < 0, -0.5 / np.where(c < 0, c, -1.0), 1.0),
    # boxcox1p(z, c) = ((1 + z)^c - 1) / c is smooth through c = 0, and so is log(1 + c z) / c, its inverse.
    logpdf=lambda z, c: -np.log1p(c * z) - np.log1p(sc.inv_boxcox1p(z, c)),
    cdf=lambda z, c: -np.expm1(-np.log1p(sc.inv_boxcox1p(z, c))),
    sf=lambda z, c: 1 / (1 + sc.inv_boxcox1p(z, c)),
    ppf=lambda q, c: -sc.boxcox1p(-q, -c),
    entropy=lambda c: 1 + c,
)
truncnorm = Distribution(
    "truncnorm",
    inside=lambda a, b: (np.maximum(a, -1e3) + np.minimum(b, 1e3)) / 2,
    logpdf=lambda z, a, b: -z * z / 2 - HALF_LOG_2PI - _log_mass(a, b),
    cdf=lambda z, a, b: np.exp(_log_mass(a, z) - _log_mass(a, b)),
    sf=lambda z, a, b: np.exp(_log_mass(z, b) - _log_mass(a, b)),
)


def _log_mass(a: Any, b: Any) -> Any:
    """log(ndtr(b) - ndtr(a)), taken in the tail in which both are small."""
    flip = a + b > 0
    low, high = np.where(flip, -b, a), np.where(flip, -a, b)
    lower, upper = sc.log_ndtr(low), sc.log_ndtr(high)
    return upper + np.log1p(-np.exp(lower - upper))


vonmises = Distribution(
    "vonmises",
    logpdf=lambda z, kappa: kappa * sc.cosm1(z) - log(2 * pi) - np.log(sc.i0e(kappa)),
    entropy=lambda kappa: kappa * (1 - sc.i1e(kappa) / sc.i0e(kappa)) + log(2 * pi) + np.log(sc.i0e(kappa)),
)
skewnorm = Distribution(
    "skewnorm",
    logpdf=lambda z, a: log(2) - z * z / 2 - HALF_LOG_2PI + sc.log_ndtr(a * z),
    cdf=lambda z, a: sc.ndtr(z) - 2 * sc.owens_t(z, a),
    mean=lambda a: sqrt(2 / pi) * a / np.sqrt(1 + a * a),
    var=lambda a: 1 - 2 / pi * a * a / (1 + a * a),
)
gennorm = Distribution(
    "gennorm",
    logpdf=lambda z, beta: np.log(beta / 2) - sc.gammaln(1 / beta) - np.power(np.abs(z), beta),
    mean=lambda beta: 0.0 * beta,
    var=lambda beta: np.exp(sc.gammaln(3 / beta) - sc.gammaln(1 / beta)),
    entropy=lambda beta: 1 / beta - np.log(beta / 2) + sc.gammaln(1 / beta),
)
invgauss = Distribution(
    "invgauss",
    inside=1.0,
    logpdf=lambda z, mu: -HALF_LOG_2PI - 1.5 * np.log(z) - (z / mu - 1) ** 2 / (2 * z),
    mean=lambda mu: mu,
    var=lambda mu: mu**3,
)
powerlaw = Distribution(
    "powerlaw",
    inside=0.5,
    logpdf=lambda z, a: np.log(a) + sc.xlogy(a - 1, z),
    cdf=lambda z, a: np.power(z, a),
    logcdf=lambda z, a: a * np.log(z),
    ppf=lambda q, a: np.power(q, 1 / a),
    mean=lambda a: a / (a + 1),
    var=lambda a: a / (a + 2) / (a + 1) ** 2,
    entropy=lambda a: 1 - 1 / a - np.log(a),
)
fisk = Distribution(
    "fisk",
    inside=1.0,
    logpdf=lambda z, c: np.log(c) + (c - 1) * np.log(z) - 2 * np.log1p(np.power(z, c)),
    cdf=lambda z, c: sc.expit(c * np.log(z)),
    sf=lambda z, c: sc.expit(-c * np.log(z)),
    ppf=lambda q, c: np.exp(sc.logit(q) / c),
    entropy=lambda c: 2 - np.log(c),
)
