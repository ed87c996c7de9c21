"""A notice board in shared memory: the small messages of a node's ranks, without MPI.

Contract. All ranks of the node post messages in the same order; the message number n of every rank belongs to the same exchange.
Each rank has a ring of `RING` places in memory that all of them see. A message is written to the next place, and then the
count of messages written is published (a store with release semantics, see `kernels/atomics.py`). Whoever reads that count
sees the message. A place is used again when all ranks have published that they have read what was there.

Nothing here blocks for long: the counts are looked at for at most `spins` times. The caller decides what to do in between: let
other threads run, give up the core, watch for stalls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .node_memory import NodeMemory
    from .tree import Array

RING = 16
"""Messages of a rank that can be under way."""

LATE, DIFFERENT, READ = 0, 1, 2
"""What `Board.collect` returns, as in `kernels/atomics.py`."""

NO_BYTES = np.empty(0, np.uint8)

KEY = 8
"""Bytes of a key, with which a message begins: what it is about, an integer."""

_LARGEST, _SMALLEST, _TOGETHER = 1 << 14, 1 << 10, 1 << 18  # bytes of a message, and of all ranks' messages


class Board:
    """The board of one node.

    Args:
        memory: shared by the ranks of the node, which all make their board together.

    Attributes:
        posted: how many messages this rank has posted, which is the number of the next one.
        room: bytes of the largest payload: 16 KiB, less if there are many ranks.
    """

    def __init__(self, memory: NodeMemory) -> None:
        from allgrad.kernels import atomics, shared_sums  # numba is imported when it is needed

        self._atomics, self._exchange, self._sum_up = atomics, atomics.exchange, shared_sums.sum_up
        self.rank, self.ranks = memory.rank, memory.ranks
        self._size = max(_SMALLEST, min(_LARGEST, _TOGETHER // self.ranks) // atomics.LINE * atomics.LINE)
        self.room = self._size - KEY
        self._messages = 2 * self.ranks * atomics.LINE  # where they begin, after the counters
        self._bytes = memory.allocate(self._messages + RING * self.ranks * self._size, np.dtype(np.uint8))
        self._began = np.zeros(2, np.int64)
        self.posted = 0
        self._finished = 0  # messages that all ranks are known to have read

    def has_room(self, messages: int = 1) -> bool:
        """Whether so many messages can be posted now."""
        wanted = self.posted - RING + messages
        if wanted > self._finished:
            for finished in (wanted + RING // 2, wanted):  # ranks are mostly in step: then it is known for some time
                if self._atomics.reached(self._bytes, self.ranks * self._atomics.LINE, self.ranks, finished):
                    self._finished = finished
                    return True
            return False
        return True

    def post(self, key: int, payload: Array) -> int:
        """Post a message; returns its number. There must be room for it. `payload`: (n,) uint8, at most `room`."""
        number, line = self.posted, self._atomics.LINE
        self.posted += 1
        place = self._place(number) + self.rank * self._size
        self._atomics.post(self._bytes, payload, self.rank * line, number, place, key)
        return number

    def collect(self, number: int, key: int, everyone: Array, spins: int) -> int:
        """Read message `number` of all ranks, and note that this rank has read it.

        Args:
            number: what `post` returned; the messages before it have been read.
            key: this rank's.
            everyone: (ranks, n) uint8, receives all ranks' payloads.
            spins: how often to look for the others.

        Returns:
            `READ`; or `LATE` or `DIFFERENT` (another rank has another key), and then it is still to be read.
        """
        return self._atomics.collect(
            self._bytes,
            everyone.reshape(-1),
            self.rank,
            self.ranks,
            number,
            self._place(number),
            self._size,
            key,
            spins,
        )

    def exchange(self, key: int, payload: Array, everyone: Array, spins: int, rounds: int) -> int:
        """`post` and then `collect`, in one compiled call that gives up the core `rounds` times if others are late.

        The message's number is `posted` before the call. Returns what `collect` returns.
        """
        number = self.posted
        self.posted += 1
        return self._exchange(
            self._bytes, payload, everyone.reshape(-1), self.rank, self.ranks, number, self._place(number), self._size,
            key, spins, rounds,
        )  # fmt: skip

    def sum_up(self, key: int, additions: Array, spins: int, rounds: int) -> int:
        """Two exchanges of empty messages, and additions in shared memory between them; see `kernels/shared_sums.py`.

        The messages' numbers are `posted` before the call, and the next one. Returns how many of the two are exchanged; the one
        after that is posted.
        """
        number = self.posted
        done: int = self._sum_up(
            self._bytes, NO_BYTES, self.rank, self.ranks, number, self._place(number), self._place(number + 1),
            self._size, key, spins, rounds, additions, self._began.view(np.uint8),
        )  # fmt: skip
        self.posted += min(done + 1, 2)
        return done

    @property
    def began(self) -> float:
        """When all ranks had come to the last `sum_up`, on the clock of `time.perf_counter`."""
        seconds, nanoseconds = self._began.tolist()
        return float(seconds + nanoseconds * 1e-9)

    def arrived(self, number: int, spins: int = 0) -> bool:
        """Whether all ranks have posted message `number`."""
        return self._atomics.reached(self._bytes, 0, self.ranks, number + 1, spins)

    def read(self, number: int, size: int) -> tuple[Array, Array]:
        """All ranks' message `number`, which have arrived: keys (ranks,) and payloads (ranks, size), valid until `done`."""
        start = self._place(number)
        rows = self._bytes[start : start + self.ranks * self._size].reshape(self.ranks, self._size)
        return rows[:, :KEY].copy().view(np.int64)[:, 0], rows[:, KEY : KEY + size]

    def done(self, number: int) -> None:
        """This rank has read message `number`, and all before it."""
        self._atomics.publish(self._bytes, (self.ranks + self.rank) * self._atomics.LINE, number + 1)

    def _place(self, number: int) -> int:
        return self._messages + (number % RING) * self.ranks * self._size
