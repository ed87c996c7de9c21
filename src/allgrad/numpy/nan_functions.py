"""Derivatives of the functions that skip NaNs: each replaces them by what does not count and calls the function of the same
name without "nan". An entry that is NaN has derivative 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.numpy.arguments import UNSET, as_tensor, given, kept, mask, refuse
from allgrad.numpy.dispatch import implements


def _numbers(a: Any, where: Any = True) -> np.ndarray[Any, Any]:
    """Where `a` is a number that counts."""
    present: np.ndarray[Any, Any] = np.logical_not(np.isnan(a.value))
    return present if where is True or where is UNSET else present & mask(where)


def _filled(a: Any, value: Any) -> Any:
    if a.dtype.kind not in "fc":
        return a
    return np.where(_numbers(a), a, np.asarray(value, a.dtype))


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


def _mean_like(name: str, function: Any) -> Any:
    def rule(
        a: Any, axis: Any = None, dtype: Any = None, out: Any = None, *args: Any, where: Any = True, **keywords: Any
    ) -> Any:
        refuse(f"np.{name}", out=out)
        a = as_tensor(a)
        filled = _filled(a, 0)
        return function(filled, axis, dtype, None, *args, where=_numbers(a, where), **keywords)

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
        keywords = {"initial": initial, "where": where} if given(initial) else {}
        result = function(_filled(a, worst), axis=axis, keepdims=keepdims, **keywords)
        if given(initial):
            return result
        empty = np.logical_not(np.any(_numbers(a), axis=axis, keepdims=keepdims))
        return np.where(empty, np.asarray(np.nan, a.dtype), result) if np.any(empty) else result

    rule.__name__ = name
    return rule


implements(np.nansum)(_reduction("nansum", np.sum, 0))
implements(np.nanprod)(_reduction("nanprod", np.prod, 1))
implements(np.nanmean)(_mean_like("nanmean", np.mean))
implements(np.nanvar)(_mean_like("nanvar", np.var))
implements(np.nanstd)(_mean_like("nanstd", np.std))
implements(np.nanmax)(_extremum("nanmax", np.max, -np.inf))
implements(np.nanmin)(_extremum("nanmin", np.min, np.inf))
implements(np.nancumsum)(_running("nancumsum", np.cumsum, 0))
implements(np.nancumprod)(_running("nancumprod", np.cumprod, 1))
