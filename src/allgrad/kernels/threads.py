"""Threads of the compiled products and of attention: how many, and how a call is cut among them.

`blas.set_up(threads)` sets the number (`parallel.blas_threads` of a run), which is 1 at the start. Rows, columns, matrices of a
stack and samples are computed one by one in any case, so the cut changes no bit. The threads are Python's own. They wait in
compiled code (`helpers.py`), without the GIL, and a product gives them work there. `each` calls them back to Python, for loops
whose arguments are arrays. A process that is forked makes its own threads when it needs them.

The parts of a call are in a list from which its threads take one after the other, the calling thread included. So no call waits
for a thread that wakes up late on a busy machine.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from itertools import pairwise
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

count = 1
"""How many threads a call may use, the caller's included."""

version = 0
"""Counts changes of `count`, and forks: what was made for another version is not used again."""

LEAST = 1 << 22
"""Multiplications per thread that pay for calling it back to Python (about 100 microseconds of work)."""

PATIENCE = 10.0
"""Seconds for which the end of Python waits for a helper."""

_lock = threading.Lock()
_waiting: SimpleQueue[_Call] = SimpleQueue()
"""Calls that ask for a thread."""
_threads: list[threading.Thread] = []


class _Call:
    """One call of `each`. A helper reports that it has begun before it takes a part, so the caller knows whom to wait for."""

    def __init__(self, function: Callable[[slice], int], parts: list[slice]) -> None:
        self.function, self.parts = function, parts
        self.answers: list[int] = []
        self.errors: list[BaseException] = []
        self.begun: list[None] = []
        self.ended: list[None] = []
        self.wake: SimpleQueue[None] = SimpleQueue()

    def take_parts(self) -> None:
        while True:
            try:
                part = self.parts.pop()
            except IndexError:  # other threads took the last one
                return
            self.answers.append(self.function(part))

    def help(self) -> None:
        self.begun.append(None)
        try:
            self.take_parts()
        except BaseException as error:  # the caller raises it
            self.errors.append(error)
        self.ended.append(None)
        self.wake.put(None)

    def wait(self) -> None:
        """Wait until no other thread runs a part, also if Ctrl-C interrupts that."""
        self.parts.clear()
        while len(self.ended) < len(self.begun):
            try:
                self.wake.get()
            except KeyboardInterrupt as error:
                self.errors.append(error)


def use(threads: int) -> None:
    """Set the number of threads."""
    global count, version
    with _lock:
        if threads != count:
            _stop()
            count, version = threads, version + 1


def pieces(length: int, work: int, step: int = 1, per_thread: int = 1) -> list[slice]:
    """`range(length)` in as many nearly equal slices as there are threads to pay for; each begins at a multiple of `step`.

    Args:
        length: of the axis that is cut.
        work: multiplications of the whole call.
        step: rows that belong together.
        per_thread: slices of each thread, for work that loses nothing by it: a helper that begins late takes fewer.
    """
    parts = max(1, min(count * per_thread if count > 1 else 1, work // LEAST, -(-length // step)))
    blocks = -(-length // step)
    stops = [min(length, blocks * i // parts * step) for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(stops)]


def each(function: Callable[[slice], int], slices: list[slice]) -> int:
    """Call `function` for each slice, on this thread and those that come to help; the largest answer. All have ended then."""
    if len(slices) == 1:
        return function(slices[0])
    from allgrad.kernels import helpers

    start()
    call = _Call(function, list(slices))
    try:
        for _ in slices[1:]:
            _waiting.put(call)
        helpers.announce()
        call.take_parts()
    finally:
        call.wait()
    if call.errors:
        raise call.errors[0]
    return max(call.answers)


def start() -> None:
    """Start the helpers if none are running. If the system cannot start that many threads, there are fewer helpers."""
    from allgrad.kernels import helpers

    with _lock:
        if not _threads and count > 1:
            epoch = helpers.begin(count - 1)
            with suppress(RuntimeError):
                for i in range(count - 1):
                    thread = threading.Thread(target=_help, args=[epoch], name=f"allgrad-product-{i}", daemon=True)
                    thread.start()
                    _threads.append(thread)


def _help(epoch: int) -> None:
    from allgrad.kernels import helpers

    calls = 0
    while (calls := helpers.wait(epoch, calls)) != helpers.LEAVE:
        with suppress(Empty):
            while True:
                _waiting.get_nowait().help()


def _stop() -> list[threading.Thread]:
    """Let all helpers leave, each when it has ended what it does."""
    global _waiting
    leaving = list(_threads)
    if leaving:
        from allgrad.kernels import helpers

        helpers.end()
        _threads.clear()
        _waiting = SimpleQueue()
    return leaving


@atexit.register
def _leave() -> None:
    """At the end, no thread may be in compiled code: it is freed. But a helper that is in a long part does not delay the end."""
    for thread in _stop():
        thread.join(PATIENCE)


def _after_fork() -> None:
    """The child has none of the parent's threads, and the parent may have held the lock."""
    global _waiting, _lock, version
    _waiting, _lock, version = SimpleQueue(), threading.Lock(), version + 1
    _threads.clear()
    helpers = sys.modules.get("allgrad.kernels.helpers")
    if helpers is not None:
        helpers.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
