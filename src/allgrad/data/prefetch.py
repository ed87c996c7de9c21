"""A thread that makes results ahead of time.

Contract.

- `take` returns the results of `make` in order. At most `depth` finished results wait, and one more is being made.
- An exception of `make`, of any kind, ends the thread. The `take` that would have returned that result raises it, with its own
  traceback, and so does every later `take`.
- `take` waits in slices of 0.1 s, so signal handlers run in the waiting thread.
- `stop` never hangs: it gives up on a thread that is stuck in `make`. Such a thread is a daemon and ends with the process.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Prefetcher"]

T = TypeVar("T")

_SLICE = 0.1  # seconds


class Prefetcher(Generic[T]):
    """Calls `make` in a thread, again and again.

    Args:
        make: makes the next result.
        depth: finished results that may wait, at least 1.
        name: of the thread.

    Example:
        >>> numbers = iter(range(9))
        >>> ahead = Prefetcher(lambda: next(numbers), depth=2, name="numbers")
        >>> ahead.take(), ahead.take(), ahead.stop(patience=60.0)
        (0, 1, True)
    """

    def __init__(self, make: Callable[[], T], *, depth: int, name: str) -> None:
        self._make = make
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def take(self) -> T:
        """The next result.

        Raises:
            BaseException: whatever `make` raised.
            RuntimeError: after `stop`, or when the thread ended without an exception.
        """
        if self._failure is None:
            result, self._failure = self._wait()
        if self._failure is not None:
            raise self._failure
        return result  # type: ignore[return-value]  # it is a result unless there is a failure

    def stop(self, patience: float) -> bool:
        """Stop the thread; return whether it ended within `patience` seconds. May be called again."""
        self._stop.set()
        with suppress(queue.Empty):
            self._queue.get_nowait()  # the thread may be waiting for room
        self._thread.join(timeout=patience)
        return not self._thread.is_alive()

    def _wait(self) -> tuple[T | None, BaseException | None]:
        while True:
            alive = self._thread.is_alive()
            try:
                return self._queue.get(timeout=_SLICE if alive else 0.0)
            except queue.Empty:
                if not alive:
                    return None, RuntimeError(f"{self._thread.name}: the thread has ended, so there is no next result.")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                result = self._make()
            except BaseException as error:
                self._put((None, error))
                return
            self._put((result, None))

    def _put(self, item: tuple[T | None, BaseException | None]) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_SLICE)
            except queue.Full:
                continue
            return
