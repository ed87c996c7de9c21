"""`scipy.spatial.distance` with derivatives: cdist, pdist, and the distances of two vectors.

A distance of coinciding points has derivative 0 where it has a kink there (euclidean, cityblock, ...), as norms do.
Boolean metrics (hamming, jaccard, ...) are not differentiated.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.spatial import distance as _theirs

from allgrad.autodiff.errors import NotDifferentiableError
from allgrad.numpy.singular import quotient
from allgrad.scipy.registry import differentiates, operand


def _norm(x: Any) -> Any:
    return np.linalg.norm(x, axis=-1)


def _minkowski(u: Any, v: Any, p: Any = 2, w: Any = None) -> Any:
    size = np.abs(u - v)
    if w is not None:
        size = size * np.power(w, 1 / p)
    return np.linalg.norm(size, ord=p, axis=-1)


def _weighted_sum(x: Any, w: Any) -> Any:
    return np.sum(x if w is None else x * w, axis=-1)


def _euclidean(u: Any, v: Any, w: Any = None) -> Any:
    return _norm((u - v) if w is None else (u - v) * np.sqrt(w))


def _cosine(u: Any, v: Any, w: Any = None) -> Any:
    return 1 - _weighted_sum(u * v, w) / np.sqrt(_weighted_sum(u * u, w) * _weighted_sum(v * v, w))


def _correlation(u: Any, v: Any, w: Any = None) -> Any:
    total = u.shape[-1] if w is None else np.sum(w)
    u, v = (x - np.expand_dims(_weighted_sum(x, w) / total, -1) for x in (u, v))
    return _cosine(u, v, w)


def _canberra(u: Any, v: Any, w: Any = None) -> Any:
    return _weighted_sum(quotient(np.abs(u - v), np.abs(u) + np.abs(v)), w)


def _braycurtis(u: Any, v: Any, w: Any = None) -> Any:
    return _weighted_sum(np.abs(u - v), w) / _weighted_sum(np.abs(u + v), w)


def _mahalanobis(u: Any, v: Any, VI: Any) -> Any:
    difference = u - v
    return np.sqrt(np.sum(np.matmul(difference, operand(VI)) * difference, axis=-1))


def _jensenshannon(p: Any, q: Any, base: Any = None) -> Any:
    p, q = (x / np.sum(x, axis=-1, keepdims=True) for x in (p, q))
    middle = (p + q) / 2
    divergence = np.sum(p * np.log(p / middle) + q * np.log(q / middle), axis=-1) / 2
    return np.sqrt(divergence if base is None else divergence / np.log(base))


METRICS: dict[str, Any] = {
    "euclidean": _euclidean,
    "sqeuclidean": lambda u, v, w=None: _weighted_sum((u - v) ** 2, w),
    "cityblock": lambda u, v, w=None: _weighted_sum(np.abs(u - v), w),
    "chebyshev": lambda u, v: np.max(np.abs(u - v), axis=-1),
    "minkowski": _minkowski,
    "cosine": _cosine,
    "correlation": _correlation,
    "canberra": _canberra,
    "braycurtis": _braycurtis,
    "mahalanobis": _mahalanobis,
    "seuclidean": lambda u, v, V: _norm((u - v) / np.sqrt(operand(V))),
    "jensenshannon": _jensenshannon,
}
"""Distances of vectors along the last axis."""


def _metric(name: Any, keywords: dict[str, Any]) -> Any:
    if name not in METRICS:
        raise NotDifferentiableError(f"the metric {name!r} is not differentiated; these are: {', '.join(METRICS)}.")
    required = {"mahalanobis": "VI", "seuclidean": "V"}.get(name)
    if required and required not in keywords:
        raise NotDifferentiableError(f"the metric {name!r} of Tensors needs {required}=.")
    return METRICS[name]


@differentiates(_theirs.cdist, "spatial.distance")
def cdist(XA: Any, XB: Any, metric: str = "euclidean", **keywords: Any) -> Any:
    """The distances of all pairs of rows: (m, d) and (n, d) give (m, n)."""
    return _metric(metric, keywords)(operand(XA)[:, None], operand(XB)[None], **keywords)


@differentiates(_theirs.pdist, "spatial.distance")
def pdist(X: Any, metric: str = "euclidean", **keywords: Any) -> Any:
    """The distances of the rows i < j: (m, d) gives (m (m - 1) / 2,)."""
    X = operand(X)
    i, j = np.triu_indices(X.shape[0], 1)
    return _metric(metric, keywords)(X[i], X[j], **keywords)


@differentiates(_theirs.squareform, "spatial.distance")
def squareform(X: Any, force: str = "no", checks: bool = True) -> Any:  # noqa: ARG001
    """Between the vector of the pairs i < j and the symmetric matrix."""
    X = operand(X)
    if X.ndim == 2:
        return X[np.triu_indices(X.shape[0], 1)]
    n = round((1 + np.sqrt(1 + 8 * X.shape[0])) / 2)
    place = np.zeros((n, n), dtype=int)
    place[np.triu_indices(n, 1)] = np.arange(X.shape[0])
    return X[place + place.T] * (1.0 - np.eye(n, dtype=X.dtype))


def _of_two_vectors(name: str) -> Any:
    @differentiates(getattr(_theirs, name), "spatial.distance")
    def function(u: Any, v: Any, *args: Any, **keywords: Any) -> Any:
        return METRICS[name](operand(u), operand(v), *args, **keywords)

    function.__name__ = function.__qualname__ = name
    return function


class _Distance(SimpleNamespace):
    """The functions of `scipy.spatial.distance`; those without a rule are SciPy's own."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_theirs, name)


distance = _Distance(cdist=cdist, pdist=pdist, squareform=squareform, **{n: _of_two_vectors(n) for n in METRICS})


def __getattr__(name: str) -> Any:
    import scipy.spatial

    return getattr(scipy.spatial, name)
