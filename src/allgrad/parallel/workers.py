"""Virtual workers that meet in a layer: threads that pass a baton.

Most models run their workers one after another. A layer in which workers meet (SyncBatchNorm) needs the others' numbers in the
middle of its forward and of its backward, so a rank's workers must all get that far before any can go on. Each runs as a thread,
of which exactly one holds the baton and moves: the program stays sequential, in a fixed order, and can be stepped through in a
debugger at any rank count.

A round: every worker in turn runs until it meets (`meet`), or ends. When all have, the thread that owns the round sums what they
brought over all ranks' workers, and the next round begins. The ranks agree on each round first: a worker without samples brings
zeros, and where some workers meet while others (with samples) have ended, all ranks raise the same error.
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.comm import tree_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allgrad.comm import World

Vector = np.ndarray[Any, np.dtype[np.float64]]

ENDED, EMPTY = -1, -2  # in place of a width: a worker that has ended, one that has no samples


class _Cancelled(BaseException):
    """Unwinds a parked worker when another one has failed."""


class _Thread:
    """One worker, and whether it has the baton."""

    def __init__(self, task: Callable[[], None], empty: bool) -> None:
        self.task, self.empty = task, empty
        self.go, self.parked = threading.Event(), threading.Event()
        self.brought: Vector | None = None
        self.received: Vector | None = None
        self.error: BaseException | None = None
        self.cancelled = self.ended = False
        context = contextvars.copy_context()
        self.thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)

    def _run(self) -> None:
        self.go.wait()
        try:
            if not self.cancelled:
                self.task()
        except _Cancelled:
            pass
        except BaseException as error:
            self.error = error
        self.ended = True
        self.parked.set()

    def move(self) -> None:
        """Give it the baton, and return when it has met or ended."""
        if not self.thread.is_alive():
            self.thread.start()
        self.parked.clear()
        self.go.set()
        self.parked.wait()

    def park(self, vector: Vector) -> Vector:
        """On its own thread: bring a vector, give the baton back, and go on with the sum."""
        self.brought = vector
        self.go.clear()
        self.parked.set()
        self.go.wait()
        if self.cancelled:
            raise _Cancelled
        assert self.received is not None
        return self.received


class Meeting:
    """Runs a rank's workers so that they can meet.

    Args:
        world: the ranks.
        virtual_workers: their number on all ranks.
        switch: called as switch(position) before a worker moves: what is shared between the workers (gradient arenas,
            running statistics) becomes that worker's.
    """

    def __init__(self, world: World, virtual_workers: int, switch: Callable[[int], None]) -> None:
        self.world, self.virtual_workers, self.switch = world, virtual_workers, switch
        self._threads: list[_Thread] = []
        self._moving: _Thread | None = None

    def meet(self, vector: Vector) -> Vector:
        """The sum of a float64 vector over all virtual workers of all ranks, by the fixed tree. Called by a layer."""
        assert self._moving is not None
        return self._moving.park(np.asarray(vector, np.float64))

    def run(self, tasks: Sequence[Callable[[], None]], empty: Sequence[bool]) -> None:
        """Run the tasks, one a local worker in order of workers; `empty` says which have no samples.

        Raises what a task raises (the others are unwound), and RuntimeError where workers do not meet alike.
        """
        self._threads = [_Thread(task, none) for task, none in zip(tasks, empty, strict=True)]
        try:
            while True:
                self._round()
                if not self._sum_round():
                    return
        finally:
            self._cancel()

    def _round(self) -> None:
        for position, thread in enumerate(self._threads):
            if thread.ended:
                continue
            self.switch(position)
            self._moving = thread
            thread.move()
            if thread.error is not None:
                raise thread.error

    def _sum_round(self) -> bool:
        """Sum what was brought; False when every worker of every rank has ended."""
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
                f"Workers do not meet alike: some brought {width} numbers to a layer that sums over workers (SyncBatchNorm), "
                f"and workers of rank {', '.join(map(str, short))} brought another number, or had ended. "
                "Every worker with samples must run the same layers."
            )
        rows = np.zeros((len(self._threads), width))
        for row, thread in zip(rows, self._threads, strict=True):
            if thread.brought is not None:
                row[:] = thread.brought
        total = tree_sum(self.world, rows, virtual_workers=self.virtual_workers)
        for thread in self._threads:
            thread.brought, thread.received = None, total.copy()
        return True

    @staticmethod
    def _width(thread: _Thread) -> int:
        if thread.brought is not None:
            return len(thread.brought)
        return EMPTY if thread.empty else ENDED

    def _cancel(self) -> None:
        for thread in self._threads:
            if thread.thread.is_alive():
                thread.cancelled = True
                thread.go.set()
                thread.thread.join()
