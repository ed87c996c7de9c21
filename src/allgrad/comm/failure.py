"""One rank fails: all ranks end, soon, with the cause as the last word.

Without this an uncaught exception ends one rank's Python while the others wait for it in MPI for ever (and that rank
itself waits in MPI_Finalize). So on every rank of a job `sys.excepthook` and `threading.excepthook` lead here:

1. The cause is printed whole, with the rank's name. Where several ranks fail at once, the lowest speaks: each waits a
   moment longer than the one before it, and is aborted meanwhile. A failure that is the same on every rank by
   construction (`CollectiveError`) is printed by rank 0 alone, unless that has not ended the job after a while.
2. `on_failure(text)`, where set, is handed the text (the trainer writes it into the run's folder).
3. MPI's Abort with an exit code, 1 unless told otherwise, ends the job. Where Abort itself does not return, a timer ends
   the process, which the launcher takes for a crash and ends the rest.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Protocol

from allgrad.errors import CollectiveError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_PATIENCE = 30.0  # seconds in which rank 0, however busy its node, comes to speak for all
_GRACE = 10.0  # seconds that printing, on_failure and Abort may take together before the process is ended hard


class Rank(Protocol):
    """What is needed of a world."""

    rank: int
    size: int
    host: str
    on_failure: Callable[[str], None] | None

    def abort(self, code: int) -> None: ...


_ending = threading.Lock()


def install(world: Rank) -> None:
    """Route every uncaught exception of this process, in any thread, to `end`."""

    def main_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        end(world, _text(kind, error, trace), everywhere=isinstance(error, CollectiveError))

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        where = f"in thread {args.thread.name!r}: " if args.thread is not None else ""
        text = _text(args.exc_type, args.exc_value, args.exc_traceback)
        end(world, where + text, everywhere=isinstance(args.exc_value, CollectiveError))

    sys.excepthook = main_hook
    threading.excepthook = thread_hook


def end(world: Rank, text: str, *, everywhere: bool = False, code: int = 1) -> None:
    """Say why, and end all ranks with this exit code. Does not return where MPI's Abort does what it must."""
    if not _ending.acquire(blocking=False):
        # Another thread was first: if this one went on, the process might end before that one spoke.
        time.sleep(_PATIENCE + _GRACE)
        return
    wait = _PATIENCE if everywhere and world.rank else min(0.02 * world.rank, 0.5)
    hard = threading.Timer(wait + _GRACE, os._exit, args=(code,))
    hard.daemon = True
    hard.start()
    time.sleep(wait)
    message = f"allgrad: rank {world.rank} of {world.size} on {world.host} failed. {text.rstrip()}\n"
    if world.on_failure is not None:
        try:
            world.on_failure(message)
        except Exception as error:  # the job must end all the same; what went wrong here is said after the cause
            message += f"(on_failure failed as well: {type(error).__name__}: {error})\n"
    sys.stdout.flush()
    sys.stderr.write(message)
    sys.stderr.flush()
    world.abort(code)


def _text(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> str:
    return "".join(traceback.format_exception(kind, error, trace))
