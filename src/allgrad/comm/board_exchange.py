"""Small messages past the pipeline: all ranks of a node give each other a few bytes at once, through the notice board.

The calling thread posts the message and looks for those of the others, without MPI and without the communication thread. This is
for when nothing else is under way. If the other ranks do not come within a millisecond, the message takes its turn in the
pipeline, like any collective, where the stall monitor watches it. Each rank may choose by itself between the two ways, since
both use the same messages on the board.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .board import FULL, LATE, NO_BYTES, READ
from .transport import Collective, Handle

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from .board import Board
    from .desync import Kind
    from .pipeline import Pending, Pipeline
    from .transport import Transport
    from .tree import Array

# How often to look at the notice board before this rank gives up its core for a moment, and how often to do that: for a
# millisecond or two. Then the message waits in the pipeline, where a sleeping rank costs the others nothing.
_AT_ONCE = 10_000, 50  # some 30 us: the other ranks have cores of their own
_IN_TURNS = 50, 150  # where ranks outnumber cores


class BoardExchange:
    """The quick way for small messages.

    Args:
        transport: the engine, which is waited for if the quick way is too slow.
        pipeline: the engine's.
        lock: whoever holds it moves collectives.
    """

    def __init__(self, transport: Transport, pipeline: Pipeline, lock: threading.Lock) -> None:
        self._transport, self._pipeline, self._lock = transport, pipeline, lock

    @property
    def _looks(self) -> tuple[int, int]:
        """How often to look before giving up the core, and how often to do that."""
        return _IN_TURNS if self._transport.topology.oversubscribed else _AT_ONCE

    def exchange(self, kind: Kind, payload: Array) -> Array | None:
        """Give all ranks each other's few bytes at once, through the notice board, on the calling thread.

        It skips the pipeline if nothing else is under way and the other ranks come within a millisecond. Otherwise it takes its
        turn there, like any collective.

        Args:
            kind: what it is.
            payload: (n,) uint8.

        Returns:
            (ranks * n,) uint8; None if there is no board, or something else is under way: then it has to be submitted.
        """
        board, pipeline = self._pipeline.board, self._pipeline
        if board is None or payload.size > board.room:
            return None
        everyone = np.empty(board.ranks * payload.size, np.uint8)
        with self._lock:
            if not pipeline.idle:
                return None
            number = board.posted
            found = board.exchange(kind.key, payload, everyone, *self._looks)
            if found == READ:
                pipeline.count_finished()
                return everyone
            if found == FULL:
                return None
            handle = self._enqueue(kind.what, payload, everyone, number).handle
        handle.wait()
        return everyone

    def exchange_later(self, kind: Kind, payload: Array) -> Callable[[], Array] | None:
        """As `exchange`, but only post; call the result to get all ranks' bytes. Between the two anything else may be posted."""
        board, pipeline = self._pipeline.board, self._pipeline
        if board is None or payload.size > board.room:
            return None
        everyone = np.empty(board.ranks * payload.size, np.uint8)
        with self._lock:
            if not pipeline.idle or not board.has_room():
                return None
            number = board.post(kind.key, payload)
            pending = self._enqueue(kind.what, payload, everyone, number)

        def fetch() -> Array:
            if not pending.handle.done:
                with self._lock:
                    if pipeline.unfinished() is pending and self._collected(board, number, kind.key, everyone):
                        pipeline.count_finished(pending)
            pending.handle.wait()
            return everyone

        return fetch

    def sum_up(self, kind: Kind, additions: Array, barrier: Callable[[Kind], None]) -> tuple[float, float]:
        """Return when every rank has called this, and then has made its additions in shared memory.

        Args:
            kind: what is added up.
            additions: those of this rank; see `kernels/shared_sums.py`.
            barrier: returns when every rank has called it; for ranks whose board cannot be used now.

        Returns:
            When all ranks had come, and when all had added: seconds on rank 0's clock.
        """
        board, pipeline, done, began = self._pipeline.board, self._pipeline, FULL, 0.0
        if board is not None:
            with self._lock:
                if pipeline.idle:
                    number = board.posted
                    done, began, ended = board.sum_up(kind.key, additions, *self._looks)
                    if done == 2:
                        pipeline.count_finished(number=2)
                        return began + pipeline.offset, ended + pipeline.offset
                    if done != FULL:
                        pipeline.count_finished(number=done)
                        handle = self._enqueue(kind.what, NO_BYTES, np.empty(0, np.uint8), number + done).handle
        if done == 1:
            handle.wait()
            return began + pipeline.offset, pipeline.clock()
        from allgrad.kernels import shared_sums

        barrier(kind) if done == FULL else handle.wait()
        began = pipeline.clock()
        shared_sums.add_up(additions)
        barrier(kind)
        return began, pipeline.clock()

    def _collected(self, board: Board, number: int, key: int, everyone: Array) -> bool:
        """Whether all ranks' messages have been read; waits for some time, and lets other processes run meanwhile."""
        spins, rounds = self._looks
        for _ in range(rounds):
            found = board.collect(number, key, everyone, spins)
            if found != LATE:
                return found == READ
            os.sched_yield()
        return False

    def _enqueue(self, what: dict[str, str], payload: Array, everyone: Array, number: int) -> Pending:
        """Put a message that is on the board already into the pipeline. Its answer is the caller's `everyone`."""
        collective = Collective(
            what,
            iter(()),
            payload.size,
            label=what["collective"],
            payload=payload,
            arrived=partial(np.copyto, everyone.reshape(self._transport.topology.size, -1)),
        )
        return self._pipeline.add(collective, Handle(self._transport, ()), number)
