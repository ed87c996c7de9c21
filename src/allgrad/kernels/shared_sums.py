"""A small all-reduce in one compiled call: wait for all ranks, make additions in shared memory, wait again.

Between two ranks with a core each, the waiting takes a microsecond or two. The way through Python (two waits, and additions
between them) takes tens of microseconds, most of them in code that the caches have forgotten since the last step.

An addition is a row of five integers: the addresses of `left`, `right` and `out`, the number of elements, and the bytes of one
(4 or 8, of a float). `out = left + right`, rounded as NumPy rounds; `out` may be `left`, and overlaps nothing else. The rows are
worked off in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import carray, types  # type: ignore[attr-defined]
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic, register_jitable

from allgrad.kernels.atomics import DONE, exchange_messages
from allgrad.kernels.jit import PerDtype

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


def _sum_up(
    memory: Any, nothing: Any, rank: int, ranks: int, number: int, first: int, second: int, size: int, key: int,
    spins: int, rounds: int, additions: Any, began: Any,
) -> int:  # fmt: skip
    if exchange_messages(memory, nothing, nothing, rank, ranks, number, first, size, key, spins, rounds) != DONE:
        return 0
    _read_clock(_MONOTONIC, began.ctypes)
    _make(additions)
    found = exchange_messages(memory, nothing, nothing, rank, ranks, number + 1, second, size, key, spins, rounds)
    return 2 if found == DONE else 1


_BYTES = np.dtype(np.uint8)
_compiled_add_up = PerDtype(_add_up, "k")
_compiled_sum_up = PerDtype(_sum_up, "w1 w1 n n n n n n n n n k w1")


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
    _compiled_add_up[_BYTES](additions)


def sum_up(
    memory: Array, nothing: Array, rank: int, ranks: int, number: int, first: int, second: int, size: int, key: int,
    spins: int, rounds: int, additions: Array, began: Array,
) -> int:  # fmt: skip
    """Two empty messages and the additions between them; see `comm/board.py`, whose memory this is.

    Args:
        memory, rank, ranks, size, key, spins, rounds: as in `atomics.exchange`.
        nothing: (0,) uint8.
        number: of the first message; the second one has the next number.
        first, second: the offsets of all ranks' messages with these numbers.
        additions: as in `add_up`.
        began: (16,) uint8, receives when all ranks had come: seconds and nanoseconds of `time.perf_counter`, two int64.

    Returns:
        How many of the two messages all ranks have exchanged. If it is less than 2, the next one is posted and still to be read.
    """
    found: int = _compiled_sum_up[_BYTES](
        memory, nothing, rank, ranks, number, first, second, size, key, spins, rounds, additions, began
    )
    return found
