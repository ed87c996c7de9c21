"""A small all-reduce in one compiled call: wait for all ranks, make additions in shared memory, wait again.

Between two ranks with a core each, the waiting takes a microsecond or two. The way through Python (two waits, and additions
between them) takes tens of microseconds, most of them in code that the caches have forgotten since the last step.

An addition is a row of five integers: the addresses of `left`, `right` and `out`, the number of elements, and the bytes of one
(4 or 8, of a float). `out = left + right`, rounded as NumPy rounds; `out` may be `left`, and overlaps nothing else. The rows are
worked off in order.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic, register_jitable

from allgrad.kernels.atomics import CLOCK, DONE, FULL, WORDS, exchange_messages, has_room_for
from allgrad.kernels.jit import PerDtype, entry_point, signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.kernels.blocks import Array

cgutils: Any = untyped_cgutils  # numba has no types for it

_MONOTONIC = 1  # the clock of time.perf_counter
_read_clock: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.voidptr))


def _inlined(function: Callable[..., Any]) -> Any:
    return intrinsic(function)


@_inlined
def _pointer(typing: Any, address: Any) -> Any:  # noqa: ARG001
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), code


@register_jitable
def _add_into(left: Any, right: Any) -> None:
    for i in range(left.size):
        left[i] += right[i]


@register_jitable
def _add(left: Any, right: Any, out: Any) -> None:
    for i in range(left.size):
        out[i] = left[i] + right[i]


@register_jitable
def _make(additions: Any) -> None:
    for row in range(0, additions.size, 5):
        left, right, out = _pointer(additions[row]), _pointer(additions[row + 1]), _pointer(additions[row + 2])
        size, single = additions[row + 3], additions[row + 4] == 4
        # In place has a loop of its own, which needs no test for overlap to use vectors.
        in_place = additions[row] == additions[row + 2]
        if single and in_place:
            _add_into(carray(left, size, np.float32), carray(right, size, np.float32))
        elif single:
            _add(carray(left, size, np.float32), carray(right, size, np.float32), carray(out, size, np.float32))
        elif in_place:
            _add_into(carray(left, size, np.float64), carray(right, size, np.float64))
        else:
            _add(carray(left, size, np.float64), carray(right, size, np.float64), carray(out, size, np.float64))


def _add_up(additions: Any) -> None:
    _make(additions)


@register_jitable
def _seconds(state: Any) -> float:
    _read_clock(_MONOTONIC, state[CLOCK:].ctypes)
    now: float = state[CLOCK] + 1e-9 * state[CLOCK + 1]
    return now


def _sum_up(
    memory: Any, state: Any, number: int, key: int, additions: Any, spins: int, rounds: int
) -> tuple[int, float, float]:
    """Two empty messages, of this number and the next one, and the additions between them.

    Returns:
        How many of the two messages all ranks have exchanged. If it is less than 2, the next one is posted and still to be read.
        FULL: there was no room for both, and nothing is posted. And when all ranks had come, and when all had added
        (`time.perf_counter`), as far as they have.
    """
    if not has_room_for(memory, state, number + 1):
        return FULL, 0.0, 0.0
    nothing = memory[:0]
    if exchange_messages(memory, state, number, key, nothing, nothing, spins, rounds) != DONE:
        return 0, 0.0, 0.0
    began = _seconds(state)
    _make(additions)
    found = exchange_messages(memory, state, number + 1, key, nothing, nothing, spins, rounds)
    return 2 if found == DONE else 1, began, _seconds(state)


_compiled_add_up = PerDtype(_add_up, "k", references=True)


@cache
def compiled() -> Callable[..., tuple[int, float, float]]:
    """`_sum_up`, compiled."""
    return entry_point(_sum_up, signature("o1 w1 n n k n n", WORDS), references=True)


def row(left: Array, right: Array, out: Array) -> tuple[int, ...]:
    """An addition. The arrays are (n,), contiguous, of float32 or float64, and somebody else keeps them alive."""
    return (left.ctypes.data, right.ctypes.data, out.ctypes.data, left.size, left.itemsize)


def add_up(additions: Array) -> None:
    """Make additions. `additions`: (5 n,) int64, n rows one after another.

    >>> a, b = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    >>> add_up(np.array(row(a, b, a)))
    >>> a
    array([4., 6.])
    """
    _compiled_add_up[WORDS](additions)
