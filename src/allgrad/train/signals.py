"""Asked to stop: SIGTERM, SIGUSR1 (what batch systems send before a time limit) and Ctrl-C set a flag, and nothing else.

The run then ends at the next step boundary, with its state saved. A second Ctrl-C ends it at once. SIGUSR2 asks for a trace
of the next steps.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["StopRequest"]


class StopRequest:
    """Inside `with`, `asked` says whether a signal came, and `signal` which one; `trace`, whether SIGUSR2 came.

    Off the main thread, nothing is handled.

    Example:
        >>> import os
        >>> with StopRequest() as stop:
        ...     os.kill(os.getpid(), signal.SIGUSR1)
        ...     stop.asked
        True
    """

    def __init__(self) -> None:
        self.asked = False
        self.trace = False
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
            self._before[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, self._note_trace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:  # noqa: ARG002
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked, self.signal = True, number

    def _note_trace(self, number: int, frame: Any) -> None:  # noqa: ARG002
        self.trace = True
