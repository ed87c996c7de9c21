"""The pipeline of collectives: checked in the order of posting, cut into transfers, finished in that order.

The engine calls `move` while it holds its lock; only `add`, `unfinished` and `take_times` may be called from any thread.
Collectives start in the order of posting, and at most `window` of their transfers are under way: memory for incoming data is
bounded by the window and reused. All ranks start transfers in the same order, so the oldest unfinished transfer has been
started on every rank that has posted its collective, and the window cannot deadlock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import desync
from .requests import RequestPool, Running
from .transport import Lane, Times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .board import Board
    from .transport import Collective, Handle, Transfer
    from .tree import Array

_TAGS = 1 << 14  # tags are reused after so many transfers: more than can be under way, below MPI's guaranteed bound


class Communicators(NamedTuple):
    """For data, for the hashes of the desync check, and for the words that follow when hashes differ."""

    data: Any
    checks: Any
    details: Any


@dataclass(eq=False)
class Pending:
    """A posted collective, and how far it has come."""

    collective: Collective
    handle: Handle
    ready: float
    number: int = -1
    message: int | None = None  # its number on the notice board, once it is there
    posted: float = 0.0
    progress: float | None = None
    check: Running | None = None
    transfers: Iterator[Callable[[Lane], Transfer]] = field(default_factory=lambda: iter(()))
    exhausted: bool = False
    live: int = 0

    def describe(self) -> str:
        """The collective in words, for a report."""
        return desync.describe(self.collective, self.number)

    @property
    def complete(self) -> bool:
        """Whether every transfer has been started and has ended."""
        return self.exhausted and not self.live


class _Active(NamedTuple):
    """A transfer under way, and its place in the window."""

    pending: Pending
    slot: int
    running: Running


class Pipeline:
    """All collectives that are posted and not finished.

    Args:
        communicators: duplicates of the world's; None for a single rank.
        window: the number of transfers under way.
        record: keep the `Times` of every collective.
        check: exchange hashes before each collective.
        offset: what to add to `time.perf_counter()` to get rank 0's clock.

    Attributes:
        posted, finished, moves: how many collectives were posted and finished, and how often a transfer moved.
        error: what has failed the pipeline.
        board: where ranks agree if all of them are on one node and share memory; None: by messages.
    """

    def __init__(
        self, communicators: Communicators | None, *, window: int, record: bool, check: bool, offset: float
    ) -> None:
        self.communicators = communicators or Communicators(None, None, None)
        self.board: Board | None = None
        self.record, self.offset = record, offset
        self.size = 1 if communicators is None else communicators.data.Get_size()
        self.check = check and self.size > 1
        self.error: BaseException | None = None
        self.posted = self.finished = self.moves = 0
        self._posting = threading.Lock()  # guards the numbers of collectives
        self._inbox: deque[Pending] = deque()
        self._queue: deque[Pending] = deque()
        self._pool = RequestPool()
        self._active: list[_Active] = []
        self._scratch = [np.empty(0, np.uint8) for _ in range(window)]
        self._free = list(range(window))
        self._tag = 0
        self._times: deque[Times] = deque(maxlen=100_000)

    @property
    def room(self) -> int:
        """Bytes of a collective's data that can travel with its check."""
        return desync.room(self.size) if self.board is None else self.board.room

    def clock(self) -> float:
        """Seconds on rank 0's clock."""
        return time.perf_counter() + self.offset

    def add(self, collective: Collective, handle: Handle, message: int | None = None) -> Pending:
        """Post a collective; `take_in` begins it. `message`: its number on the notice board, if it is there already."""
        ready = self.clock() if collective.ready is None else collective.ready
        pending = Pending(collective, handle, ready, message=message, transfers=collective.transfers)
        with self._posting:
            pending.number = self.posted
            self.posted += 1
            self._inbox.append(pending)
        return pending

    def count_finished(self, pending: Pending | None = None, number: int = 1) -> None:
        """Collectives were finished elsewhere: some that were not added, while nothing was under way, or the oldest one."""
        with self._posting:
            if pending is None:
                self.posted += number
            else:
                (self._queue or self._inbox).popleft()
                pending.handle.event.set()
            self.finished += number

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, and nothing has failed."""
        return not self._queue and not self._inbox and self.error is None

    def needs_polling(self) -> bool:
        """Whether anything is under way beside one message on the board, for which its reader will look."""
        oldest = self.unfinished()
        if oldest is None:
            return False
        only = len(self._queue) + len(self._inbox) == 1
        return not (only and oldest.message is not None and not oldest.exhausted)

    def unfinished(self) -> Pending | None:
        """The oldest collective that is not finished."""
        try:
            return self._queue[0] if self._queue else self._inbox[0] if self._inbox else None
        except IndexError:  # another thread was quicker
            return None

    @property
    def requests(self) -> list[Any]:
        """The MPI requests under way."""
        return self._pool.requests

    def take_times(self) -> list[Times]:
        """The times of the collectives finished since the last call, oldest first."""
        taken = []
        while self._times:
            taken.append(self._times.popleft())
        return taken

    def move(self) -> bool:
        """Move everything as far as it goes without blocking; returns whether anything moved.

        Raises:
            DesyncError: the ranks posted different collectives.
        """
        moved = self.take_in()
        if self.error is None:
            self._pool.test()
            moved |= self._advance_checks()
            moved |= self._start_transfers()
            moved |= self._advance_transfers()
        return moved

    def take_in(self) -> bool:
        """Begin what was posted: its check is sent."""
        if self.error is not None:
            return self._drop()
        taken = False
        while self._inbox:
            pending = self._inbox[0]
            pending.posted = self.clock()
            if self.check:
                checking = self._checking(pending)
                if checking is None:
                    break
                pending.check = self._pool.start(checking)
                if pending.collective.payload is not None and pending.collective.payload.size <= self.room:
                    pending.transfers = iter(())
            self._queue.append(self._inbox.popleft())
            taken = True
        return taken

    def _checking(self, pending: Pending) -> Transfer | None:
        """The check of a collective, begun; None if there is no room for it now."""
        _, checks, details = self.communicators
        if self.board is None:
            return desync.agree(checks, details, self.size, pending.collective, pending.number)
        if pending.message is None:
            if not self.board.has_room():
                return None
            pending.message = desync.post(self.board, pending.collective)
        return desync.agree_on_board(
            self.board, pending.message, details, self.size, pending.collective, pending.number
        )

    def _advance_checks(self) -> bool:
        moved = False
        for pending in self._queue:
            if pending.check is None:
                continue
            moved |= self._pool.resume(pending.check)
            if not pending.check.ended:
                return moved  # in order, so that all ranks find the same first difference
            pending.check = None
        return moved

    def _start_transfers(self) -> bool:
        moved = False
        for pending in self._queue:
            while not pending.exhausted:
                if not self._free or pending.check is not None:
                    return moved
                make = next(pending.transfers, None)
                if make is None:
                    pending.exhausted = True
                    break
                slot, self._tag = self._free.pop(), (self._tag + 1) % _TAGS
                running = self._pool.start(make(Lane(self.communicators.data, self._tag, self._memory(slot))))
                self._active.append(_Active(pending, slot, running))
                pending.live += 1
                moved = True
        return moved

    def _advance_transfers(self) -> bool:
        moved = False
        for active in list(self._active):
            pending, running = active.pending, active.running
            if not self._pool.resume(running) and not running.ended:
                continue
            moved = True
            self.moves += 1
            if pending.progress is None and self.record:
                pending.progress = self.clock()
            if running.ended:
                self._active.remove(active)
                self._free.append(active.slot)
                pending.live -= 1
        while self._queue and self._queue[0].complete:
            self._finish(self._queue.popleft())
            moved = True
        return moved

    def _memory(self, slot: int) -> Callable[[int, np.dtype[Any]], Array]:
        """Memory for incoming data, one piece for each place in the window. It grows as needed and is reused."""

        def scratch(size: int, dtype: np.dtype[Any]) -> Array:
            nbytes = size * dtype.itemsize
            if self._scratch[slot].size < nbytes:
                self._scratch[slot] = np.empty(nbytes, np.uint8)
            return self._scratch[slot][:nbytes].view(dtype)

        return scratch

    def _finish(self, pending: Pending) -> None:
        if self.record:
            done = self.clock()
            progress = done if pending.progress is None else pending.progress
            posted = pending.collective
            times = Times(posted.label, posted.step, posted.nbytes, pending.ready, pending.posted, progress, done)
            pending.handle.times = times
            self._times.append(times)
        self.finished += 1
        pending.handle.event.set()

    def fail(self, error: BaseException) -> None:
        """Nothing can be communicated any more: everyone who waits or submits gets the first error."""
        if self.error is None:
            self.error = error
        self._drop()

    def _drop(self) -> bool:
        dropped = False
        while self._queue or self._inbox:
            pending = (self._queue or self._inbox).popleft()
            pending.handle.error = self.error
            pending.handle.event.set()
            dropped = True
        return dropped
