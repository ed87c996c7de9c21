"""Derivatives of the functions that join arrays and split them, and of differences of neighbours.

There is one primitive, concatenate; its transpose cuts the cotangent at the seams. The rest is composed of it, of slices and of
arithmetic. Lists of Tensors reach these functions because NumPy looks for Tensors inside the sequences that they take.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from allgrad.autodiff.primitive import JOINTLY_LINEAR, Primitive
from allgrad.numpy.arguments import axis_of, cast, operand, refuse
from allgrad.numpy.dispatch import implements


def _cut(g: Any, *, axis: int, seams: tuple[int, ...], needs: tuple[bool, ...]) -> list[Any]:
    before = (slice(None),) * axis
    return [
        g[(*before, slice(start, stop))] if need else None
        for need, (start, stop) in zip(needs, pairwise(seams), strict=True)
    ]


_concatenate = Primitive(
    lambda *arrays, axis, seams: np.concatenate(arrays, axis),  # noqa: ARG005
    name="concatenate",
    arguments=(),
    joint=_cut,
    jvp=JOINTLY_LINEAR,
)


@implements(np.concatenate)
def concatenate(
    arrays: Any, /, axis: int | None = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:  # fmt: skip
    if out is not None or casting != "same_kind":
        refuse("np.concatenate", out=out, casting=None if casting == "same_kind" else casting)
    parts: list[Any] = [operand(x) for x in arrays]
    if dtype is not None:
        parts = [np.astype(x, dtype) for x in parts]
    if axis is None:
        parts, axis = [np.ravel(x) for x in parts], 0
    if not parts or parts[0].ndim == 0:
        raise ValueError(
            "np.concatenate needs at least one array, and arrays with at least one axis; np.stack makes one."
        )
    axis = axis_of(axis, parts[0].ndim, "np.concatenate")
    seams = tuple(accumulate((x.shape[axis] if x.ndim > axis else 0 for x in parts), initial=0))
    return _concatenate(*parts, axis=axis, seams=seams)


@implements(np.stack)
def stack(
    arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:  # fmt: skip
    parts: list[Any] = [operand(x) for x in arrays]
    if len({x.shape for x in parts}) > 1:
        raise ValueError(f"np.stack needs arrays of one shape, got {[x.shape for x in parts]}.")
    axis = axis_of(axis, parts[0].ndim + 1, "np.stack")
    spread: list[Any] = [np.expand_dims(x, axis) for x in parts]
    return concatenate(spread, axis, out, dtype=dtype, casting=casting)


@implements(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts: list[Any] = [np.atleast_2d(operand(x)) for x in tup]
    return concatenate(parts, 0, dtype=dtype, casting=casting)


@implements(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts: list[Any] = [np.atleast_1d(operand(x)) for x in tup]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1, dtype=dtype, casting=casting)


@implements(np.dstack)
def dstack(tup: Any) -> Any:
    return np.concatenate([np.atleast_3d(operand(x)) for x in tup], 2)


@implements(np.column_stack)
def column_stack(tup: Any) -> Any:
    parts: list[Any] = [operand(x) for x in tup]
    return np.concatenate([x if x.ndim > 1 else np.reshape(x, (-1, 1)) for x in parts], 1)


@implements(np.block)
def block(arrays: Any) -> Any:
    def depth(x: Any) -> int:
        return 1 + max(depth(y) for y in x) if isinstance(x, list) else 0

    def leaves(x: Any) -> list[Any]:
        return [leaf for y in x for leaf in leaves(y)] if isinstance(x, list) else [operand(x)]

    levels = depth(arrays)
    ndim = max([levels, *(x.ndim for x in leaves(arrays))])

    def build(x: Any, level: int) -> Any:
        if not isinstance(x, list):
            x = operand(x)
            return np.reshape(x, (1,) * (ndim - x.ndim) + x.shape)
        return np.concatenate([build(y, level - 1) for y in x], -level)

    return build(arrays, levels)


@implements(np.append)
def append(arr: Any, values: Any, axis: int | None = None) -> Any:
    return np.concatenate([operand(arr), operand(values)], axis)


# Taking apart.


def _pieces(ary: Any, places: list[Any], axis: int) -> list[Any]:
    """The slices of `ary` along an axis: one for each array of consecutive positions in `places`."""
    before = (slice(None),) * axis
    return [ary[(*before, slice(int(p[0]), int(p[-1]) + 1) if len(p) else slice(0, 0))] for p in places]


@implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    axis = axis_of(axis, ary.ndim, "np.array_split")
    return _pieces(ary, np.array_split(np.arange(ary.shape[axis]), indices_or_sections), axis)


@implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    axis = axis_of(axis, ary.ndim, "np.split")
    return _pieces(ary, np.split(np.arange(ary.shape[axis]), indices_or_sections), axis)


@implements(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> Any:
    return np.split(ary, indices_or_sections, 1 if ary.ndim > 1 else 0)


@implements(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> Any:
    return np.split(ary, indices_or_sections, 0 if ary.ndim > 1 else 2)  # axis 2 raises: two axes are needed


@implements(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> Any:
    return np.split(ary, indices_or_sections, 2)


@implements(np.unstack)
def unstack(x: Any, /, *, axis: int = 0) -> Any:
    before = (slice(None),) * axis_of(axis, x.ndim, "np.unstack")
    return tuple(x[(*before, i)] for i in range(x.shape[axis]))


@implements(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:  # noqa: ARG001
    if indexing not in ("xy", "ij"):
        raise ValueError(f"np.meshgrid: indexing is 'xy' or 'ij', got {indexing!r}.")
    vectors = [np.ravel(operand(x)) for x in xi]
    places = list(range(len(vectors)))
    if indexing == "xy" and len(places) > 1:
        places[:2] = [1, 0]
    grid = [
        np.reshape(v, [-1 if i == p else 1 for i in range(len(vectors))]) for v, p in zip(vectors, places, strict=True)
    ]
    return tuple(grid) if sparse else tuple(np.broadcast_arrays(*grid))


# Differences of neighbours.


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n < 0:
        raise ValueError(f"np.diff: the order must be at least 0, got {n}.")
    a = operand(a)
    axis = axis_of(axis, a.ndim, "np.diff")
    shape = (*a.shape[:axis], 1, *a.shape[axis + 1 :])
    ends = [None if x is None or x is np._NoValue else operand(x) for x in (prepend, append)]
    ends = [x if x is None or x.ndim else np.broadcast_to(x, shape) for x in ends]
    if any(x is not None for x in ends):
        a = np.concatenate([x for x in (ends[0], a, ends[1]) if x is not None], axis)
    before = (slice(None),) * axis
    for _ in range(n):
        a = a[(*before, slice(1, None))] - a[(*before, slice(None, -1))]
    return a


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    flat = np.ravel(operand(ary))
    inner = flat[1:] - flat[:-1]
    parts: list[Any] = [None if x is None else np.ravel(np.astype(operand(x), inner.dtype)) for x in (to_begin, to_end)]
    return np.concatenate([x for x in (parts[0], inner, parts[1]) if x is not None])


@implements(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Second-order central differences inside, one-sided ones of order `edge_order` at the ends; also by the spacings."""
    f = _floating(operand(f))
    axes = tuple(range(f.ndim)) if axis is None else tuple(
        axis_of(i, f.ndim, "np.gradient") for i in (axis if isinstance(axis, (tuple, list)) else (axis,))
    )  # fmt: skip
    if len(varargs) not in (0, 1, len(axes)) or (len(varargs) == 1 and np.ndim(varargs[0]) and len(axes) != 1):
        raise TypeError(f"np.gradient takes no spacing, one number, or one spacing for each of {len(axes)} axes.")
    spacings = varargs if len(varargs) == len(axes) else (varargs or (1.0,)) * len(axes)
    if edge_order not in (1, 2):
        raise ValueError(f"np.gradient: edge_order is 1 or 2, got {edge_order!r}.")
    results = [_along(np.moveaxis(f, i, 0), h, edge_order, i) for i, h in zip(axes, spacings, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _floating(x: Any) -> Any:
    """Integers as float64, as NumPy does: products of large spacings overflow in integers."""
    return x.astype(float) if hasattr(x, "dtype") and x.dtype.kind in "iub" else x


def _along(f: Any, h: Any, edge_order: int, axis: int) -> Any:
    n = f.shape[0]
    if n < edge_order + 1:
        raise ValueError(
            f"np.gradient needs at least {edge_order + 1} entries along an axis, got {n} along axis {axis}."
        )
    if np.ndim(h) == 0:
        h = _floating(h)
        steps = [h] * 2 + [h] * 2
        inside = (f[2:] - f[:-2]) / (2.0 * h)
    else:
        d = _floating(np.diff(operand(h)))
        if d.shape != (n - 1,):
            raise ValueError(f"np.gradient: {d.shape[0] + 1} coordinates for {n} entries along axis {axis}.")
        steps = [d[0], d[1 % (n - 1)], d[-1], d[-1 - 1 % (n - 1)]]
        a, b = (np.reshape(x, (-1, *(1,) * (f.ndim - 1))) for x in (d[:-1], d[1:]))
        inside = (a**2 * f[2:] + (b**2 - a**2) * f[1:-1] - b**2 * f[:-2]) / (a * b * (a + b))
    if edge_order == 1:
        first, last = (f[1] - f[0]) / steps[0], (f[-1] - f[-2]) / steps[2]
    else:
        first, last = _one_sided(f[0], f[1], f[2], *steps[:2]), -_one_sided(f[-1], f[-2], f[-3], *steps[2:])
    return np.moveaxis(cast(np.concatenate([first[None], inside, last[None]]), f.dtype), 0, axis)


def _one_sided(f0: Any, f1: Any, f2: Any, a: Any, b: Any) -> Any:
    """The derivative at f0 of the parabola through f0, f1 at distance a, and f2 at distance a + b."""
    return (-(2 * a + b) / (a * (a + b))) * f0 + ((a + b) / (a * b)) * f1 - (a / (b * (a + b))) * f2
