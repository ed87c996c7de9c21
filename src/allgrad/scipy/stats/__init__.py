"""`scipy.stats` with derivatives: densities, distribution functions, quantiles and moments of the common distributions.

>>> import numpy as np, allgrad as ag
>>> from allgrad.scipy import stats
>>> x = np.array([0.5, 1.5, 4.0])
>>> by_mean, by_scale = ag.grad(lambda m, s: np.sum(stats.norm.logpdf(x, m, s)), (0, 1))(2.0, 1.0)
>>> float(by_mean), float(by_scale)
(0.0, 3.5)
"""

from typing import Any as _Any

import scipy.stats as _scipy_stats

from allgrad.scipy.stats.continuous import beta as beta
from allgrad.scipy.stats.continuous import cauchy as cauchy
from allgrad.scipy.stats.continuous import chi as chi
from allgrad.scipy.stats.continuous import chi2 as chi2
from allgrad.scipy.stats.continuous import expon as expon
from allgrad.scipy.stats.continuous import f as f
from allgrad.scipy.stats.continuous import fisk as fisk
from allgrad.scipy.stats.continuous import gamma as gamma
from allgrad.scipy.stats.continuous import gennorm as gennorm
from allgrad.scipy.stats.continuous import genpareto as genpareto
from allgrad.scipy.stats.continuous import gumbel_l as gumbel_l
from allgrad.scipy.stats.continuous import gumbel_r as gumbel_r
from allgrad.scipy.stats.continuous import halfnorm as halfnorm
from allgrad.scipy.stats.continuous import invgamma as invgamma
from allgrad.scipy.stats.continuous import invgauss as invgauss
from allgrad.scipy.stats.continuous import laplace as laplace
from allgrad.scipy.stats.continuous import logistic as logistic
from allgrad.scipy.stats.continuous import lognorm as lognorm
from allgrad.scipy.stats.continuous import lomax as lomax
from allgrad.scipy.stats.continuous import maxwell as maxwell
from allgrad.scipy.stats.continuous import norm as norm
from allgrad.scipy.stats.continuous import pareto as pareto
from allgrad.scipy.stats.continuous import powerlaw as powerlaw
from allgrad.scipy.stats.continuous import rayleigh as rayleigh
from allgrad.scipy.stats.continuous import skewnorm as skewnorm
from allgrad.scipy.stats.continuous import t as t
from allgrad.scipy.stats.continuous import truncnorm as truncnorm
from allgrad.scipy.stats.continuous import uniform as uniform
from allgrad.scipy.stats.continuous import vonmises as vonmises
from allgrad.scipy.stats.continuous import weibull_min as weibull_min
from allgrad.scipy.stats.discrete import bernoulli as bernoulli
from allgrad.scipy.stats.discrete import binom as binom
from allgrad.scipy.stats.discrete import geom as geom
from allgrad.scipy.stats.discrete import logser as logser
from allgrad.scipy.stats.discrete import nbinom as nbinom
from allgrad.scipy.stats.discrete import poisson as poisson
from allgrad.scipy.stats.discrete import zipf as zipf
from allgrad.scipy.stats.multivariate import dirichlet as dirichlet
from allgrad.scipy.stats.multivariate import invwishart as invwishart
from allgrad.scipy.stats.multivariate import multinomial as multinomial
from allgrad.scipy.stats.multivariate import multivariate_normal as multivariate_normal
from allgrad.scipy.stats.multivariate import multivariate_t as multivariate_t
from allgrad.scipy.stats.multivariate import wishart as wishart
from allgrad.scipy.stats.summary import boxcox_llf as boxcox_llf
from allgrad.scipy.stats.summary import circmean as circmean
from allgrad.scipy.stats.summary import circvar as circvar
from allgrad.scipy.stats.summary import entropy as entropy
from allgrad.scipy.stats.summary import gmean as gmean
from allgrad.scipy.stats.summary import gstd as gstd
from allgrad.scipy.stats.summary import hmean as hmean
from allgrad.scipy.stats.summary import kurtosis as kurtosis
from allgrad.scipy.stats.summary import linregress as linregress
from allgrad.scipy.stats.summary import moment as moment
from allgrad.scipy.stats.summary import pearsonr as pearsonr
from allgrad.scipy.stats.summary import pmean as pmean
from allgrad.scipy.stats.summary import sem as sem
from allgrad.scipy.stats.summary import skew as skew
from allgrad.scipy.stats.summary import variation as variation
from allgrad.scipy.stats.summary import wasserstein_distance as wasserstein_distance
from allgrad.scipy.stats.summary import zmap as zmap
from allgrad.scipy.stats.summary import zscore as zscore


def __getattr__(name: str) -> _Any:
    return getattr(_scipy_stats, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_scipy_stats)})
