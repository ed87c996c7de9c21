"""Derivatives of products, and of running sums and products.

A product has a gradient even where some of its factors are zero: the derivative by one factor is the product of the others.
If no factor is zero, that takes one division. Otherwise it is multiplied out:

    prod:     (product of all before) * (product of all after), from two exclusive running products;
    cumprod:  y_k = x_1 ... x_k; the cotangent of x_i is P_i S_i with P_i = x_1 ... x_(i-1) and S_i = g_i + x_(i+1) S_(i+1);
              the tangent of y_k is T_k = T_(k-1) x_k + P_k t_k.

Both use differentiated functions only, so second derivatives exist at zeros too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.primitive import LINEAR, Primitive
from allgrad.numpy.arguments import UNSET, as_tensor, cast, given, kept, refuse, value
from allgrad.numpy.dispatch import implements
from allgrad.numpy.reductions import prepared, spread


def _no_zeros(x: Any) -> bool:
    return bool(np.all(value(x)))


# Products.


def _others(x: Any, ans: Any, axis: Any, keepdims: bool) -> Any:
    """For each entry, the product of the other factors."""
    if _no_zeros(x):
        return spread(ans, axis, keepdims, x.shape) / x
    axes = tuple(range(x.ndim)) if axis is None else tuple(i % x.ndim for i in np.atleast_1d(axis))
    last = tuple(range(x.ndim - len(axes), x.ndim))
    moved = np.moveaxis(x, axes, last)
    flat = np.reshape(moved, (*moved.shape[: x.ndim - len(axes)], -1))
    before = _exclusive(flat)
    after = np.flip(_exclusive(np.flip(flat, -1)), -1)
    return np.moveaxis(np.reshape(before * after, moved.shape), last, axes)


def _exclusive(x: Any) -> Any:
    """For each entry, the product of the entries before it along the last axis."""
    ones = np.ones((*x.shape[:-1], 1), x.dtype)
    return np.concatenate([ones, np.cumprod(x[..., :-1], axis=-1)], axis=-1)


_prod = Primitive(
    lambda x, *, axis, keepdims: np.multiply.reduce(x, axis=axis, keepdims=keepdims),
    name="prod",
    vjp={
        "x": lambda g, ans, x, *, axis, keepdims: spread(g, axis, keepdims, x.shape) * _others(x, ans, axis, keepdims)
    },
    jvp={
        "x": lambda t, ans, x, *, axis, keepdims: np.sum(
            t * _others(x, ans, axis, keepdims), axis=axis, keepdims=keepdims
        )
    },
)


@implements(np.prod)
def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = UNSET,
    where: Any = True,
) -> Any:
    a = prepared("np.prod", a, dtype, out, where, 1)
    result = _prod(a, axis=axis, keepdims=kept(keepdims))
    result = result * initial if given(initial) else result
    return result if dtype is None else cast(result, dtype)


# Running sums.


def _flip(x: Any, axis: int) -> Any:
    axis %= x.ndim
    return x[(slice(None),) * axis + (slice(None, None, -1),)]


_cumsum = Primitive(
    lambda x, *, axis: np.cumsum(x, axis=axis),
    name="cumsum",
    vjp={"x": lambda g, *, axis: _flip(np.cumsum(_flip(g, axis), axis=axis), axis)},
    jvp={"x": LINEAR},
)


# Running products.


def _cumprod_vjp(g: Any, ans: Any, x: Any, *, axis: int) -> Any:
    if _no_zeros(x):
        return _flip(np.cumsum(_flip(g * ans, axis), axis=axis), axis) / x
    g, x, ans = (np.moveaxis(v, axis, 0) for v in (g, x, ans))
    s = g[-1]
    rows = []
    for i in range(len(x) - 1, 0, -1):
        rows.append(ans[i - 1] * s)
        s = g[i - 1] + x[i] * s
    return np.moveaxis(np.stack([s, *rows[::-1]]), 0, axis)


def _cumprod_jvp(t: Any, ans: Any, x: Any, *, axis: int) -> Any:
    if _no_zeros(x):
        return ans * np.cumsum(t / x, axis=axis)
    t, x, ans = (np.moveaxis(v, axis, 0) for v in (t, x, ans))
    rows = [t[0]]
    for k in range(1, len(x)):
        rows.append(rows[-1] * x[k] + ans[k - 1] * t[k])
    return np.moveaxis(np.stack(rows), 0, axis)


_cumprod = Primitive(
    lambda x, *, axis: np.cumprod(x, axis=axis), name="cumprod", vjp={"x": _cumprod_vjp}, jvp={"x": _cumprod_jvp}
)


def _running(name: str, primitive: Primitive) -> Any:
    def rule(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        a = prepared(f"np.{name}", a, dtype, out, True, 0)
        if axis is None:
            a, axis = np.ravel(a), 0
        elif a.ndim == 0:
            a = np.reshape(a, (1,))
        result = primitive(a, axis=int(axis))
        return result if dtype is None else cast(result, dtype)

    rule.__name__ = name
    return rule


def _running_of_the_standard(name: str, function: Any, start: int) -> Any:
    """The array API's form: axis is required unless x has one axis, and the result may include the initial value."""

    def rule(x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False) -> Any:
        refuse(f"np.{name}", out=out)
        x = np.atleast_1d(as_tensor(x))
        if axis is None and x.ndim != 1:
            raise ValueError(f"np.{name} needs axis= for an array of {x.ndim} axes.")
        axis = 0 if axis is None else axis
        result = function(x, axis=axis, dtype=dtype)
        if not include_initial:
            return result
        shape = list(result.shape)
        shape[axis] = 1
        return np.concatenate([np.full(shape, start, result.dtype), result], axis=axis)

    rule.__name__ = name
    return rule


implements(np.cumsum)(_running("cumsum", _cumsum))
implements(np.cumprod)(_running("cumprod", _cumprod))
implements(np.cumulative_sum)(_running_of_the_standard("cumulative_sum", np.cumsum, 0))
implements(np.cumulative_prod)(_running_of_the_standard("cumulative_prod", np.cumprod, 1))
