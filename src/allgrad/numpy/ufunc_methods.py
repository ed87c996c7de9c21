"""The methods of ufuncs: `np.add.reduce`, `np.multiply.accumulate`, `np.subtract.outer` and the like.

Where NumPy has a function for `reduce` or `accumulate` (sum, prod, max, min, cumsum, cumprod), that one is called.
`logaddexp.reduce` is one log-sum-exp; running maxima pick entries, the first of equal ones. Any other differentiated ufunc of
two arguments is applied entry by entry along the axis, which is right and slow. `at` is in in_place.py.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import NoRuleError
from allgrad.autodiff.tensor import RULES
from allgrad.numpy.arguments import axis_of, given, operand, refuse, value
from allgrad.numpy.dispatch import CONSTANT, implements
from allgrad.numpy.in_place import at

if TYPE_CHECKING:
    from collections.abc import Callable


def _reduce(function: Any, *, casts: bool) -> Callable[..., Any]:
    def reduce(
        array: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = np._NoValue,
        where: Any = True,
    ) -> Any:
        keywords: dict[str, Any] = {"axis": axis, "out": out, "keepdims": keepdims, "initial": initial, "where": where}
        if casts:
            keywords["dtype"] = dtype
        elif dtype is not None:
            array = np.astype(array, dtype)
        return RULES[function](array, **keywords)

    return reduce


def _accumulate(function: Any) -> Callable[..., Any]:
    return lambda array, axis=0, dtype=None, out=None: RULES[function](array, axis=axis, dtype=dtype, out=out)


def _log_sum(exp: Any, log: Any) -> Callable[..., Any]:
    def reduce(
        array: Any,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = np._NoValue,
        where: Any = True,
    ) -> Any:
        refuse("np.logaddexp.reduce", dtype=dtype, out=out)
        array = operand(array) if where is True else np.where(where, array, -np.inf)
        top = np.max(value(array), axis=axis, keepdims=True, initial=-np.inf)
        top = np.where(np.isfinite(top), top, 0)
        with np.errstate(divide="ignore"):
            result = log(np.sum(exp(array - top), axis=axis, keepdims=True)) + top
        result = result if keepdims else np.squeeze(result, axis=axis)
        return np.logaddexp(result, initial) if given(initial) else result

    return reduce


def _running_extremum(ufunc: np.ufunc) -> Callable[..., Any]:
    def accumulate(array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        refuse(f"np.{ufunc.__name__}.accumulate", dtype=dtype, out=out)
        array = operand(array)
        axis = axis_of(axis, array.ndim, f"np.{ufunc.__name__}.accumulate")
        best = np.moveaxis(ufunc.accumulate(value(array), axis), axis, 0)
        changed = np.ones(best.shape, bool)
        changed[1:] = (best[1:] != best[:-1]) & ~(np.isnan(best[1:]) & np.isnan(best[:-1]))
        places = np.arange(len(best)).reshape(-1, *(1,) * (best.ndim - 1))
        first = np.maximum.accumulate(np.where(changed, places, 0), axis=0)
        return np.take_along_axis(array, np.moveaxis(first, 0, axis), axis=axis)

    return accumulate


def _one_by_one(ufunc: np.ufunc) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`reduce` and `accumulate` as loops along the axis."""

    def accumulate(array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        refuse(f"np.{ufunc.__name__}.accumulate", dtype=dtype, out=out)
        rows = np.unstack(operand(array), axis=axis)
        return np.stack(list(itertools.accumulate(rows, ufunc)), axis=axis)

    def reduce(
        array: Any, axis: int = 0, dtype: Any = None, out: Any = None, keepdims: bool = False, **keywords: Any
    ) -> Any:
        refuse(f"np.{ufunc.__name__}.reduce", dtype=dtype, out=out, **keywords)
        if not isinstance(axis, int):
            raise NoRuleError(
                f"np.{ufunc.__name__}.reduce(axis={axis!r}) is not differentiated; reduce one axis at a time."
            )
        result = functools.reduce(ufunc, np.unstack(operand(array), axis=axis))
        return np.expand_dims(result, axis) if keepdims else result

    return reduce, accumulate


def _by_segments(ufunc: np.ufunc) -> Callable[..., Any]:
    def reduceat(array: Any, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        refuse(f"np.{ufunc.__name__}.reduceat", dtype=dtype, out=out)
        rows = np.moveaxis(operand(array), axis, 0)
        starts = np.asarray(value(indices)).tolist()
        pairs = zip(starts, [*starts[1:], rows.shape[0]], strict=True)
        parts = [ufunc.reduce(rows[a:b], axis=0) if a < b else rows[a] for a, b in pairs]
        return np.moveaxis(np.stack(parts), 0, axis)

    return reduceat


def _outer(ufunc: np.ufunc) -> Callable[..., Any]:
    def outer(a: Any, b: Any, /, **keywords: Any) -> Any:
        a, b = operand(a), operand(b)
        return ufunc(np.reshape(a, a.shape + (1,) * b.ndim), b, **keywords)

    return outer


implements((np.add, "reduce"))(_reduce(np.sum, casts=True))
implements((np.multiply, "reduce"))(_reduce(np.prod, casts=True))
implements((np.maximum, "reduce"))(_reduce(np.max, casts=False))
implements((np.minimum, "reduce"))(_reduce(np.min, casts=False))
implements((np.logaddexp, "reduce"))(_log_sum(np.exp, np.log))
implements((np.logaddexp2, "reduce"))(_log_sum(np.exp2, np.log2))
for _extremum in (np.maximum, np.minimum, np.fmax, np.fmin):
    implements((_extremum, "accumulate"))(_running_extremum(_extremum))
implements((np.add, "accumulate"))(_accumulate(np.cumsum))
implements((np.multiply, "accumulate"))(_accumulate(np.cumprod))

for _function in [f for f in RULES if isinstance(f, np.ufunc) and f not in CONSTANT and f.signature is None]:
    at(_function)
    if _function.nin == 2 and _function.nout == 1:
        implements((_function, "reduceat"))(_by_segments(_function))
        for _method, _rule in zip(("reduce", "accumulate"), _one_by_one(_function), strict=True):
            if (_function, _method) not in RULES:
                implements((_function, _method))(_rule)
        implements((_function, "outer"))(_outer(_function))
