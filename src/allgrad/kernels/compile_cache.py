"""Compiling once per machine: what many processes that start at once need beside numba's cache, and the line that says so.

A rank that finds a function compiled loads it, without any lock. Otherwise it takes the lock of that function: the first rank
compiles, and the others wait and load the result. The lock is the operating system's (`flock`), so it is gone with a process that
dies. Whoever waits longer than `PATIENCE`, or is on a file system without locks, compiles for itself: that costs time, but every
process writes the same files in one step, so nothing can go wrong.

After `SLOW` seconds of compiling the program is told by `announce`, once per process. Of many ranks, only one should ask for it.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["PATIENCE", "SLOW", "announce", "compiling"]

PATIENCE = 120.0
"""Seconds for which a process waits for another one to compile a function; one takes a few seconds, on a busy machine more."""
SLOW = 1.0
"""Seconds of compiling after which the program is told."""

_announce: Callable[[Path], None] | None = None
_spent = 0.0


def announce(function: Callable[[Path], None] | None) -> None:
    """Choose what is called, once, when compiling takes time: with the directory of the cache. None: nothing.

    The call may come from another thread.
    """
    global _announce
    _announce = function


@contextmanager
def compiling(directory: Path, name: str) -> Iterator[None]:
    """A context for compiling one function, or for loading it, if another process compiles it meanwhile."""
    done = directory / f"{name}.done"
    if done.exists():
        yield
        return
    with _locked(directory / f"{name}.lock"):
        if done.exists():
            yield
            return
        with _timed(directory):
            yield
        with suppress(OSError):
            done.touch()


@contextmanager
def _timed(directory: Path) -> Iterator[None]:
    """Counts the time, and has it announced as soon as it is much."""
    global _spent
    timer = threading.Timer(max(0.0, SLOW - _spent), _tell, [directory])
    timer.daemon = True
    start = time.monotonic()
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _spent += time.monotonic() - start


def _tell(directory: Path) -> None:
    global _announce
    function, _announce = _announce, None
    if function is not None:
        function(directory)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        file = path.open("w")
    except OSError:
        yield
        return
    with file:
        _wait_for_lock(file)
        yield


def _wait_for_lock(file: IO[str]) -> None:
    """Take the lock, unless it is not to be had."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:  # this file system has no locks
            return
