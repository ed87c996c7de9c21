"""A time limit that holds inside MPI calls, which may keep the GIL: joining a job, and leaving it.

A rank that waits in MPI_Init or MPI_Finalize for one that is stopped runs no Python: no thread, timer or signal handler of ours
gets a turn, and the job would hang for ever. So the limit is an alarm of the kernel's. faulthandler, which needs no GIL, first
writes where the process waits; then the alarm ends it, and with it the launcher ends the job. Which ranks a job waits for, only
another process can find out meanwhile: join_report.py.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import join_report

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["join_limit", "set_time_limit", "time_limit"]

_LOCAL_RANKS = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "PALS_LOCAL_RANKID", "MV2_COMM_WORLD_LOCAL_RANK")
_REPORTERS = 2  # per machine: one of them may be the rank that is missing
_TURN = 2.0  # seconds that a reporter has before the next one, and all of them before the ranks end by themselves


@contextmanager
def join_limit(seconds: float) -> Iterator[None]:
    """Inside, a rank joins its job. After so many seconds the missing ranks are named, and the process is ended.

    Args:
        seconds: the limit.
    """
    place = int(next((os.environ[name] for name in _LOCAL_RANKS if name in os.environ), "0"))
    with time_limit(seconds + _REPORTERS * _TURN):
        if place >= _REPORTERS:
            yield
            return
        environment = {name: value for name, value in os.environ.items() if name not in join_report.RANKS}
        command = [sys.executable, "-I", "-S", join_report.__file__, str(seconds), str(place * _TURN)]
        # It ends when the other end of its standard input is closed, which the kernel does if this process ends.
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as reporter:
            try:
                yield
            finally:
                reporter.kill()


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
