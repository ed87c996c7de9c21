"""Picking entries and putting them back: x[key], its transpose, and x[key] = v as a function.

The transpose of x[key] *adds* the cotangent into an array of zeros at key, so an entry that was picked twice gets both
contributions. `accumulate` takes the fastest method that is correct for the key:

* Basic keys (slices, integers, None, ...) and boolean masks pick no entry twice: an assignment.
* Integers along one axis (rows of a table): the rows are sorted by target, and runs of equal targets are summed by
  np.add.reduceat. That is 2 to 14 times as fast as np.add.at (8192 rows of 64 in a table of 1000: 4.5 against 9.6 ms; 2048 rows
  of 128 in a table of 100: 0.46 against 6.3 ms).
* Any other key picks single entries: np.add.at, which NumPy 2 made fast for those.

`put(x, v, key)` is NumPy's x.copy() followed by x[key] = v, differentiable by both. If key names an entry twice, the last value
stays, and only that one gets a cotangent. Integer arrays in keys are copied, so writing to them later changes no gradient.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from allgrad.autodiff.errors import LostGradientError
from allgrad.autodiff.primitive import JOINTLY_LINEAR, LINEAR, Primitive
from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import axis_of, common, operand, refuse
from allgrad.numpy.dispatch import implements

_BASIC = (int, slice, type(Ellipsis), type(None), np.integer)


def _is_basic(key: Any) -> bool:
    if type(key) is tuple:
        return all(isinstance(k, _BASIC) and not isinstance(k, (bool, np.bool_)) for k in key)
    return isinstance(key, _BASIC) and not isinstance(key, (bool, np.bool_))


def index(key: Any) -> Any:
    """The key without Tensors, and with copies of its arrays."""
    if isinstance(key, tuple):
        return tuple(index(list(k) if isinstance(k, tuple) else k) for k in key)
    if isinstance(key, slice):
        return slice(*(index(k) for k in (key.start, key.stop, key.step)))
    if isinstance(key, Tensor):
        if key.dtype.kind == "f":
            raise IndexError(f"A Tensor that is used as an index must be of integers or booleans, got {key.dtype}.")
        return key.value if key.ndim else operator.index(key.value) if key.dtype.kind in "iu" else bool(key.value)
    if isinstance(key, (np.ndarray, list)):
        found = np.array(key)
        return found if found.size else found.astype(np.intp)
    return key


def accumulate(g: Any, key: Any, shape: tuple[int, ...], into: Any = None) -> Any:
    """Zeros of `shape` with g added at key; written to `into` if that is given and has g's dtype."""
    if into is not None and into.dtype == g.dtype:
        out = into
        out[...] = 0
    else:
        out = np.zeros(shape, g.dtype)
    arrays = [k for k in (key if isinstance(key, tuple) else (key,)) if isinstance(k, (np.ndarray, bool, np.bool_))]
    if not arrays or all(np.asarray(a).dtype == bool for a in arrays):
        out[key] = g
    elif (axis := _single_axis(key)) is not None and math.prod(shape[:axis] + shape[axis + 1 :]) > 1:
        rows = key[-1] if isinstance(key, tuple) else key
        moved = np.moveaxis(out, axis, 0)
        _add_rows(moved, rows.reshape(-1), np.reshape(_to_front(g, axis, rows.ndim), (rows.size, *moved.shape[1:])))
    else:
        np.add.at(out, key, g)
    return out


def _single_axis(key: Any) -> int | None:
    """The axis along which the key picks integers, if the key has the form (:, ..., :, integers)."""
    if isinstance(key, np.ndarray):
        return 0
    leading = all(isinstance(k, slice) and k == slice(None) for k in key[:-1])
    return len(key) - 1 if leading and isinstance(key[-1], np.ndarray) else None


def _to_front(g: Any, axis: int, count: int) -> Any:
    return np.moveaxis(g, range(axis, axis + count), range(count)) if axis else g


def _add_rows(out: Any, rows: Any, g: Any) -> None:
    if not rows.size:
        return
    rows = rows.astype(np.intp, copy=False)  # in uint8, 256 rows cannot be counted
    rows = np.where(rows < 0, rows + len(out), rows)
    order = np.argsort(rows, kind="stable")
    targets = rows[order]
    starts = np.flatnonzero(np.concatenate(([True], targets[1:] != targets[:-1])))
    if len(starts) == len(rows):
        out[rows] = g
    else:
        out[targets[starts]] = np.add.reduceat(g[order], starts, axis=0)


add_at = Primitive(
    lambda x, *, key, shape: accumulate(x, key, shape),
    name="add_at",
    vjp={"x": lambda g, *, key: g[key]},
    jvp={"x": LINEAR},
)


def _pick_vjp(g: Any, *, key: Any, shape: tuple[int, ...], into: Any) -> Any:
    if isinstance(g, Tensor):
        return add_at(g, key=key, shape=shape)
    return accumulate(g, key, shape, into)


def _pick(x: Any, *, key: Any, shape: tuple[int, ...]) -> Any:  # noqa: ARG001
    return x[key]


_view = Primitive(_pick, name="getitem", vjp={"x": _pick_vjp}, jvp={"x": LINEAR}, views=True)
_gather = Primitive(_pick, name="getitem", vjp={"x": _pick_vjp}, jvp={"x": LINEAR})


@implements("getitem")
def getitem(x: Any, key: Any) -> Any:
    """x[key] for a Tensor x and any key that NumPy takes; integer Tensors in the key count as arrays."""
    if _is_basic(key):
        return _view(x, key=key, shape=x.shape)
    key = index(key)
    return (_view if _is_basic(key) else _gather)(x, key=key, shape=x.shape)


def _put(x: Any, v: Any, *, key: Any) -> Any:
    out = np.array(x)
    out[key] = v
    return out


def _put_v(g: Any, *, key: Any) -> Any:
    picked = g[key]
    if _is_basic(key):
        return picked
    writers = np.zeros(g.shape, np.intp)
    order = np.arange(1, picked.size + 1).reshape(picked.shape)
    writers[key] = order
    lasting = writers[key] == order
    return picked if lasting.all() else np.where(lasting, picked, np.zeros((), g.dtype))


put: Primitive = Primitive(
    _put,
    name="setitem",
    vjp={"x": lambda g, *, key: put(g, np.zeros((), g.dtype), key=key), "v": _put_v},
    jvp=JOINTLY_LINEAR,
)


@implements("setitem")
def setitem(x: Any, key: Any, value: Any) -> Any:
    """A copy of x with its items at key replaced, differentiable in x and value."""
    if isinstance(value, (list, tuple)):
        value = np.asarray(value)
    tracked = isinstance(value, Tensor) and (value.node is not None or value.tangents is not None)
    if tracked and x.dtype.kind not in "fc":
        raise LostGradientError(
            f"x[i] = v with x of {x.dtype} and v tracked would drop the gradient of v. "
            f"Make x floating first (x = x.astype({value.dtype})), or write v.detach()."
        )
    made = put(x, value, key=key if _is_basic(key) else index(key))
    return made if isinstance(made, Tensor) else Tensor(made)


# Functions that pick.


@implements(np.take)
def take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Any:
    refuse("np.take", out=out)
    if axis is None:
        a, axis = np.ravel(a), 0
    axis = axis_of(axis, a.ndim, "np.take")
    return a[(slice(None),) * axis + (within(indices, a.shape[axis], mode),)]


def within(indices: Any, n: int, mode: str) -> Any:
    """Integer indices, treated by NumPy's mode for indices that are out of bounds."""
    indices = np.asarray(index(indices))
    if indices.dtype == bool:
        indices = indices.astype(np.intp)
    if mode == "wrap":
        return indices % n
    if mode == "clip":
        return np.clip(indices, 0, n - 1)
    if mode != "raise":
        raise ValueError(f"The mode for indices out of bounds is 'raise', 'wrap' or 'clip', got {mode!r}.")
    return indices


def along(shape: tuple[int, ...], indices: Any, axis: int) -> tuple[Any, ...]:
    """The key that picks `indices` along one axis, separately for each entry of the other axes."""
    ndim = len(shape)
    key = [np.arange(n).reshape([-1 if i == k else 1 for k in range(ndim)]) for i, n in enumerate(shape)]
    key[axis] = indices
    return tuple(key)


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Any:
    indices = index(indices)
    if axis is None:
        return np.ravel(arr)[np.asarray(indices).reshape(-1)]
    axis = axis_of(axis, arr.ndim, "np.take_along_axis")
    if indices.ndim != arr.ndim:
        raise ValueError(
            f"np.take_along_axis: indices must have as many axes as the array, {arr.ndim}, got {indices.ndim}."
        )
    return arr[along(arr.shape, indices, axis)]


@implements(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    refuse("np.choose", out=out)
    choices = choices if isinstance(choices, Tensor) else np.stack(np.broadcast_arrays(*common(*choices)))
    which = within(a, choices.shape[0], mode)
    shape = np.broadcast_shapes(which.shape, choices.shape[1:])
    n, *rest = choices.shape
    spread = np.broadcast_to(np.reshape(choices, (n, *(1,) * (len(shape) - len(rest)), *rest)), (n, *shape))
    return spread[(np.broadcast_to(which, shape), *np.indices(shape, sparse=True))]


@implements(np.compress)
def compress(condition: Any, a: Any, axis: int | None = None, out: Any = None) -> Any:
    refuse("np.compress", out=out)
    return np.take(a, np.flatnonzero(index(condition)), axis)


@implements(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    return np.ravel(arr)[np.flatnonzero(index(condition))]


# Diagonals and triangles.


_diagonal = Primitive(
    lambda x, *, offset, axes, shape: np.diagonal(x, offset, *axes),  # noqa: ARG005
    name="diagonal",
    vjp={"x": lambda g, *, offset, axes, shape: _on_diagonal(g, offset=offset, axes=axes, shape=shape)},
    jvp={"x": LINEAR},
    views=True,
)


def _write_diagonal(x: Any, *, offset: int, axes: tuple[int, int], shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, x.dtype)
    below, right = max(-offset, 0), max(offset, 0)
    ends = np.moveaxis(out, axes, (-2, -1))
    i = np.arange(x.shape[-1])
    ends[..., i + below, i + right] = x
    return out


_on_diagonal: Primitive = Primitive(
    _write_diagonal,
    name="on_diagonal",
    vjp={"x": lambda g, *, offset, axes: np.diagonal(g, offset, *axes)},
    jvp={"x": LINEAR},
)


@implements(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    axes = (axis_of(axis1, a.ndim, "np.diagonal"), axis_of(axis2, a.ndim, "np.diagonal"))
    return _diagonal(a, offset=operator.index(offset), axes=axes, shape=a.shape)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    if v.ndim == 1:
        n = v.shape[0] + abs(k)
        return _on_diagonal(v, offset=operator.index(k), axes=(0, 1), shape=(n, n))
    if v.ndim != 2:
        raise ValueError(f"np.diag takes one or two dimensions, got shape {v.shape}.")
    return np.diagonal(v, k)


@implements(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    return np.diag(np.ravel(v), k)


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    return np.where(np.tri(*_ends(m), k=k, dtype=bool), m, np.zeros((), m.dtype))


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    return np.where(np.tri(*_ends(m), k=k - 1, dtype=bool), np.zeros((), m.dtype), m)


def _ends(m: Any) -> tuple[int, int]:
    return (m.shape[-2], m.shape[-1]) if m.ndim > 1 else (m.shape[0], m.shape[0])


# Copies with entries removed or inserted: picks from the old and the new entries together.


@implements(np.delete)
def delete(arr: Any, obj: Any, axis: int | None = None) -> Any:
    if axis is None:
        arr, axis = np.ravel(arr), 0
    left = np.delete(np.arange(arr.shape[axis]), index(obj))
    return np.take(arr, left, axis)


@implements(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    if axis is None:
        arr, axis = np.ravel(arr), 0
    arr = operand(arr)
    values = operand(values)
    axis = axis_of(axis, arr.ndim, "np.insert")
    obj, n = index(obj), arr.shape[axis]
    values = np.reshape(values, (1,) * (arr.ndim - values.ndim) + values.shape)
    if isinstance(obj, slice) or np.ndim(
        obj
    ):  # for a single number, the first axis of `values` is already the inserted one
        values = np.moveaxis(values, axis, 0)
    count = len(np.insert(np.arange(n), obj, 0)) - n
    count = values.shape[0] if count == 1 else count
    order = np.insert(np.arange(n), obj, np.arange(n, n + count))
    rest = np.moveaxis(arr, axis, 0)
    new = np.astype(np.broadcast_to(values, (count, *rest.shape[1:])), arr.dtype)
    return np.moveaxis(np.concatenate([rest, new])[order], 0, axis)
