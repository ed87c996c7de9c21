"""Derivatives of sort, partition and the order statistics: median, quantile, percentile.

Sorting takes entries in the sorted order, which is constant between ties, so its derivative is that of indexing. Equal entries
keep their order (a stable sort), in both modes. So the median of equal entries passes its gradient to the entries in the middle
of that order.

A quantile is at a virtual index v = n q + m between two neighbours of the sorted row (Hyndman and Fan 1996):
sorted[floor v] + gamma (sorted[floor v + 1] - sorted[floor v]). With the interpolating methods gamma varies with q, and q may
be a Tensor too. `weights=` and `overwrite_input=` are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import as_tensor, kept, refuse, value
from allgrad.numpy.dispatch import implements
from allgrad.numpy.reductions import count

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]


@implements(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    refuse("np.sort", order=order)
    a, axis = _along(a, axis)
    # NumPy's other algorithms differ only in the order of equal entries; ours is always stable.
    if kind not in (None, "quicksort", "heapsort", "mergesort", "stable") or (kind is not None and stable is not None):
        raise ValueError(f"np.sort: kind={kind!r}, stable={stable!r}: give one of them, and a kind that NumPy knows.")
    return np.take_along_axis(a, np.argsort(a.value, axis=axis, kind="stable"), axis=axis)


@implements(np.partition)
def partition(a: Any, kth: Any, axis: Any = -1, kind: Any = "introselect", order: Any = None) -> Any:
    refuse("np.partition", order=order)
    a, axis = _along(a, axis)
    return np.take_along_axis(a, np.argpartition(a.value, kth, axis=axis, kind=kind), axis=axis)


@implements(np.sort_complex)
def sort_complex(a: Any) -> Any:
    made = np.sort(a)
    return made if made.dtype.kind == "c" else np.astype(made, np.sort_complex(np.empty(0, made.dtype)).dtype)


def _along(a: Any, axis: Any) -> tuple[Any, int]:
    a = as_tensor(a)
    return (np.ravel(a), 0) if axis is None else (a, axis)


# The position of a quantile: from q and n (the length of the row) to the virtual index, and gamma from its fraction.

_LINES: dict[str, tuple[float, float]] = {  # alpha and beta of v = n q + alpha + q (1 - alpha - beta) - 1, interpolated
    "interpolated_inverted_cdf": (0.0, 1.0),
    "hazen": (0.5, 0.5),
    "weibull": (0.0, 0.0),
    "linear": (1.0, 1.0),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}

_STEPS: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {}


def _step(function: Callable[[Array, Array], tuple[Array, Array]]) -> Callable[[Array, Array], tuple[Array, Array]]:
    """Register a method whose gamma is constant between jumps: (n, q) -> lower index, gamma."""
    _STEPS[function.__name__] = function
    return function


@_step
def lower(n: Array, q: Array) -> tuple[Array, Array]:
    return np.floor((n - 1) * q), np.zeros(())


@_step
def higher(n: Array, q: Array) -> tuple[Array, Array]:
    return np.ceil((n - 1) * q), np.zeros(())


@_step
def nearest(n: Array, q: Array) -> tuple[Array, Array]:
    return np.rint((n - 1) * q), np.zeros(())


@_step
def midpoint(n: Array, q: Array) -> tuple[Array, Array]:
    v = (n - 1) * q
    return np.floor(v), 0.5 * (v % 1 != 0)


@_step
def inverted_cdf(n: Array, q: Array) -> tuple[Array, Array]:
    return np.ceil(n * q) - 1, np.zeros(())


@_step
def averaged_inverted_cdf(n: Array, q: Array) -> tuple[Array, Array]:
    v = n * q - 1
    return np.floor(v), np.where(v % 1 == 0, 0.5, 1.0)


@_step
def closest_observation(n: Array, q: Array) -> tuple[Array, Array]:
    v = n * q - 1.5
    low = np.floor(v)
    return low + np.where((v == low) & (low % 2 == 1), 0, 1), np.zeros(())


EXACT = ("lower", "higher", "nearest", "inverted_cdf", "closest_observation")
"""The methods that return one of the numbers itself."""


def _place(method: str, n: Array, q: Any) -> tuple[Any, Any]:
    """The lower neighbour's index, not yet clipped to the row, and gamma in q's dtype."""
    n = n.astype(q.dtype)
    if method in _STEPS:
        low, gamma = _STEPS[method](n, value(q))
        return low, np.asarray(gamma, q.dtype)
    if method not in _LINES:
        raise ValueError(f"np.quantile: method must be one of {sorted([*_LINES, *_STEPS])}, got {method!r}.")
    alpha, beta = _LINES[method]
    v = n * q + (alpha + q * (1 - alpha - beta)) - 1
    low = np.floor(value(v))
    return low, v - low


def _quantile(a: Any, q: Any, axis: Any, method: str, keepdims: bool, skip_nan: bool) -> Any:
    """The quantiles of an array. A Python number as q takes a's dtype; any other q promotes."""
    weak = type(q) in (int, float)
    q = q if isinstance(q, Tensor) else np.asarray(q, float if weak else None)
    rows, back = _rows(a, axis)
    values: Any = np.sort(rows, axis=-1)  # NaNs come last
    missing = np.count_nonzero(np.isnan(values.value), axis=-1)[..., None]
    size = values.shape[-1]
    n = np.maximum(size - missing, 1) if skip_nan else np.full_like(missing, size)
    low, gamma = _place(method, n, np.reshape(q, -1))
    i = np.broadcast_to(np.clip(low, 0, n - 1).astype(np.intp), (*values.shape[:-1], low.shape[-1]))
    result = np.take_along_axis(values, i, axis=-1)
    if method not in EXACT:
        above = np.take_along_axis(values, np.where((low >= 0) & (low < n - 1), i + 1, i), axis=-1)
        result = _between(result, above, gamma.astype(values.dtype) if weak else gamma)
    bad = np.broadcast_to(missing == size if skip_nan else missing > 0, result.shape)
    if bad.any():
        result = np.where(bad, np.asarray(np.nan, result.dtype), result)
    result = np.reshape(np.moveaxis(result, -1, 0), (*np.shape(q), *result.shape[:-1]))
    return np.reshape(result, (*np.shape(q), *back)) if keepdims else result


def _between(below: Any, above: Any, gamma: Any) -> Any:
    if not np.isfinite(above.value).all():  # where gamma is 0, the upper neighbour does not count and may be infinite
        above = np.where(value(gamma) != 0, above, below)
    return below + gamma * (above - below)


def _rows(a: Any, axis: Any) -> tuple[Any, tuple[int, ...]]:
    """`a` with the reduced axes merged into one at the end, and the result's shape for keepdims."""
    if axis is None:
        return np.ravel(a), (1,) * a.ndim
    axes = tuple(i % a.ndim for i in (axis if isinstance(axis, tuple) else (axis,)))
    kept_axes = tuple(i for i in range(a.ndim) if i not in axes)
    moved = np.transpose(a, (*kept_axes, *axes))
    rows = np.reshape(moved, (*moved.shape[: len(kept_axes)], int(np.prod([a.shape[i] for i in axes]))))
    return rows, tuple(1 if i in axes else n for i, n in enumerate(a.shape))


def _as_floats(a: Any) -> Any:
    a = as_tensor(a)
    return a if a.dtype.kind in "fc" else a.astype(float)


def _order_statistic(name: str, scale: float, skip_nan: bool) -> Any:
    def rule(
        a: Any,
        q: Any,
        axis: Any = None,
        out: Any = None,
        overwrite_input: bool = False,
        method: str = "linear",
        keepdims: Any = False,
        *,
        weights: Any = None,
    ) -> Any:
        refuse(f"np.{name}", out=out, overwrite_input=overwrite_input or None, weights=weights)
        a = _as_floats(a)
        if not isinstance(q, Tensor) and type(q) not in (int, float):
            q = np.asarray(q)
        q = q / scale if scale != 1 else q
        if not np.all((q >= 0) & (q <= 1)):
            raise ValueError(f"np.{name}: q must be between 0 and {scale:g}.")
        return _quantile(a, q, axis, method, kept(keepdims), skip_nan)

    rule.__name__ = name
    return rule


def _median(name: str, skip_nan: bool) -> Any:
    def rule(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
        refuse(f"np.{name}", out=out, overwrite_input=overwrite_input or None)
        a = _as_floats(a)
        if not count(a.shape, axis):
            return np.mean(a, axis, keepdims=kept(keepdims))  # NaN, with NumPy's warning
        return _quantile(a, 0.5, axis, "linear", kept(keepdims), skip_nan)

    rule.__name__ = name
    return rule


implements(np.median)(_median("median", skip_nan=False))
implements(np.nanmedian)(_median("nanmedian", skip_nan=True))
implements(np.quantile)(_order_statistic("quantile", 1, skip_nan=False))
implements(np.nanquantile)(_order_statistic("nanquantile", 1, skip_nan=True))
implements(np.percentile)(_order_statistic("percentile", 100, skip_nan=False))
implements(np.nanpercentile)(_order_statistic("nanpercentile", 100, skip_nan=True))
