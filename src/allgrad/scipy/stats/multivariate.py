"""Multivariate distributions: log-densities by the points and the parameters."""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.numpy.factorizations import T
from allgrad.scipy.registry import TABLE, Row, operand, tracked
from allgrad.scipy.special.functions import multigammaln
from scipy import stats


class Multivariate:
    """A multivariate distribution of scipy.stats: the methods below take Tensors, and all others are SciPy's own."""

    def __init__(self, name: str, **functions: Any) -> None:
        self.scipy = getattr(stats, name)
        self.functions = functions
        for log_name, method in (("logpdf", "pdf"), ("logpmf", "pmf")):
            if log_name in functions:
                functions[method] = lambda *args, _log=functions[log_name], **keywords: np.exp(_log(*args, **keywords))
        for method in functions:
            TABLE.add(Row(f"{name}.{method}", "stats", "differentiated"))

    def __getattr__(self, method: str) -> Any:
        theirs = getattr(self.scipy, method)
        ours = self.functions.get(method)
        if ours is None:
            return theirs
        return lambda *args, **keywords: (ours if tracked((args, keywords)) else theirs)(*args, **keywords)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.scipy(*args, **keywords)


def _squares(x: Any, mean: Any, matrix: Any) -> tuple[Any, Any, int]:
    """(x - mean)^T matrix^-1 (x - mean) for each point, the log-determinant of the matrix, and the dimension."""
    x, mean, matrix = operand(x), operand(mean), operand(matrix)
    if matrix.ndim == 0:
        matrix = matrix * np.eye(x.shape[-1] if x.ndim else 1)
    elif matrix.ndim == 1:
        matrix = np.diag(matrix)
    n = matrix.shape[-1]
    centred = np.reshape(x, (*x.shape, 1) if n == 1 and (x.ndim == 0 or x.shape[-1] != 1) else x.shape) - mean
    factor = np.linalg.cholesky((matrix + T(matrix)) / 2)
    columns = np.reshape(centred, (-1, n))
    whitened = np.linalg.solve(factor, T(columns))
    squares = np.reshape(np.sum(whitened * whitened, axis=0), centred.shape[:-1])
    return squares, 2 * np.sum(np.log(np.diagonal(factor))), n


def _normal_logpdf(x: Any, mean: Any = None, cov: Any = 1, allow_singular: bool = False) -> Any:
    if allow_singular:
        raise NotDifferentiableError("multivariate_normal.logpdf(allow_singular=True) is not differentiated.")
    squares, logdet, n = _squares(x, 0.0 if mean is None else mean, cov)
    return -(n * log(2 * pi) + logdet + squares) / 2


def _normal_entropy(mean: Any = None, cov: Any = 1) -> Any:  # noqa: ARG001
    cov = np.atleast_2d(operand(cov))
    return cov.shape[-1] * (1 + log(2 * pi)) / 2 + np.linalg.slogdet(cov)[1] / 2


def _t_logpdf(x: Any, loc: Any = None, shape: Any = 1, df: Any = 1) -> Any:
    squares, logdet, n = _squares(x, 0.0 if loc is None else loc, shape)
    df = operand(df)
    constant = sc.gammaln((df + n) / 2) - sc.gammaln(df / 2) - n / 2 * np.log(pi * df) - logdet / 2
    return constant - (df + n) / 2 * np.log1p(squares / df)


def _dirichlet_points(x: Any, alpha: Any) -> tuple[Any, Any]:
    """x: (k,) or (k, points), with the last coordinate filled in if it is left out; alpha as a column."""
    x, alpha = operand(x), operand(alpha)
    if x.shape[0] + 1 == alpha.shape[0]:
        x = np.concatenate([x, 1 - np.sum(x, axis=0, keepdims=True)])
    return x, np.reshape(alpha, (-1, *[1] * (x.ndim - 1)))


def _dirichlet_constant(alpha: Any) -> Any:
    return np.sum(sc.gammaln(alpha)) - sc.gammaln(np.sum(alpha))


def _dirichlet_logpdf(x: Any, alpha: Any) -> Any:
    x, columns = _dirichlet_points(x, alpha)
    return np.sum(sc.xlogy(columns - 1, x), axis=0) - _dirichlet_constant(operand(alpha))


def _dirichlet_entropy(alpha: Any) -> Any:
    alpha = operand(alpha)
    total = np.sum(alpha)
    k = alpha.shape[-1]
    return _dirichlet_constant(alpha) + (total - k) * sc.psi(total) - np.sum((alpha - 1) * sc.psi(alpha))


def _dirichlet_mean(alpha: Any) -> Any:
    alpha = operand(alpha)
    return alpha / np.sum(alpha)


def _dirichlet_var(alpha: Any) -> Any:
    alpha = operand(alpha)
    total = np.sum(alpha)
    return alpha * (total - alpha) / (total * total * (total + 1))


def _multinomial_logpmf(x: Any, n: Any, p: Any) -> Any:
    """By p, of which SciPy replaces the last entry by what the others leave."""
    p = operand(p)
    p = np.concatenate([p[..., :-1], 1 - np.sum(p[..., :-1], axis=-1, keepdims=True)], axis=-1)
    x = operand(x)
    return sc.gammaln(operand(n) + 1) + np.sum(sc.xlogy(x, p) - sc.gammaln(x + 1), axis=-1)


def _wishart_logpdf(x: Any, df: Any, scale: Any) -> Any:
    """For x and scale: (p, p)."""
    x, df, scale = operand(x), operand(df), operand(scale)
    p = scale.shape[-1]
    trace = np.trace(np.linalg.solve(scale, x))
    logdets = (df - p - 1) * np.linalg.slogdet(x)[1] - df * np.linalg.slogdet(scale)[1]
    return (logdets - trace) / 2 - df * p * log(2) / 2 - multigammaln(df / 2, p)


def _invwishart_logpdf(x: Any, df: Any, scale: Any) -> Any:
    x, df, scale = operand(x), operand(df), operand(scale)
    p = scale.shape[-1]
    trace = np.trace(np.linalg.solve(x, scale))
    logdets = df * np.linalg.slogdet(scale)[1] - (df + p + 1) * np.linalg.slogdet(x)[1]
    return (logdets - trace) / 2 - df * p * log(2) / 2 - multigammaln(df / 2, p)


multivariate_normal = Multivariate("multivariate_normal", logpdf=_normal_logpdf, entropy=_normal_entropy)
multivariate_t = Multivariate("multivariate_t", logpdf=_t_logpdf)
dirichlet = Multivariate(
    "dirichlet", logpdf=_dirichlet_logpdf, entropy=_dirichlet_entropy, mean=_dirichlet_mean, var=_dirichlet_var
)
multinomial = Multivariate("multinomial", logpmf=_multinomial_logpmf)
wishart = Multivariate("wishart", logpdf=_wishart_logpdf)
invwishart = Multivariate("invwishart", logpdf=_invwishart_logpdf)
