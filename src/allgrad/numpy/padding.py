"""np.pad in every mode.

In the modes that copy entries (edge, reflect, symmetric, wrap), padding the *positions* 0 ... n-1 along an axis in the same way
tells which entry goes where. So the values are one `take` per axis, whose derivative is that of indexing. The modes that
compute (linear_ramp, maximum, mean, median, minimum, odd reflections) are written out. All modes pad one axis at a time, in
NumPy's order, so that corners come out as NumPy's do.

A function as the mode writes into the array that it gets, and is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.autodiff.tensor import Tensor
from allgrad.numpy.arguments import operand
from allgrad.numpy.dispatch import implements

_OPTIONS = {
    "constant": "constant_values",
    "linear_ramp": "end_values",
    "maximum": "stat_length",
    "mean": "stat_length",
    "median": "stat_length",
    "minimum": "stat_length",
    "reflect": "reflect_type",
    "symmetric": "reflect_type",
    "edge": "",
    "wrap": "",
    "empty": "",
}
_STATISTICS = {"maximum": np.max, "mean": np.mean, "median": np.median, "minimum": np.min}


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    array = operand(array)
    if mode not in _OPTIONS:
        raise ValueError(f"np.pad: the mode must be one of {sorted(_OPTIONS)}, got {mode!r}.")
    unknown = set(options) - {_OPTIONS[mode]}
    if unknown:
        raise ValueError(f"np.pad(mode={mode!r}) takes no {sorted(unknown)}.")
    widths = [(int(a), int(b)) for a, b in _pairs(pad_width, array.ndim, "pad_width")]
    if min((n for pair in widths for n in pair), default=0) < 0:
        raise ValueError(f"np.pad: pad_width must not be negative, got {pad_width!r}.")
    option = options.get(_OPTIONS[mode])
    per_axis = [option] * array.ndim
    if mode not in ("reflect", "symmetric"):
        per_axis = _pairs(
            0 if option is None and mode in ("constant", "linear_ramp") else option, array.ndim, _OPTIONS[mode]
        )
    for axis, (width, value) in enumerate(zip(widths, per_axis, strict=True)):
        if width != (0, 0):
            first = np.moveaxis(array, axis, 0)
            array = np.moveaxis(_pad_first(first, width, mode, value), 0, axis)
    return np.copy(array) if widths and all(w == (0, 0) for w in widths) else array


def _pairs(given: Any, ndim: int, name: str) -> list[Any]:
    """(before, after) for each axis, from a number, a pair, a pair or number per axis, or a dict of axes."""
    if isinstance(given, dict):
        full: list[Any] = [(0, 0)] * ndim
        for axis, value in given.items():
            full[axis] = value if isinstance(value, tuple) else (value, value)
        return full
    if isinstance(given, Tensor) or any(isinstance(x, Tensor) for x in _flat(given)):
        return _tensor_pairs(given, ndim, name)
    if given is None:
        return [(None, None)] * ndim
    return [tuple(pair) for pair in np.broadcast_to(np.asarray(given), (ndim, 2)).tolist()]


def _flat(given: Any) -> list[Any]:
    return [y for x in given for y in _flat(x)] if isinstance(given, (list, tuple)) else [given]


def _tensor_pairs(given: Any, ndim: int, name: str) -> list[Any]:
    entries = _flat(given)
    if isinstance(given, Tensor):
        wide = np.broadcast_to(given, (ndim, 2))
        return [(wide[i, 0], wide[i, 1]) for i in range(ndim)]
    if any(np.ndim(x) for x in entries):
        raise ValueError(f"np.pad: the entries of {name} must be single numbers.")
    order = np.broadcast_to(np.arange(len(entries)).reshape(np.shape(_numbers(given))), (ndim, 2))
    return [(entries[i], entries[j]) for i, j in order]


def _numbers(given: Any) -> Any:
    return [_numbers(x) for x in given] if isinstance(given, (list, tuple)) else 0.0


def _pad_first(x: Any, width: tuple[int, int], mode: str, value: Any) -> Any:
    """x padded along its first axis."""
    n, (before, after) = x.shape[0], width
    if n == 0 and mode not in ("constant", "empty"):
        raise ValueError(f"np.pad(mode={mode!r}) cannot extend an axis without entries.")
    if mode in ("constant", "empty"):
        ends = [_filled(x, k, 0 if mode == "empty" else v) for k, v in zip(width, value or (0, 0), strict=True)]
        return np.concatenate([ends[0], x, ends[1]])
    if mode == "linear_ramp":
        return np.concatenate([_ramp(x[0], value[0], before), x, _ramp(x[-1], value[1], after)[::-1]])
    if mode in _STATISTICS:
        low = _statistic(x[: _length(value[0], n)], mode)
        high = _statistic(x[n - _length(value[1], n) :], mode)
        return np.concatenate([_filled(x, before, low), x, _filled(x, after, high)])
    if mode in ("reflect", "symmetric") and value == "odd":
        return _odd(x, width, mode)
    if value not in (None, "even", (None, None)):
        raise ValueError(f"np.pad: reflect_type must be 'even' or 'odd', got {value!r}.")
    return np.take(x, np.pad(np.arange(n), width, mode), 0)  # type: ignore[call-overload]


def _filled(x: Any, count: int, value: Any) -> Any:
    """`count` slices with the shape of x's slices, filled with one value."""
    value = value.astype(x.dtype) if isinstance(value, Tensor) else np.asarray(value).astype(x.dtype)
    return np.broadcast_to(value, (count, *x.shape[1:]))


def _ramp(edge: Any, end: Any, count: int) -> Any:
    """From `end` (included) to `edge` (excluded) in `count` equal steps."""
    steps = np.arange(count, dtype=edge.dtype).reshape(-1, *(1,) * edge.ndim) / edge.dtype.type(max(count, 1))
    end = end.astype(edge.dtype) if isinstance(end, Tensor) else np.asarray(end, edge.dtype)
    return end + (edge - end) * steps


def _length(given: Any, n: int) -> int:
    if given is None:
        return n
    if given < 1:
        raise ValueError(f"np.pad: stat_length must be at least 1, got {given}.")
    return min(int(given), n)


def _statistic(part: Any, mode: str) -> Any:
    function: Any = _STATISTICS[mode]
    return function(part, axis=0, keepdims=True)


def _odd(x: Any, width: tuple[int, int], mode: str) -> Any:
    """Odd reflections: 2 * edge - mirrored entry, repeated where the padding is longer than x.

    Two reflections shift by one period and add twice the rise, 2 * (last - first). So with p = period * turns + r, the entry at
    position p is the entry at r, which is in x or in its mirror image, plus `turns` times twice the rise.
    """
    n, gap = x.shape[0], mode == "symmetric"  # symmetric repeats the edge itself
    period = 2 * (n - 1 + gap)
    if period == 0:
        return np.take(x, np.zeros(n + sum(width), np.intp), 0)
    turns, r = np.divmod(np.arange(-width[0], n + width[1]), period)
    mirrored = r >= n
    sign, turns = (np.reshape(a, (-1, *(1,) * (x.ndim - 1))).astype(x.dtype) for a in (1 - 2 * mirrored, turns))
    picked = np.take(x, np.where(mirrored, 2 * n - 2 + gap - r, r), 0)
    return sign * picked + (1 - sign) * x[-1] + 2 * turns * (x[-1] - x[0])
