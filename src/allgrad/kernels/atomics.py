"""Counters in memory that processes share: one process publishes what it wrote, another sees it.

Memory is an array of bytes. A counter is an int64 in it that one process alone writes, at the start of a cache line of its own.
`publish` stores it with release semantics and `reached` loads it with acquire semantics: whoever sees the new count also sees
everything that the writer stored before it. On x86 these are plain moves, which the processor keeps in order, and what is
prevented is reordering by the compiler. On Arm, LLVM emits the instructions that order memory there (`stlr`, `ldar`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, register_jitable

from allgrad.kernels.jit import PerDtype, entry_point, signature
from allgrad.kernels.waiting import give_up_core

if TYPE_CHECKING:
    from collections.abc import Callable

LINE = 64
"""Bytes from one counter to the next: a cache line, so that a writer does not disturb the readers of another counter."""


def _place(context: Any, builder: Any, kind: Any, array: Any, offset: Any) -> Any:
    made = context.make_array(kind)(context, builder, array)
    byte = cgutils.get_item_pointer(context, builder, kind, made, [offset], wraparound=False)  # type: ignore[no-untyped-call]
    return builder.bitcast(byte, ir.IntType(64).as_pointer())


def _inlined(function: Callable[..., Any]) -> Any:
    return intrinsic(function)


@_inlined
def _load_acquire(typing: Any, array: Any, offset: Any) -> Any:  # noqa: ARG001
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature.args[0], *arguments), "acquire", 8)

    return types.int64(array, offset), code


@_inlined
def _store_release(typing: Any, array: Any, offset: Any, value: Any) -> Any:  # noqa: ARG001
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, offset, value = arguments
        builder.store_atomic(value, _place(context, builder, signature.args[0], array, offset), "release", 8)
        return context.get_dummy_value()

    return types.void(array, offset, value), code


RANK, RANKS, RING, FIRST, SIZE, READ, CLOCK = range(7)
"""What is where in the int64 that describe a board to compiled code (`state`):

which rank this is, and how many there are; the number of places of a rank; the offset of the first message, and the bytes of
one; how many messages all ranks are known to have read; two places for the clock (`shared_sums.py`).
"""

STATE = CLOCK + 2
"""How many there are."""


def _publish(memory: Any, offset: int, value: int) -> None:
    _store_release(memory, offset, value)


def _reached(memory: Any, offset: int, count: int, value: int, spins: int) -> int:
    left = spins
    for i in range(count):
        while _load_acquire(memory, offset + i * LINE) < value:
            if left == 0:
                return 0
            left -= 1
    return 1


@register_jitable
def has_room_for(memory: Any, state: Any, number: int) -> bool:
    """`has_room`, for compiled code."""
    wanted = number + 1 - state[RING]
    if wanted > state[READ]:  # ranks are mostly in step: what is found is enough for some time
        ranks = state[RANKS]
        found = _load_acquire(memory, ranks * LINE)
        for i in range(1, ranks):
            found = min(found, _load_acquire(memory, (ranks + i) * LINE))
        state[READ] = found
    return bool(state[READ] >= wanted)


def _has_room(memory: Any, state: Any, number: int) -> int:
    return 1 if has_room_for(memory, state, number) else 0


@register_jitable
def _place_of(state: Any, number: int) -> int:
    place: int = state[FIRST] + (number % state[RING]) * state[RANKS] * state[SIZE]
    return place


@register_jitable
def _post(memory: Any, state: Any, number: int, key: int, payload: Any) -> None:
    place = _place_of(state, number) + state[RANK] * state[SIZE]
    _store_release(memory, place, key)
    for i in range(payload.size):
        memory[place + 8 + i] = payload[i]
    _store_release(memory, state[RANK] * LINE, number + 1)


@register_jitable
def _collect(memory: Any, state: Any, number: int, key: int, everyone: Any, spins: int) -> int:
    ranks, size = state[RANKS], state[SIZE]
    left, n = spins, everyone.size // ranks
    for i in range(ranks):
        while _load_acquire(memory, i * LINE) < number + 1:
            if left == 0:
                return LATE
            left -= 1
    place = _place_of(state, number)
    for i in range(ranks):
        theirs = place + i * size
        if _load_acquire(memory, theirs) != key:
            return DIFFERENT
        for j in range(n):
            everyone[i * n + j] = memory[theirs + 8 + j]
    _store_release(memory, (ranks + state[RANK]) * LINE, number + 1)
    return DONE


@register_jitable
def exchange_messages(
    memory: Any, state: Any, number: int, key: int, payload: Any, everyone: Any, spins: int, rounds: int
) -> int:
    """Post a message, and `collect` it. If the others are late, give up the core and look again, up to `rounds` times.

    Returns:
        What `collect` returns; FULL: there was no room, and nothing is posted.
    """
    if not has_room_for(memory, state, number):
        return FULL
    _post(memory, state, number, key, payload)
    found = _collect(memory, state, number, key, everyone, spins)
    for _ in range(rounds):
        if found != LATE:
            break
        give_up_core()
        found = _collect(memory, state, number, key, everyone, spins)
    return found


LATE, DIFFERENT, DONE, FULL = 0, 1, 2, 3
"""What `exchange_messages` and `collect` return."""

WORDS = np.dtype(np.int64)
"""The dtype of `state`, for which the functions are compiled."""

_compiled_publish = PerDtype(_publish, "o1 n n", references=True)
_compiled_reached = PerDtype(_reached, "o1 n n n n", references=True)
_compiled_has_room = PerDtype(_has_room, "o1 w1 n", references=True)
_compiled_post = PerDtype(_post, "o1 w1 n n i1", references=True)
_compiled_collect = PerDtype(_collect, "o1 w1 n n o1 n", references=True)


@cache
def compiled_exchange() -> Callable[..., int]:
    """`exchange_messages`, compiled. Numba's look-up of types is left out: a small exchange takes some microseconds."""
    return entry_point(exchange_messages, signature("o1 w1 n n i1 o1 n n", WORDS), references=True)


def publish(memory: Any, offset: int, value: int) -> None:
    """Set the counter at a byte offset, after everything that this process has written before."""
    _compiled_publish[WORDS](memory, offset, value)


def reached(memory: Any, offset: int, count: int, value: int, spins: int = 0) -> bool:
    """Whether `count` counters, from a byte offset on, are all at least `value`; looks again up to `spins` times.

    >>> memory = np.zeros(2 * LINE, np.uint8)
    >>> publish(memory, LINE, 3)
    >>> reached(memory, LINE, 1, 3), reached(memory, 0, 2, 3, spins=10)
    (True, False)
    """
    return bool(_compiled_reached[WORDS](memory, offset, count, value, spins))


def has_room(memory: Any, state: Any, number: int) -> bool:
    """Whether all ranks have read the message in whose place message `number` belongs."""
    return bool(_compiled_has_room[WORDS](memory, state, number))


def post(memory: Any, state: Any, number: int, key: int, payload: Any) -> None:
    """Write a message, and then count it; see `comm/board.py`, whose memory this is.

    Args:
        memory: `ranks` counters of messages written, `ranks` of messages read, and the messages.
        state: (STATE,) int64.
        number: of the message. There is room for it.
        key: what it begins with.
        payload: (n,) uint8.
    """
    _compiled_post[WORDS](memory, state, number, key, payload)


def collect(memory: Any, state: Any, number: int, key: int, everyone: Any, spins: int) -> int:
    """Wait for message `number` of all ranks, copy them, and count them as read.

    Args:
        memory, state: as in `post`.
        number: of the message.
        key: what each of them must begin with.
        everyone: (ranks * n,) uint8, receives all ranks' payloads.
        spins: how often to look.

    Returns:
        DONE; LATE: some rank did not come; DIFFERENT: some rank has another key. Then nothing is counted as read.
    """
    return int(_compiled_collect[WORDS](memory, state, number, key, everyone, spins))
