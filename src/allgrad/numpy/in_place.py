"""The functions that write into their first argument: copyto, put, place, putmask, fill_diagonal, put_along_axis and `ufunc.at`.

Each is an item assignment to the Tensor, and so changes its value and derivative and those of its views and aliases, as in
NumPy. A plain array cannot take tracked values, because their gradient would be lost; that raises and says what to write.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.containers import flatten
from allgrad.autodiff.errors import LostGradientError
from allgrad.autodiff.tensor import Tensor, is_tracked
from allgrad.numpy.arguments import axis_of, mask, operand, value
from allgrad.numpy.dispatch import WRITERS, implements
from allgrad.numpy.indexing import add_at, along, index, within

if TYPE_CHECKING:
    from collections.abc import Callable


def writes(function: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a rule for a function that writes into its first argument, which the rule gets as a Tensor."""
    name = f"np.{function.__name__}" if not isinstance(function, tuple) else f"np.{function[0].__name__}.at"
    plain = function if not isinstance(function, tuple) else function[0].at

    def register(rule: Callable[..., None]) -> Callable[..., None]:
        @wraps(rule)
        def checked(target: Any, *args: Any, **keywords: Any) -> None:
            if isinstance(target, Tensor):
                rule(target, *args, **keywords)
                return
            leaves, build = flatten([args, keywords])
            if any(map(is_tracked, leaves)):
                raise LostGradientError(
                    f"{name} into a plain array would lose the gradient of the tracked Tensor that is written. Make the array a "
                    "Tensor first: a = ag.tensor(a), or a = np.zeros_like(t, shape=...)."
                )
            args, keywords = build([value(x) for x in leaves])
            plain(target, *args, **keywords)

        return implements(function)(checked)

    if not isinstance(function, tuple):
        WRITERS.add(function)
    return register


@writes(np.copyto)
def copyto(dst: Tensor, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    src = operand(src)
    if not np.can_cast(src.dtype, dst.dtype, casting):
        raise TypeError(f"np.copyto cannot cast from {src.dtype} to {dst.dtype} by the rule {casting!r}.")
    dst[...] = src if where is True else np.where(mask(where), src, dst)


@writes(np.put)
def put(a: Tensor, ind: Any, v: Any, mode: str = "raise") -> None:
    places = within(ind, a.size, mode).reshape(-1)
    places = np.where(places < 0, places + a.size, places)
    if places.size:
        a[np.unravel_index(places, a.shape)] = np.resize(operand(v), places.size)


@writes(np.place)
def place(arr: Tensor, mask: Any, vals: Any) -> None:
    chosen = np.nonzero(np.reshape(value(mask), arr.shape))
    if chosen[0].size:
        arr[chosen] = np.resize(operand(vals), chosen[0].size)


@writes(np.putmask)
def putmask(a: Tensor, mask: Any, values: Any) -> None:
    chosen = np.nonzero(np.reshape(value(mask), a.shape))
    a[chosen] = np.resize(operand(values), a.shape)[chosen]


@writes(np.fill_diagonal)
def fill_diagonal(a: Tensor, val: Any, wrap: bool = False) -> None:
    places = np.zeros(a.shape, bool)
    np.fill_diagonal(places, True, wrap)
    chosen = np.nonzero(places)
    a[chosen] = np.resize(operand(val), chosen[0].size)


@writes(np.put_along_axis)
def put_along_axis(arr: Tensor, indices: Any, values: Any, axis: int | None = -1) -> None:
    indices = np.asarray(index(indices))
    if axis is None:
        arr[np.unravel_index(indices.reshape(-1), arr.shape)] = values
        return
    axis = axis_of(axis, arr.ndim, "np.put_along_axis")
    arr[along(arr.shape, indices, axis)] = values


def at(ufunc: np.ufunc) -> None:
    """Register `ufunc.at(a, indices, b)`: a[indices] = ufunc(a[indices], b), where a repeated index counts twice."""

    apply: Any = ufunc

    @writes((ufunc, "at"))
    def rule(a: Tensor, indices: Any, *b: Any) -> None:
        key = index(indices)
        places = np.arange(a.size).reshape(a.shape)[key]
        given = [np.broadcast_to(operand(x), places.shape) for x in b]
        if ufunc in (np.add, np.subtract):
            apply(a, add_at(given[0], key=key, shape=a.shape), out=a)
            return
        flat = [np.reshape(x, -1) for x in given]
        for chosen in _rounds(places.reshape(-1)):
            entries = np.unravel_index(places.reshape(-1)[chosen], a.shape)
            a[entries] = apply(a[entries], *[x[chosen] for x in flat])


def _rounds(places: Any) -> list[Any]:
    """Positions in `places`, in rounds in which no place comes twice; the k-th use of a place is in round k."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if places.size else np.zeros(0, int)
    lengths = np.diff(np.append(first, places.size))
    use = np.arange(places.size) - np.repeat(first, lengths)
    return [np.sort(order[use == k]) for k in range(int(lengths.max(initial=0)))]
