"""Counters in memory that processes share: one process publishes what it wrote, another sees it.

Memory is an array of bytes. A counter is an int64 in it that one process alone writes, at the start of a cache line of its own.
`publish` stores it with release semantics and `reached` loads it with acquire semantics: whoever sees the new count also sees
everything that the writer stored before it. On x86 these are plain moves, which the processor keeps in order, and what is
prevented is reordering by the compiler. On Arm, LLVM emits the instructions that order memory there (`stlr`, `ldar`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, register_jitable

from allgrad.kernels.jit import PerDtype

if TYPE_CHECKING:
    from collections.abc import Callable

LINE = 64
"""Bytes from one counter to the next: a cache line, so that a writer does not disturb the readers of another counter."""


_give_up_core = types.ExternalFunction("sched_yield", types.int32())


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
def _post(memory: Any, payload: Any, counter: int, number: int, place: int, key: int) -> None:
    _store_release(memory, place, key)
    for i in range(payload.size):
        memory[place + 8 + i] = payload[i]
    _store_release(memory, counter, number + 1)


@register_jitable
def _collect(
    memory: Any, everyone: Any, rank: int, ranks: int, number: int, messages: int, size: int, key: int, spins: int
) -> int:
    left, n = spins, everyone.size // ranks
    for i in range(ranks):
        while _load_acquire(memory, i * LINE) < number + 1:
            if left == 0:
                return LATE
            left -= 1
    for i in range(ranks):
        theirs = messages + i * size
        if _load_acquire(memory, theirs) != key:
            return DIFFERENT
        for j in range(n):
            everyone[i * n + j] = memory[theirs + 8 + j]
    _store_release(memory, (ranks + rank) * LINE, number + 1)
    return DONE


@register_jitable
def exchange_messages(
    memory: Any, payload: Any, everyone: Any, rank: int, ranks: int, number: int, messages: int, size: int, key: int,
    spins: int, rounds: int,
) -> int:  # fmt: skip
    """`exchange`, for compiled code."""
    _post(memory, payload, rank * LINE, number, messages + rank * size, key)
    found = _collect(memory, everyone, rank, ranks, number, messages, size, key, spins)
    for _ in range(rounds):
        if found != LATE:
            break
        _give_up_core()
        found = _collect(memory, everyone, rank, ranks, number, messages, size, key, spins)
    return found


LATE, DIFFERENT, DONE = 0, 1, 2
"""What `exchange` and `collect` return."""

_BYTES = np.dtype(np.uint8)
_compiled_publish = PerDtype(_publish, "w1 n n")
_compiled_reached = PerDtype(_reached, "w1 n n n n")
_compiled_post = PerDtype(_post, "w1 r1 n n n n")
_compiled_collect = PerDtype(_collect, "w1 w1 n n n n n n n")
_compiled_exchange = PerDtype(exchange_messages, "w1 r1 w1 n n n n n n n n")


def publish(memory: Any, offset: int, value: int) -> None:
    """Set the counter at a byte offset, after everything that this process has written before."""
    _compiled_publish[_BYTES](memory, offset, value)


def reached(memory: Any, offset: int, count: int, value: int, spins: int = 0) -> bool:
    """Whether `count` counters, from a byte offset on, are all at least `value`; looks again up to `spins` times.

    >>> memory = np.zeros(2 * LINE, np.uint8)
    >>> publish(memory, LINE, 3)
    >>> reached(memory, LINE, 1, 3), reached(memory, 0, 2, 3, spins=10)
    (True, False)
    """
    return bool(_compiled_reached[_BYTES](memory, offset, count, value, spins))


def post(memory: Any, payload: Any, counter: int, number: int, place: int, key: int) -> None:
    """Write a message, and then count it; see `comm/board.py`, whose memory this is.

    Args:
        memory: `ranks` counters of messages written, `ranks` of messages read, and the messages.
        payload: (n,) uint8.
        counter: the offset of this rank's counter of messages written.
        number: of the message.
        place: its offset. It begins with `key`.
    """
    _compiled_post[_BYTES](memory, payload, counter, number, place, key)


def collect(
    memory: Any, everyone: Any, rank: int, ranks: int, number: int, messages: int, size: int, key: int, spins: int
) -> int:
    """Wait for message `number` of all ranks, copy them, and count them as read.

    Args:
        memory: as in `post`.
        everyone: (ranks * n,) uint8, receives all ranks' payloads.
        rank, ranks: which rank, and how many there are.
        number: of the message.
        messages, size: the offset of all ranks' messages with this number, and the bytes of one.
        key: what each of them must begin with.
        spins: how often to look.

    Returns:
        DONE; LATE: some rank did not come; DIFFERENT: some rank has another key. Then nothing is counted as read.
    """
    return int(_compiled_collect[_BYTES](memory, everyone, rank, ranks, number, messages, size, key, spins))


def exchange(
    memory: Any, payload: Any, everyone: Any, rank: int, ranks: int, number: int, messages: int, size: int, key: int,
    spins: int, rounds: int,
) -> int:  # fmt: skip
    """`post` and `collect` in one call. If the others are late, it gives up the core and looks again, up to `rounds` times."""
    return int(
        _compiled_exchange[_BYTES](memory, payload, everyone, rank, ranks, number, messages, size, key, spins, rounds)
    )
