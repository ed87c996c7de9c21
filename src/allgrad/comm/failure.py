"""One rank fails: all ranks end, soon, with the cause as the last message.

Without this, an uncaught exception ends one rank's Python while the others wait for it in MPI for ever (and that rank
itself waits in MPI_Finalize). So on every rank of a job, `sys.excepthook` and `threading.excepthook` lead here:

1. A hook that the program had installed before is called.
2. The cause is printed in full, with the rank's number. If several ranks fail at once, the lowest one prints: each rank waits a
   moment longer than the one before it, and is aborted in the meantime. A failure that is the same on every rank by
   construction (`CollectiveError`) is printed by rank 0 alone, unless the job is still running after a while.
3. `on_failure(text)`, if set, is called with the text (the trainer writes it into the run's directory).
4. MPI's Abort with an exit code, 1 unless told otherwise, ends the job. If Abort itself does not return, a timer ends
   the process. The launcher takes that for a crash and ends the others.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, TextIO

from allgrad.errors import CollectiveError

if TYPE_CHECKING:
    from types import TracebackType

    from .topology import Topology

_log = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds that rank 0, however busy its node, may take to report for all
_GRACE = 10.0  # seconds that printing, on_failure and Abort may take together before the process is killed

_HOLDING = 5.0  # seconds more, after which a process whose Abort holds the GIL is killed

_ending = threading.Lock()


def install(topology: Topology) -> None:
    """Route every uncaught exception of this process, in any thread, to `end`."""
    main_before, thread_before = sys.excepthook, threading.excepthook

    def main_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if main_before is not sys.__excepthook__:
            _call(main_before, kind, error, trace)
        end(topology, _text(kind, error, trace), everywhere=isinstance(error, CollectiveError))

    def thread_hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return
        if thread_before is not threading.__excepthook__:
            _call(thread_before, args)
        where = f"in thread {args.thread.name!r}: " if args.thread is not None else ""
        text = _text(args.exc_type, args.exc_value, args.exc_traceback)
        end(topology, where + text, everywhere=isinstance(args.exc_value, CollectiveError))

    sys.excepthook = main_hook
    threading.excepthook = thread_hook


def _call(hook: object, *arguments: object) -> None:
    """Call the program's own hook; whatever it raises, the job must end."""
    try:
        hook(*arguments)  # type: ignore[operator]
    except BaseException:
        _log.exception("The program's excepthook failed.")


def end(topology: Topology, text: str, *, everywhere: bool = False, code: int = 1) -> None:
    """Print why, and end all ranks with this exit code. Does not return if MPI's Abort works as it must.

    Args:
        text: the cause.
        everywhere: every rank calls this with the same text, so rank 0 alone prints it.
        code: the exit code.
    """
    if not _ending.acquire(blocking=False):
        # Another thread was first. If this one returned, the process might end before the other has printed the cause.
        time.sleep(_PATIENCE + _GRACE)
        return
    wait = _PATIENCE if everywhere and topology.rank else min(0.02 * topology.rank, 0.5)
    hard = threading.Timer(wait + _GRACE, os._exit, args=(code,))
    hard.daemon = True
    hard.start()
    if sys.__stderr__ is not None:  # Abort may hold the GIL and never return; this timer needs no GIL
        faulthandler.dump_traceback_later(wait + _GRACE + _HOLDING, exit=True, file=sys.__stderr__)
    time.sleep(wait)
    message = f"allgrad: rank {topology.rank} of {topology.size} on {topology.host} failed. {text.rstrip()}\n"
    if topology.on_failure is not None:
        try:
            topology.on_failure(message)
        except Exception as error:  # the job must end anyway; this error is reported after the cause
            message += f"(on_failure failed as well: {type(error).__name__}: {error})\n"
    sys.stdout.flush()
    for stream in _error_outputs():
        stream.write(message)
        stream.flush()
    topology.abort(code)


def _error_outputs() -> list[TextIO]:
    """sys.stderr, and the process's own if that is a buffer, which somebody would write out later (PyTorch's excepthook does)."""
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return [stream for stream in (sys.stderr, sys.__stderr__) if stream is not None]
    return [sys.stderr]


def _text(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> str:
    return "".join(traceback.format_exception(kind, error, trace))
