"""Virtual workers as threads that take turns, for layers that communicate across workers in the middle of a step.

Most models run their workers one after another. A layer such as SyncBatchNorm needs the other workers' numbers in the middle of
its forward and of its backward, so all workers of a rank must get that far before any of them can continue. Each worker is a
thread, and exactly one of them runs at any time: the program stays sequential, in a fixed order, and can be stepped
through in a debugger at any number of ranks.

A round: every worker in turn runs until it calls `all_reduce` or ends. Then the main thread sums what they
contributed over all ranks' workers, and the next round begins. The ranks agree on each round first. A worker without samples
contributes zeros. If some workers call `all_reduce` while others (with samples) have ended, all ranks raise the same error.
"""

from __future__ import annotations

import contextvars
import ctypes
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.comm import tree_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from allgrad.comm import World

Vector = np.ndarray[Any, np.dtype[np.float64]]

ENDED, EMPTY = -1, -2  # in place of the length of a contribution: the worker has ended; it has no samples
_PATIENCE = 5.0  # seconds to wait for a cancelled worker; it may be in C code


class _Cancelled(SystemExit):
    """Unwinds a worker when another one, or the main thread, has failed. `threading.excepthook` ignores a SystemExit."""


class _Thread:
    """One worker. The main thread calls `run_on` and `cancel`; the worker's own thread calls `all_reduce`."""

    def __init__(self, task: Callable[[], None], empty: bool) -> None:
        self.task, self.empty = task, empty
        self.go, self.parked = threading.Event(), threading.Event()
        self.contribution: Vector | None = None
        self.sum: Vector | None = None
        self.error: BaseException | None = None
        self.cancelled = self.ended = False
        context = contextvars.copy_context()
        self.thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def _run(self) -> None:
        try:
            self._wait()
            self.task()
        except _Cancelled:
            pass
        except BaseException as error:
            self.error = error
        self.ended = True
        self.parked.set()

    def _wait(self) -> None:
        """Wait for the turn. `cancel` sets `cancelled` before `go`, so it cannot be missed."""
        if not self.cancelled:
            self.go.wait()
        if self.cancelled:
            raise _Cancelled

    def run_on(self) -> None:
        """Give the worker its turn, and return when it has called `all_reduce` or ended."""
        if not self.thread.is_alive():
            self.thread.start()
        self.parked.clear()
        self.go.set()
        while not self.parked.wait(1.0):
            pass  # a signal that comes right before a wait does not interrupt it; it is seen when the wait ends

    def all_reduce(self, vector: Vector) -> Vector:
        """Contribute a vector, end the turn, and return the sum at the next one."""
        self.contribution = vector
        self.go.clear()
        self.parked.set()
        self._wait()
        assert self.sum is not None
        return self.sum

    def cancel(self) -> None:
        """End the thread: at once if it waits for its turn, or else at the next line of Python that it runs."""
        if not self.thread.is_alive():
            return
        self.cancelled = True
        self.go.set()
        if not self.parked.is_set():  # the main thread was interrupted while this worker computes
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.thread.ident or 0), ctypes.py_object(_Cancelled)
            )
        self.thread.join(_PATIENCE)


class WorkerThreads:
    """Runs a rank's workers so that they can communicate.

    Args:
        world: the ranks.
        virtual_workers: their number on all ranks.
        active: active(index) is entered while a worker runs: what the workers share (gradient arenas, running
            statistics) then is that worker's.
    """

    def __init__(
        self, world: World, virtual_workers: int, active: Callable[[int], AbstractContextManager[None]]
    ) -> None:
        self.world, self.virtual_workers, self.active = world, virtual_workers, active
        self._threads: list[_Thread] = []
        self._running: _Thread | None = None

    def all_reduce(self, vector: Vector) -> Vector:
        """The sum of a float64 vector over all virtual workers of all ranks, by the fixed tree. Called by a layer."""
        assert self._running is not None
        return self._running.all_reduce(np.asarray(vector, np.float64))

    def run(self, tasks: Sequence[Callable[[], None]], empty: Sequence[bool]) -> None:
        """Run the tasks, one per local worker in order of workers; `empty` says which have no samples.

        Raises what a task raises (the others are unwound), and RuntimeError if workers communicate in different ways.
        """
        self._threads = [_Thread(task, none) for task, none in zip(tasks, empty, strict=True)]
        try:
            while True:
                self._round()
                if not self._sum_round():
                    return
        finally:
            for thread in self._threads:
                thread.cancel()

    def _round(self) -> None:
        for index, thread in enumerate(self._threads):
            if thread.ended:
                continue
            with self.active(index):
                self._running = thread
                thread.run_on()
                if thread.error is not None:
                    raise thread.error

    def _sum_round(self) -> bool:
        """Sum the contributions; False when every worker of every rank has ended."""
        widths = [self._width(thread) for thread in self._threads]
        largest = max(widths)
        smallest = min((w for w in widths if w != EMPTY), default=EMPTY)
        everyone = self.world.all_gather(np.array([largest, smallest], np.int64))
        width = int(everyone[:, 0].max())
        if width < 0:
            return False
        short = [rank for rank, (_, low) in enumerate(everyone.tolist()) if low not in (EMPTY, width)]
        if short:
            raise RuntimeError(
                f"The workers of a step do not run the same layers: some gave {width} numbers to a layer that sums over workers "
                f"(SyncBatchNorm), while workers of rank {', '.join(map(str, short))} gave another number of them, or had ended. "
                "Every worker with samples must run the same layers."
            )
        rows = np.zeros((len(self._threads), width))
        for row, thread in zip(rows, self._threads, strict=True):
            if thread.contribution is not None:
                row[:] = thread.contribution
        total = tree_sum(self.world, rows, virtual_workers=self.virtual_workers)
        for thread in self._threads:
            thread.contribution, thread.sum = None, total.copy()
        return True

    @staticmethod
    def _width(thread: _Thread) -> int:
        if thread.contribution is not None:
            return len(thread.contribution)
        return EMPTY if thread.empty else ENDED
