"""A time limit that holds inside MPI calls, which may keep the GIL: joining a job, and leaving it.

A rank that waits in MPI_Init or MPI_Finalize for one that is stopped runs no Python: no thread, timer or signal handler of ours
gets a turn, and the job would hang for ever. So the limit is an alarm of the kernel's. faulthandler, which needs no GIL, first
writes where the process waits; then the alarm ends it, and with it the launcher ends the job.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["set_time_limit", "time_limit"]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Inside, the process is ended by SIGALRM after so many seconds. A program that uses SIGALRM itself is left alone.

    Args:
        seconds: the limit.

    Example:
        >>> with time_limit(60.0):
        ...     pass
    """
    if not set_time_limit(seconds):
        yield
        return
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.unregister(signal.SIGALRM)


def set_time_limit(seconds: float) -> bool:
    """Start the limit, for the rest of this process's life; whether that was possible."""
    free = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    )
    if not free:
        return False
    if sys.__stderr__ is not None:
        faulthandler.register(signal.SIGALRM, file=sys.__stderr__, all_threads=False, chain=True)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    return True
