"""Derivatives of the functions that skip NaNs.

Each replaces NaNs by a neutral value and calls the function of the same name without "nan". The derivative by an entry that is
NaN is 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.numpy.arguments import UNSET, as_tensor, given, kept, mask, refuse
from allgrad.numpy.dispatch import implements
from allgrad.numpy.reductions import counted


def _numbers(a: Any, where: Any = True) -> np.ndarray[Any, Any]:
    """Where `a` is not NaN, and `where` is true."""
    present: np.ndarray[Any, Any] = np.logical_not(np.isnan(a.value))
    return present if where is True or where is UNSET else present & mask(where)


def _filled(a: Any, value: Any) -> Any:
    if a.dtype.kind not in "fc":
        return a
    return np.where(_numbers(a), a, np.asarray(value, a.dtype))


def _nan_where(missing: Any, result: Any) -> Any:
    return np.where(missing, np.asarray(np.nan, result.dtype), result) if np.any(missing) else result


def _reduction(name: str, function: Any, neutral: float) -> Any:
    def rule(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = UNSET,
        where: Any = True,
    ) -> Any:
        refuse(f"np.{name}", out=out)
        filled = _filled(as_tensor(a), neutral)
        return function(filled, axis=axis, dtype=dtype, keepdims=kept(keepdims), initial=initial, where=where)

    rule.__name__ = name
    return rule


@implements(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    a = as_tensor(a)
    return np.mean(_filled(a, 0), axis, dtype, out, keepdims, where=_numbers(a, where))


def _spread_function(name: str, function: Any) -> Any:
    def rule(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: Any = 0,
        keepdims: Any = False,
        *,
        where: Any = True,
        mean: Any = UNSET,
        correction: Any = UNSET,
    ) -> Any:
        a = as_tensor(a)
        present, ddof, keepdims = _numbers(a, where), correction if given(correction) else ddof, kept(keepdims)
        result = function(_filled(a, 0), axis, dtype, out, ddof, keepdims, where=present, mean=mean)
        return _nan_where(counted(a, axis, keepdims, present) <= ddof, result)

    rule.__name__ = name
    return rule


def _running(name: str, function: Any, neutral: float) -> Any:
    def rule(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        refuse(f"np.{name}", out=out)
        return function(_filled(as_tensor(a), neutral), axis=axis, dtype=dtype)

    rule.__name__ = name
    return rule


def _extremum(name: str, function: Any, worst: float) -> Any:
    def rule(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = UNSET, where: Any = True
    ) -> Any:
        refuse(f"np.{name}", out=out)
        a = as_tensor(a)
        keepdims = kept(keepdims)
        result = function(_filled(a, worst), axis=axis, keepdims=keepdims, initial=initial, where=where)
        if given(initial):
            return result
        return _nan_where(np.logical_not(np.any(_numbers(a), axis=axis, keepdims=keepdims)), result)

    rule.__name__ = name
    return rule


implements(np.nansum)(_reduction("nansum", np.sum, 0))
implements(np.nanprod)(_reduction("nanprod", np.prod, 1))
implements(np.nanvar)(_spread_function("nanvar", np.var))
implements(np.nanstd)(_spread_function("nanstd", np.std))
implements(np.nanmax)(_extremum("nanmax", np.max, -np.inf))
implements(np.nanmin)(_extremum("nanmin", np.min, np.inf))
implements(np.nancumsum)(_running("nancumsum", np.cumsum, 0))
implements(np.nancumprod)(_running("nancumprod", np.cumprod, 1))
