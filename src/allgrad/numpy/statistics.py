"""Derivatives of covariances, weighted counts, distinct values, and functions applied along axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import as_tensor, refuse, value
from allgrad.numpy.dispatch import implements

if TYPE_CHECKING:
    from collections.abc import Callable


@implements(np.cov)
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    rows = _variables(m, rowvar)
    if y is not None:
        rows = np.concatenate([rows, _variables(y, rowvar)], axis=0)
    rows = rows.astype(np.result_type(rows.dtype, np.float64) if dtype is None else dtype)
    ddof = (0 if bias else 1) if ddof is None else ddof
    w = None
    if fweights is not None:
        w = np.asarray(fweights, float)
    if aweights is not None:
        aweights = aweights if isinstance(aweights, Tensor) else np.asarray(aweights, float)
        w = aweights if w is None else w * aweights
    if w is None:
        centred, scaled, norm = _centred(rows), None, rows.shape[1] - ddof
    else:
        total = np.sum(w)
        centred = rows - np.expand_dims(np.sum(rows * w, axis=1) / total, 1)
        scaled = centred * w
        norm = total - ddof * (1 if aweights is None else np.sum(w * aweights) / total)
    product = (centred if scaled is None else scaled) @ np.conjugate(np.transpose(centred))
    return np.squeeze(product / norm)


def _variables(m: Any, rowvar: bool) -> Any:
    m = as_tensor(m)
    if m.ndim > 2:
        raise ValueError(f"np.cov takes arrays of at most two axes, got {m.ndim}.")
    transposed = not rowvar and m.ndim == 2
    m = np.atleast_2d(m)
    return np.transpose(m) if transposed else m


def _centred(rows: Any) -> Any:
    return rows - np.mean(rows, axis=1, keepdims=True)


@implements(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = np.cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    deviations = np.sqrt(np.real(np.diagonal(c)))
    # NumPy clips results that rounding put outside [-1, 1]; that would make the derivative 0.
    return c / np.expand_dims(deviations, 1) / np.expand_dims(deviations, 0)


_bincount = Primitive(
    lambda weights, x, *, minlength: np.bincount(x, weights, minlength),
    name="bincount",
    vjp={"weights": lambda g, x, *, minlength: g[x]},  # noqa: ARG005
    jvp={"weights": LINEAR},
)


@implements(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    x = np.asarray(value(x))
    if weights is None:
        return np.bincount(x, minlength=minlength)
    return _bincount(weights, x, minlength=minlength)


@implements(np.unique_values)
def unique_values(x: Any) -> Any:
    return np.ravel(x)[np.unique(x.value, return_index=True, equal_nan=False)[1]]


@implements(np.unique)
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """The distinct values; each passes its gradient to its first occurrence."""
    refuse("np.unique", sorted=None if sorted else sorted)
    _, first, inverse, counts = np.unique(
        ar.value, return_index=True, return_inverse=True, return_counts=True, axis=axis, equal_nan=equal_nan
    )
    values = np.ravel(ar)[first] if axis is None else np.take(ar, first, axis=axis)
    wanted = [(return_index, first), (return_inverse, inverse), (return_counts, counts)]
    chosen = [array for flag, array in wanted if flag]
    return (values, *chosen) if chosen else values


@implements(np.apply_along_axis)
def apply_along_axis(func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    arr = as_tensor(arr)
    moved = np.moveaxis(arr, axis, -1)
    rows = np.reshape(moved, (-1, arr.shape[axis]))
    if not len(rows):
        raise ValueError("np.apply_along_axis needs at least one row to find out the shape of the result.")
    results = np.stack([as_tensor(func1d(row, *args, **kwargs)) for row in rows])
    made = np.reshape(results, (*moved.shape[:-1], *results.shape[1:]))
    place = axis % arr.ndim
    extra = results.ndim - 1
    return np.moveaxis(made, tuple(range(arr.ndim - 1, arr.ndim - 1 + extra)), tuple(range(place, place + extra)))


@implements(np.apply_over_axes)
def apply_over_axes(func: Callable[..., Any], a: Any, axes: Any) -> Any:
    made: Any = as_tensor(a)
    for axis in np.atleast_1d(axes).tolist():
        result = func(made, axis)
        made = np.expand_dims(result, axis) if result.ndim == made.ndim - 1 else result
    return made
