"""Summary statistics of samples: means, moments, standardized scores, correlation, entropy."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import _ufuncs as sc

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.scipy.registry import differentiates, operand, value
from scipy import stats


def _plain_nan(name: str, nan_policy: str) -> None:
    if nan_policy != "propagate":
        raise NotDifferentiableError(
            f"scipy.stats.{name}(nan_policy={nan_policy!r}) is not differentiated; drop NaNs first."
        )


def _sample(a: Any, axis: Any) -> tuple[Any, int]:
    a = operand(a)
    return (np.ravel(a), 0) if axis is None else (a, axis)


def _mean(x: Any, axis: int, weights: Any) -> Any:
    if weights is None:
        return np.mean(x, axis=axis)
    weights = operand(weights)
    if weights.ndim == 1 and x.ndim > 1:
        shape = [1] * x.ndim
        shape[axis] = -1
        weights = np.reshape(weights, shape)
    return np.sum(x * weights, axis=axis) / np.sum(weights * np.ones(x.shape, dtype=x.dtype), axis=axis)


@differentiates(stats.gmean, "stats")
def gmean(
    a: Any, axis: Any = 0, dtype: Any = None, weights: Any = None, nan_policy: str = "propagate", keepdims: bool = False
) -> Any:
    _plain_nan("gmean", nan_policy)
    a, axis = _sample(a if dtype is None else operand(a, dtype), axis)
    result = np.exp(_mean(np.log(a), axis, weights))
    return np.expand_dims(result, axis) if keepdims else result


@differentiates(stats.hmean, "stats")
def hmean(
    a: Any,
    axis: Any = 0,
    dtype: Any = None,
    *,
    weights: Any = None,
    nan_policy: str = "propagate",
    keepdims: bool = False,
) -> Any:
    _plain_nan("hmean", nan_policy)
    a, axis = _sample(a if dtype is None else operand(a, dtype), axis)
    result = 1 / _mean(1 / a, axis, weights)
    return np.expand_dims(result, axis) if keepdims else result


@differentiates(stats.pmean, "stats")
def pmean(
    a: Any,
    p: Any,
    *,
    axis: Any = 0,
    dtype: Any = None,
    weights: Any = None,
    nan_policy: str = "propagate",
    keepdims: bool = False,
) -> Any:
    if value(p) == 0:
        return gmean(a, axis, dtype, weights, nan_policy, keepdims)
    _plain_nan("pmean", nan_policy)
    a, axis = _sample(a if dtype is None else operand(a, dtype), axis)
    result = np.power(_mean(np.power(a, p), axis, weights), 1 / p)
    return np.expand_dims(result, axis) if keepdims else result


def _moment(a: Any, order: int, axis: int, centre: Any = None) -> Any:
    centre = np.mean(a, axis=axis, keepdims=True) if centre is None else centre
    return np.mean((a - centre) ** order, axis=axis)


@differentiates(stats.moment, "stats")
def moment(a: Any, order: int = 1, axis: Any = 0, nan_policy: str = "propagate", *, center: Any = None) -> Any:
    _plain_nan("moment", nan_policy)
    a, axis = _sample(a, axis)
    if order == 1 and center is None:
        return 0.0 * np.mean(a, axis=axis)
    return _moment(a, order, axis, center)


@differentiates(stats.skew, "stats")
def skew(a: Any, axis: Any = 0, bias: bool = True, nan_policy: str = "propagate", *, keepdims: bool = False) -> Any:
    _plain_nan("skew", nan_policy)
    a, axis = _sample(a, axis)
    result = _moment(a, 3, axis) / _moment(a, 2, axis) ** 1.5
    if not bias:
        n = a.shape[axis]
        result = result * np.sqrt(n * (n - 1.0)) / (n - 2.0)
    return np.expand_dims(result, axis) if keepdims else result


@differentiates(stats.kurtosis, "stats")
def kurtosis(
    a: Any,
    axis: Any = 0,
    fisher: bool = True,
    bias: bool = True,
    nan_policy: str = "propagate",
    *,
    keepdims: bool = False,
) -> Any:
    _plain_nan("kurtosis", nan_policy)
    a, axis = _sample(a, axis)
    result = _moment(a, 4, axis) / _moment(a, 2, axis) ** 2
    if not bias:
        n = a.shape[axis]
        result = ((n * n - 1.0) * result - 3 * (n - 1.0) ** 2) / ((n - 2.0) * (n - 3.0)) + 3
    result = result - 3 if fisher else result
    return np.expand_dims(result, axis) if keepdims else result


@differentiates(stats.zscore, "stats")
def zscore(a: Any, axis: Any = 0, ddof: int = 0, nan_policy: str = "propagate") -> Any:
    return zmap(a, a, axis, ddof, nan_policy)


@differentiates(stats.zmap, "stats")
def zmap(scores: Any, compare: Any, axis: Any = 0, ddof: int = 0, nan_policy: str = "propagate") -> Any:
    _plain_nan("zmap", nan_policy)
    scores, compare = operand(scores), operand(compare)
    options: Any = {"axis": axis, "keepdims": True}
    return (scores - np.mean(compare, **options)) / np.std(compare, ddof=ddof, **options)


@differentiates(stats.sem, "stats")
def sem(a: Any, axis: Any = 0, ddof: int = 1, nan_policy: str = "propagate") -> Any:
    _plain_nan("sem", nan_policy)
    a, axis = _sample(a, axis)
    return np.std(a, axis=axis, ddof=ddof) / np.sqrt(a.shape[axis])


@differentiates(stats.variation, "stats")
def variation(a: Any, axis: Any = 0, nan_policy: str = "propagate", ddof: int = 0, *, keepdims: bool = False) -> Any:
    _plain_nan("variation", nan_policy)
    a, axis = _sample(a, axis)
    return np.std(a, axis=axis, ddof=ddof, keepdims=keepdims) / np.mean(a, axis=axis, keepdims=keepdims)


@differentiates(stats.gstd, "stats")
def gstd(a: Any, axis: Any = 0, ddof: int = 1) -> Any:
    a, axis = _sample(a, axis)
    return np.exp(np.std(np.log(a), axis=axis, ddof=ddof))


@differentiates(stats.entropy, "stats")
def entropy(
    pk: Any, qk: Any = None, base: Any = None, axis: int = 0, nan_policy: str = "propagate", keepdims: bool = False
) -> Any:
    """Shannon's entropy of pk, or the divergence of pk from qk; both are normalized first."""
    _plain_nan("entropy", nan_policy)
    pk = operand(pk)
    pk = pk / np.sum(pk, axis=axis, keepdims=True)
    if qk is None:
        terms = sc.entr(pk)
    else:
        qk = operand(qk)
        terms = sc.rel_entr(pk, qk / np.sum(qk, axis=axis, keepdims=True))
    result = np.sum(terms, axis=axis, keepdims=keepdims)
    return result if base is None else result / np.log(base)


@differentiates(stats.boxcox_llf, "stats")
def boxcox_llf(lmb: Any, data: Any, *, axis: int = 0, keepdims: bool = False, nan_policy: str = "propagate") -> Any:
    """The log-likelihood of the Box-Cox transformation with the exponent lmb."""
    _plain_nan("boxcox_llf", nan_policy)
    data = operand(data)
    n = data.shape[axis]
    variance = np.var(sc.boxcox(data, lmb), axis=axis, keepdims=keepdims)
    return (operand(lmb) - 1) * np.sum(np.log(data), axis=axis, keepdims=keepdims) - n / 2 * np.log(variance)


@differentiates(stats.circmean, "stats")
def circmean(
    samples: Any, high: float = 2 * np.pi, low: float = 0, axis: Any = None, nan_policy: str = "propagate"
) -> Any:
    _plain_nan("circmean", nan_policy)
    sine, cosine = _circle(samples, high, low, axis)
    turn = np.remainder(np.arctan2(sine, cosine), 2 * np.pi)
    return turn * (high - low) / (2 * np.pi) + low


def _circle(samples: Any, high: float, low: float, axis: Any) -> tuple[Any, Any]:
    angles = (operand(samples) - low) * (2 * np.pi / (high - low))
    return np.mean(np.sin(angles), axis=axis), np.mean(np.cos(angles), axis=axis)


@differentiates(stats.circvar, "stats")
def circvar(
    samples: Any, high: float = 2 * np.pi, low: float = 0, axis: Any = None, nan_policy: str = "propagate"
) -> Any:
    _plain_nan("circvar", nan_policy)
    return 1 - np.hypot(*_circle(samples, high, low, axis))


@differentiates(stats.wasserstein_distance, "stats")
def wasserstein_distance(u_values: Any, v_values: Any, u_weights: Any = None, v_weights: Any = None) -> Any:
    """The area between the two distribution functions, by the values; the weights are constants."""
    u, v = operand(u_values), operand(v_values)
    everything = np.sort(np.concatenate([u, v]))
    plain = value(everything)

    def cdf(sample: Any, weights: Any) -> Any:
        order = np.argsort(value(sample))
        weights = np.ones(len(order)) if weights is None else np.asarray(weights)[order]
        steps = np.concatenate([[0.0], np.cumsum(weights) / np.sum(weights)])
        return steps[np.searchsorted(value(sample)[order], plain[:-1], "right")]

    return np.sum(np.abs(cdf(u, u_weights) - cdf(v, v_weights)) * np.diff(everything))


@differentiates(stats.pearsonr, "stats")
def pearsonr(x: Any, y: Any) -> Any:
    """The correlation coefficient; the p-value is a constant."""
    x, y = operand(x), operand(y)
    dx, dy = x - np.mean(x), y - np.mean(y)
    r = np.sum(dx * dy) / (np.linalg.norm(dx) * np.linalg.norm(dy))
    return r, stats.pearsonr(value(x), value(y)).pvalue


@differentiates(stats.linregress, "stats")
def linregress(x: Any, y: Any) -> Any:
    """Slope and intercept of the least-squares line, the correlation coefficient, the p-value (constant) and errors."""
    x, y = operand(x), operand(y)
    dx, dy = x - np.mean(x), y - np.mean(y)
    sxx, sxy, syy = np.sum(dx * dx), np.sum(dx * dy), np.sum(dy * dy)
    slope = sxy / sxx
    intercept = np.mean(y) - slope * np.mean(x)
    r = sxy / np.sqrt(sxx * syy)
    stderr = np.sqrt((1 - r * r) * syy / sxx / (x.shape[0] - 2))
    intercept_stderr = stderr * np.sqrt(sxx / x.shape[0] + np.mean(x) ** 2)
    plain = stats.linregress(value(x), value(y))
    return stats._stats_py.LinregressResult(
        slope=slope,
        intercept=intercept,
        rvalue=r,
        pvalue=plain.pvalue,
        stderr=stderr,
        intercept_stderr=intercept_stderr,
    )
