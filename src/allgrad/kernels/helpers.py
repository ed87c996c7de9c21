"""How threads share a job in compiled code, without Python and without its lock.

A job is a compiled function (job, part, seat) and a number of parts. Its caller publishes it in the control block, takes parts
itself until none is left, and waits for those parts that helpers have taken. No call waits for a helper that has not begun,
so a helper that wakes up late, or has no core, delays nobody. When `share` returns, no helper uses the job's memory.

A helper is a thread inside `wait`. It looks for a job for some time after the last one, and then sleeps. The ticket
decides everything. It is one word of three counts:

- how many parts are left (lowest byte);
- how many seats, that is, how many helpers may still join (second byte). A helper takes its seat and its first part with one
  atomic operation. The seat's number gives it scratch of its own;
- which job it is (the rest), so that a ticket of an old job can never be replaced.

Only a part that was taken allows its thread to read the job, and that stays as it is until the part is counted in ENDED.

The block also carries calls from Python code (`threads.each`), of which it knows only the number: a helper that sees another
number than before returns to Python. It returns for good when EPOCH changes.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types

from allgrad.kernels.jit import callee, entry_point
from allgrad.kernels.matmul.llvm import call
from allgrad.kernels.waiting import (
    FUTEX,
    add,
    give_up_core,
    load,
    nanoseconds,
    pause,
    replace,
    sleep_while,
    store,
    wake,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LINE = 64
TICKET, BUSY, FUNCTION, JOB, ENDED, WAITS, ASLEEP, EPOCH, CALLS, HELPERS, SPIN, SYSTEM_CALL = (
    LINE * n for n in range(12)
)
"""Words of the control block, each in a cache line of its own:

the ticket; whether a job is under way, the address of its function and its first argument, how many of its parts helpers have
ended, whether its caller sleeps; how many helpers sleep; a number that changes when all helpers must leave; how many calls of
Python code there were; how many helpers there are; nanoseconds for which a helper looks for a job before it sleeps; the system
call to sleep with, see `waiting.FUTEX`.
"""
PART, SEAT, GENERATION = 1, 1 << 8, 1 << 16
"""One part, one seat, one job, as they are counted in the ticket."""
MOST = 200
"""Parts of a job, at most, and helpers."""
LEAVE = -1
"""What `wait` returns to a helper that is not needed any more; otherwise the number of calls."""
SPIN_TIME = 1_000_000
"""Nanoseconds; see SPIN. A step of a model has gaps of this length between its products."""
LOOKS = 16
"""How often a helper looks for a job before it offers its core to others (some microseconds)."""
PATIENCE = 200
"""How often a caller looks for helpers to end before it sleeps."""

_memory = np.zeros(13 * LINE, np.uint8)
control: int = -(-_memory.ctypes.data // LINE) * LINE
"""The address of this process's control block."""
_words = _memory[control - _memory.ctypes.data :][: 12 * LINE].view(np.int64)


@callee
def share(control: Any, function: Any, job: Any, parts: Any) -> bool:
    """Call the function for each part, `function(job, part, seat)`, on this thread (seat 0) and on helpers that come.

    False, and nothing happened, if there are no helpers, or another thread's job is under way.
    """
    if load(control + HELPERS) == 0 or not replace(control + BUSY, 0, 1):
        return False
    store(control + FUNCTION, function)
    store(control + JOB, job)
    store(control + ENDED, 0)
    before = load(control + TICKET) & (GENERATION - 1)  # seats that nobody took
    add(control + TICKET, GENERATION + (parts - 1) * SEAT + parts - before)
    if load(control + ASLEEP) > 0:
        wake(control + TICKET, parts - 1, load(control + SYSTEM_CALL))
    _wait_for_helpers(control, parts - _take_parts(control, function, job, 0))
    store(control + BUSY, 0)
    return True


@callee
def _take_parts(control: Any, function: Any, job: Any, seat: Any) -> Any:
    """Run parts until none is left; how many."""
    taken = 0
    ticket = load(control + TICKET)
    while ticket & (SEAT - 1):
        if replace(control + TICKET, ticket, ticket - PART):
            call(function, (job, (ticket & (SEAT - 1)) - 1, seat))
            taken += 1
        ticket = load(control + TICKET)
    return taken


@callee
def _wait_for_helpers(control: Any, parts: Any) -> None:
    looks = 0
    ended = load(control + ENDED)
    while ended < parts:
        looks += 1
        if looks < PATIENCE:
            pause()
        else:
            store(control + WAITS, 1)
            if load(control + ENDED) == ended:
                sleep_while(control + ENDED, ended, load(control + SYSTEM_CALL))
        ended = load(control + ENDED)
    store(control + WAITS, 0)


def _wait_for_work(control: Any, epoch: Any, calls: Any, clock: Any) -> Any:
    """Help with jobs until all helpers of this epoch must leave (LEAVE), or the number of calls is not `calls` (that number).

    `clock` is the address of 16 bytes for the clock.
    """
    end = 0
    while True:
        ticket = load(control + TICKET)
        if load(control + EPOCH) != epoch:
            return LEAVE
        if load(control + CALLS) != calls:
            return load(control + CALLS)
        if ticket & (SEAT - 1) and ticket & (GENERATION - SEAT):
            if replace(control + TICKET, ticket, ticket - SEAT - PART):
                _help(control, ticket)
            end = 0
        elif end == 0:
            end = nanoseconds(clock) + load(control + SPIN)
        elif nanoseconds(clock) < end:
            for _ in range(LOOKS):
                if load(control + TICKET) == ticket:
                    pause()
            give_up_core()  # to another process that has none
        else:
            add(control + ASLEEP, 1)
            sleep_while(control + TICKET, ticket, load(control + SYSTEM_CALL))
            add(control + ASLEEP, -1)


@callee
def _help(control: Any, ticket: Any) -> None:
    """Run the part that was taken with this ticket, and others of the same job, which is not over before they are counted."""
    function, job, seat = load(control + FUNCTION), load(control + JOB), (ticket & (GENERATION - SEAT)) // SEAT
    call(function, (job, (ticket & (SEAT - 1)) - 1, seat))
    add(control + ENDED, 1 + _take_parts(control, function, job, seat))
    if load(control + WAITS):
        wake(control + ENDED, 1, load(control + SYSTEM_CALL))


def _announce(control: Any, place: Any) -> None:
    add(control + place, 1)
    add(control + TICKET, GENERATION)
    wake(control + TICKET, MOST, load(control + SYSTEM_CALL))


@cache
def _compiled_wait() -> Callable[[int, int, int, int], int]:
    return entry_point(_wait_for_work, (types.int64,) * 4)


@cache
def _compiled_announce() -> Callable[[int, int], None]:
    return entry_point(_announce, (types.int64,) * 2)


def begin(helpers: int) -> int:
    """Allow jobs to be shared with that many helpers; their epoch.

    Helpers compile nothing themselves: a process that is forked meanwhile would have the compiler's locks taken for ever.
    """
    _compiled_wait(), _compiled_announce()
    _words[HELPERS // 8] = helpers
    return int(_words[EPOCH // 8])


def wait(epoch: int, calls: int) -> int:
    """Help with jobs until the number of calls is not `calls`; that number, or LEAVE if helpers of this epoch must leave."""
    clock = np.zeros(2, np.int64)
    return _compiled_wait()(control, epoch, calls, clock.ctypes.data)


def announce() -> None:
    """Count a call of Python code, and make all helpers look."""
    _compiled_announce()(control, CALLS)


def end() -> None:
    """Make all helpers leave."""
    _words[HELPERS // 8] = 0
    _compiled_announce()(control, EPOCH)


def reset() -> None:
    """Make the block as it is in a process without helpers. Nobody else may use it."""
    _words[:] = 0
    _words[SPIN // 8], _words[SYSTEM_CALL // 8] = SPIN_TIME, FUTEX


reset()
