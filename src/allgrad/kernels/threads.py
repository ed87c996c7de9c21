"""Threads of the compiled products and of attention: how many, and how a call is cut among them.

`blas.set_up(threads)` sets the number (`parallel.blas_threads` of a run), which is 1 at the start. Rows, columns, matrices of a
stack and samples are computed one by one in any case, so the cut changes no bit. The threads are Python's own; compiled code does
not hold the GIL. A process that is forked makes its own threads when it needs them.
"""

from __future__ import annotations

import os
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

count = 1
"""How many threads a call may use, the caller's included."""

LEAST = 1 << 21
"""Multiplications per thread that pay for waking it (about 50 microseconds of work)."""

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def use(threads: int) -> None:
    """Set the number of threads."""
    global count
    with _lock:
        if threads != count:
            _forget()
            count = threads


def pieces(length: int, work: int, step: int = 1) -> list[slice]:
    """`range(length)` in as many nearly equal slices as there are threads to pay for; each begins at a multiple of `step`.

    Args:
        length: of the axis that is cut.
        work: multiplications of the whole call.
        step: rows that belong together.
    """
    parts = max(1, min(count, work // LEAST, -(-length // step)))
    blocks = -(-length // step)
    stops = [min(length, blocks * i // parts * step) for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(stops)]


def each(function: Callable[[slice], int], slices: list[slice]) -> int:
    """Call `function` for each slice, the last one on this thread; the largest answer. All have ended when this returns."""
    if len(slices) == 1:
        return function(slices[0])
    from concurrent.futures import wait  # takes a while to import, and most runs have one thread

    futures = [_threads().submit(function, part) for part in slices[:-1]]
    try:
        answer = function(slices[-1])
    finally:
        wait(futures)
    return max([answer, *(future.result() for future in futures)])


def _threads() -> ThreadPoolExecutor:
    global _pool
    from concurrent.futures import ThreadPoolExecutor

    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, count - 1), thread_name_prefix="allgrad-product")
        return _pool


def _forget() -> None:
    global _pool
    pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(wait=False)


def _after_fork() -> None:
    """The child has none of the parent's threads, and the parent may have held the lock."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
