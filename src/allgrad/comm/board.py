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

LATE, DIFFERENT, READ, FULL = 0, 1, 2, 3
"""What `Board.collect` and `Board.exchange` return, as in `kernels/atomics.py`."""

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

        self._atomics = atomics
        self._exchange, self._sum_up = atomics.compiled_exchange(), shared_sums.compiled()
        self.rank, self.ranks = memory.rank, memory.ranks
        self._size = max(_SMALLEST, min(_LARGEST, _TOGETHER // self.ranks) // atomics.LINE * atomics.LINE)
        self.room = self._size - KEY
        first = 2 * self.ranks * atomics.LINE  # where messages begin, after the counters
        self._bytes = memory.allocate(first + RING * self.ranks * self._size, np.dtype(np.uint8))
        self._state = np.zeros(atomics.STATE, np.int64)
        self._state[: atomics.READ] = self.rank, self.ranks, RING, first, self._size
        self.posted = 0

    def has_room(self) -> bool:
        """Whether a message can be posted now."""
        return self._atomics.has_room(self._bytes, self._state, self.posted)

    def post(self, key: int, payload: Array) -> int:
        """Post a message; returns its number. There must be room for it. `payload`: (n,) uint8, at most `room`."""
        number = self.posted
        self.posted += 1
        self._atomics.post(self._bytes, self._state, number, key, payload)
        return number

    def collect(self, number: int, key: int, everyone: Array, spins: int) -> int:
        """Read message `number` of all ranks, and note that this rank has read it.

        Args:
            number: what `post` returned; the messages before it have been read.
            key: this rank's.
            everyone: (ranks * n,) uint8, receives all ranks' payloads.
            spins: how often to look for the others.

        Returns:
            `READ`; or `LATE` or `DIFFERENT` (another rank has another key), and then it is still to be read.
        """
        return self._atomics.collect(self._bytes, self._state, number, key, everyone, spins)

    def exchange(self, key: int, payload: Array, everyone: Array, spins: int, rounds: int) -> int:
        """`post` and then `collect`, in one compiled call that gives up the core `rounds` times if others are late.

        The message's number is `posted` before the call. Returns what `collect` returns, or `FULL`: nothing is posted.
        """
        found = self._exchange(self._bytes, self._state, self.posted, key, payload, everyone, spins, rounds)
        if found != FULL:
            self.posted += 1
        return found

    def sum_up(self, key: int, additions: Array, spins: int, rounds: int) -> tuple[int, float, float]:
        """Two exchanges of empty messages, and additions in shared memory between them; see `kernels/shared_sums.py`.

        The messages' numbers are `posted` before the call, and the next one. Returns how many of the two are exchanged; the one
        after that is posted. Or `FULL`: nothing is posted. And when all ranks had come, and when all had added.
        """
        found = self._sum_up(self._bytes, self._state, self.posted, key, additions, spins, rounds)
        if found[0] != FULL:
            self.posted += 2 if found[0] else 1
        return found

    def arrived(self, number: int, spins: int = 0) -> bool:
        """Whether all ranks have posted message `number`."""
        return self._atomics.reached(self._bytes, 0, self.ranks, number + 1, spins)

    def read(self, number: int, size: int) -> tuple[Array, Array]:
        """All ranks' message `number`, which have arrived: keys (ranks,) and payloads (ranks, size), valid until `done`."""
        start = 2 * self.ranks * self._atomics.LINE + (number % RING) * self.ranks * self._size
        rows = self._bytes[start : start + self.ranks * self._size].reshape(self.ranks, self._size)
        return rows[:, :KEY].copy().view(np.int64)[:, 0], rows[:, KEY : KEY + size]

    def done(self, number: int) -> None:
        """This rank has read message `number`, and all before it."""
        self._atomics.publish(self._bytes, (self.ranks + self.rank) * self._atomics.LINE, number + 1)
