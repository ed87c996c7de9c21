"""Derivatives of the functions that reduce axes by a sum or an extremum: sum, mean, var, std, average, max, min, ptp, trapezoid.

`axis` (None, negative, tuples), `keepdims`, `dtype`, `initial` and `where` are honoured; `out` is refused.
Conventions, the same in both modes:

* If several entries equal the `max` or `min`, they share its gradient evenly.
* The derivative of `std` of a constant is 0 (the subgradient of least norm).

Products are in cumulative.py, functions that skip NaNs in nan_functions.py, order statistics in sorting.py.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import (
    UNSET,
    as_tensor,
    cast,
    conjugate,
    given,
    is_complex,
    kept,
    mask,
    operand,
    refuse,
    value,
)
from allgrad.numpy.dispatch import implements
from allgrad.numpy.roots import rooted
from allgrad.numpy.singular import quotient


def spread(g: Any, axis: Any, keepdims: bool, shape: tuple[int, ...]) -> Any:
    """A reduced array, broadcast to the shape that it was reduced from."""
    g = with_axes(g, axis, keepdims, shape)
    if isinstance(g, Tensor) or count(shape, None) > SMALL:
        return np.broadcast_to(g, shape)
    filled = np.empty(shape, g.dtype)  # five times as fast as np.broadcast_to on small arrays
    filled[...] = g
    return filled


SMALL = 1024


def with_axes(g: Any, axis: Any, keepdims: bool, shape: tuple[int, ...]) -> Any:
    """A reduced array whose reduced axes have length 1."""
    if keepdims or axis is None:
        return g
    axes = {i % len(shape) for i in (axis if isinstance(axis, tuple) else (axis,))}
    return g.reshape([1 if i in axes else n for i, n in enumerate(shape)])


def count(shape: tuple[int, ...], axis: Any) -> int:
    """How many entries of an array of this shape are reduced to one."""
    if axis is None:
        return prod(shape)
    return prod(shape[i] for i in (axis if isinstance(axis, tuple) else (axis,)))


def prepared(name: str, a: Any, dtype: Any, out: Any, where: Any, neutral: Any) -> Any:
    """The array to reduce: cast to `dtype`, with `neutral` where the mask is False."""
    refuse(name, out=out)
    a = as_tensor(a)
    if given(dtype):
        a = np.astype(a, dtype)
    if where is not True and where is not UNSET:
        a = np.where(where, a, np.asarray(neutral, a.dtype))
    return a


# Sums.

_add_up: Any = np.add.reduce

_sum = Primitive(
    lambda x, *, axis, keepdims, shape: _add_up(x, axis=axis, keepdims=keepdims),  # noqa: ARG005
    name="sum",
    vjp={"x": lambda g, *, axis, keepdims, shape: spread(g, axis, keepdims, shape)},
    jvp={"x": LINEAR},
)


@implements(np.sum)
def sum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = UNSET,
    where: Any = True,
) -> Any:
    if dtype is not None or out is not None or where is not True or type(a) is not Tensor:
        a = prepared("np.sum", a, dtype, out, where, 0)
    total = _sum(a, axis=axis, keepdims=kept(keepdims), shape=a.value.shape)
    total = total + initial if given(initial) else total
    return total if dtype is None else cast(total, dtype)  # NumPy's sum of small integers is a large one otherwise


def _mean_value(x: Any, *, axis: Any, keepdims: bool, shape: tuple[int, ...], n: int) -> Any:  # noqa: ARG001
    if x.dtype.char in "fdFD" and n:
        return _add_up(x, axis=axis, keepdims=keepdims) / n  # the same as np.mean, in a third of the time
    return np.mean(x, axis=axis, keepdims=keepdims)


_mean = Primitive(
    _mean_value,
    name="mean",
    vjp={"x": lambda g, *, axis, keepdims, shape, n: spread(g / n, axis, keepdims, shape)},
    jvp={"x": LINEAR},
)


@implements(np.mean)
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    if where is True or where is UNSET:
        if dtype is not None or out is not None or type(a) is not Tensor:
            a = prepared("np.mean", a, dtype, out, True, 0)
        return _mean(a, axis=axis, keepdims=kept(keepdims), shape=a.shape, n=count(a.shape, axis))
    a = as_tensor(a)
    total = np.sum(a, axis, dtype, out, kept(keepdims), where=where)
    return total / counted(a, axis, kept(keepdims), where).astype(total.dtype)


def counted(a: Any, axis: Any, keepdims: bool, where: Any) -> Any:
    """How many entries of `a` the mask selects along the axes."""
    return np.asarray(np.sum(np.broadcast_to(mask(where), a.shape), axis=axis, keepdims=keepdims))


def _squares(x: Any) -> Any:
    return np.real(x * np.conjugate(x)) if is_complex(x) else x * x


def _deviation(x: Any, axis: Any) -> Any:
    return x - np.mean(x, axis=axis, keepdims=True)


# With d = x - mean(x), which sums to zero, d var = 2 Re sum(conj(d) dx) / n. And d std = d var / (2 std); the quotient
# d / std is 0 where both are.


def _per(n: Any) -> float:
    """1 / n; NaN, like the variance itself, if no degrees of freedom are left."""
    return 1 / n if n > 0 else np.nan


def _var_vjp(g: Any, x: Any, *, axis: Any, keepdims: bool, n: Any) -> Any:
    return spread(g * (2 * _per(n)), axis, keepdims, x.shape) * conjugate(_deviation(x, axis))


def _var_jvp(t: Any, x: Any, *, axis: Any, keepdims: bool, n: Any) -> Any:
    return np.sum(np.real(t * conjugate(_deviation(x, axis))), axis=axis, keepdims=keepdims) * (2 * _per(n))


def _std_direction(ans: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    return conjugate(quotient(_deviation(x, axis), spread(ans, axis, keepdims, x.shape)))


def _std_vjp(g: Any, ans: Any, x: Any, *, axis: Any, keepdims: bool, n: Any) -> Any:
    return spread(g * _per(n), axis, keepdims, x.shape) * _std_direction(ans, x, axis, keepdims)


def _std_jvp(t: Any, ans: Any, x: Any, *, axis: Any, keepdims: bool, n: Any) -> Any:
    return np.sum(np.real(t * _std_direction(ans, x, axis, keepdims)), axis=axis, keepdims=keepdims) * _per(n)


_var = Primitive(
    lambda x, *, axis, keepdims, n: np.var(x, axis=axis, ddof=count(x.shape, axis) - n, keepdims=keepdims),
    name="var",
    vjp={"x": _var_vjp},
    jvp={"x": _var_jvp},
)
_std = Primitive(
    lambda x, *, axis, keepdims, n: np.std(x, axis=axis, ddof=count(x.shape, axis) - n, keepdims=keepdims),
    name="std",
    vjp={"x": _std_vjp},
    jvp={"x": _std_jvp},
)


def _spread_function(name: str, primitive: Primitive) -> Any:
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
        a = prepared(f"np.{name}", a, dtype, out, True, 0)
        keepdims = kept(keepdims)
        ddof = correction if given(correction) else ddof
        if where is True and not given(mean):
            result = primitive(a, axis=axis, keepdims=keepdims, n=max(count(a.shape, axis) - ddof, 0))
            return (
                rooted(result, lambda: np.var(a, axis=axis, ddof=ddof, keepdims=keepdims)) if name == "std" else result
            )
        if not given(mean):
            mean = np.mean(a, axis=axis, keepdims=True, where=where)
        total = np.sum(_squares(a - mean), axis=axis, keepdims=keepdims, where=where)
        variance = total / np.maximum(counted(a, axis, keepdims, where) - ddof, 0).astype(total.dtype)
        return np.sqrt(variance) if name == "std" else variance

    rule.__name__ = name
    return rule


implements(np.var)(_spread_function("var", _var))
implements(np.std)(_spread_function("std", _std))


@implements(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    a = as_tensor(a)
    keepdims = kept(keepdims)
    if weights is None:
        result = np.mean(a, axis=axis, keepdims=keepdims)
        total = np.full(result.shape, count(a.shape, axis), result.dtype)
    else:
        weights = _aligned(as_tensor(weights), a, axis)
        total = np.sum(weights, axis=axis, keepdims=keepdims)
        if not np.all(total.value):
            raise ZeroDivisionError("np.average: the weights along the reduced axes sum to zero.")
        result = np.sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (result, total) if returned else result


def _aligned(weights: Any, a: Any, axis: Any) -> Any:
    """Weights broadcast to a's shape; given in that shape, or in the shape of the averaged axes, in the order of `axis`."""
    if weights.shape == a.shape:
        return weights
    axes = tuple(i % a.ndim for i in (axis if isinstance(axis, tuple) else (axis,))) if axis is not None else ()
    if weights.shape != tuple(a.shape[i] for i in axes):
        raise ValueError(
            f"np.average: weights must have a's shape {a.shape} or that of the axes {axis} averaged over; got {weights.shape}."
        )
    weights = np.transpose(weights, np.argsort(axes))
    weights = np.reshape(weights, tuple(n if i in axes else 1 for i, n in enumerate(a.shape)))
    return np.broadcast_to(weights, a.shape)


@implements(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = as_tensor(y)
    if x is None:
        steps = dx
    else:
        x = operand(x)
        steps = np.diff(x) if x.ndim == 1 else np.diff(x, axis=axis)
        if x.ndim == 1:
            steps = np.reshape(steps, (-1,) + (1,) * (-1 - axis if axis < 0 else y.ndim - 1 - axis))
    before: list[Any] = [slice(None)] * y.ndim
    after = list(before)
    before[axis], after[axis] = slice(None, -1), slice(1, None)
    return np.sum(steps * (y[tuple(after)] + y[tuple(before)]) / 2, axis=axis)


# Extrema.


def _shares(ans: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """For each entry, its share of the extremum's gradient: 1 / (number of entries that attain it), or 0."""
    ans, x = (value(v) for v in (ans, x))
    chosen = np.equal(x, with_axes(ans, axis, keepdims, x.shape))
    if axis is None and np.count_nonzero(chosen) == 1:
        return chosen
    attained = np.add.reduce(chosen, axis=axis, keepdims=True, dtype=ans.dtype if ans.dtype.kind == "f" else float)
    if (attained == 1).all():
        return chosen
    if np.isnan(ans).any():  # a NaN does not equal itself, and is the extremum of its row
        chosen = np.logical_or(chosen, np.isnan(x))
        attained = np.add.reduce(chosen, axis=axis, keepdims=True, dtype=attained.dtype)
    return chosen / np.maximum(attained, 1)


_extremum_rules: dict[str, Any] = {
    "vjp": {
        "x": lambda g, ans, x, *, axis, keepdims: (
            with_axes(g, axis, keepdims, x.shape) * _shares(ans, x, axis, keepdims)
        )
    },
    "jvp": {
        "x": lambda t, ans, x, *, axis, keepdims: np.sum(
            t * _shares(ans, x, axis, keepdims), axis=axis, keepdims=keepdims
        )
    },
}


def _worst(dtype: np.dtype[Any], sign: int) -> Any:
    """The smallest number of a dtype for sign = 1, the largest for sign = -1."""
    if dtype.kind in "fc":
        return -sign * np.inf
    if dtype.kind == "b":
        return sign < 0
    return np.iinfo(dtype).min if sign > 0 else np.iinfo(dtype).max


def _extremum(name: str, ufunc: np.ufunc, sign: int) -> Any:
    primitive = Primitive(
        lambda x, *, axis, keepdims: ufunc.reduce(x, axis=axis, keepdims=keepdims), name=name, **_extremum_rules
    )

    def rule(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = UNSET, where: Any = True
    ) -> Any:
        keepdims = kept(keepdims)
        if where is not True and where is not UNSET and not given(initial):
            raise ValueError(f"np.{name} with where= needs initial=, because the mask may select nothing.")
        a = as_tensor(a)
        a = prepared(f"np.{name}", a, None, out, where, _worst(a.dtype, sign))
        if not given(initial):
            return primitive(a, axis=axis, keepdims=keepdims)
        if count(a.shape, axis) == 0:
            shape = np.max(np.empty(a.shape), axis=axis, keepdims=keepdims, initial=0.0).shape
            return np.broadcast_to(as_tensor(initial).astype(a.dtype), shape)
        return ufunc(primitive(a, axis=axis, keepdims=keepdims), initial)

    rule.__name__ = name
    return rule


for _functions, _name, _ufunc, _sign in (
    ((np.max, np.amax), "max", np.maximum, 1),
    ((np.min, np.amin), "min", np.minimum, -1),
):
    implements(*_functions)(_extremum(_name, _ufunc, _sign))


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    refuse("np.ptp", out=out)
    keepdims = kept(keepdims)
    return np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)
