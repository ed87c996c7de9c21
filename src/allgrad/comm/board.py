"""A notice board in shared memory: the small messages of a node's ranks, without MPI.

Contract. All ranks of the node post messages in the same order; the message number n of every rank belongs to the same exchange.
Each rank has a ring of `RING` places in memory that all of them see. A message is written to the next place, and then the
count of messages written is published (a store with release semantics, see `kernels/atomics.py`). Whoever reads that count
sees the message. A place is used again when all ranks have published that they have read what was there.

Nothing here blocks for long: the counts are looked at for at most `spins` rounds. The caller decides what to do in between: let
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

MESSAGE = 1024
"""Bytes of a message, with the key at its beginning."""

KEY = 8
"""Bytes of a key: what a message is about, an integer."""


class Board:
    """The board of one node.

    Args:
        memory: shared by the ranks of the node, which all make their board together.

    Attributes:
        posted: how many messages this rank has posted, which is the number of the next one.
    """

    def __init__(self, memory: NodeMemory) -> None:
        from allgrad.kernels import atomics  # numba is imported when it is needed

        self._atomics = atomics
        self.rank, self.ranks = memory.rank, memory.ranks
        self._messages = 2 * self.ranks * atomics.LINE  # where they begin, after the counters
        self._bytes = memory.allocate(self._messages + RING * self.ranks * MESSAGE, np.dtype(np.uint8))
        self.posted = 0
        self._finished = 0  # messages that all ranks had read when this rank looked last

    def has_room(self) -> bool:
        """Whether the next message can be posted now."""
        wanted = self.posted - RING + 1
        if wanted > self._finished:
            if not self._atomics.reached(self._bytes, self.ranks * self._atomics.LINE, self.ranks, wanted):
                return False
            self._finished = wanted
        return True

    def post(self, key: int, payload: Array) -> int:
        """Post a message; returns its number. There must be room. `payload`: (n,) uint8."""
        place = self._place(self.posted) + self.rank * MESSAGE
        self._bytes[place : place + KEY].view(np.int64)[0] = key
        self._bytes[place + KEY : place + KEY + payload.size] = payload
        self.posted += 1
        self._atomics.publish(self._bytes, self.rank * self._atomics.LINE, self.posted)
        return self.posted - 1

    def exchange(self, key: int, payload: Array, everyone: Array, spins: int) -> bool:
        """Post a message and read those of all ranks. There must be room.

        Args:
            key, payload: this rank's message.
            everyone: (ranks, n) uint8, receives all ranks' payloads.
            spins: how often to look for the others.

        Returns:
            Whether it is done. If not, the message is posted: some ranks are late, or have other keys.
        """
        number = self.posted
        self.posted += 1
        return self._atomics.exchange(
            self._bytes, payload, everyone.reshape(-1), self.rank, self.ranks, number, self._place(number), MESSAGE, key,
            spins,
        ) == self._atomics.DONE  # fmt: skip

    def arrived(self, number: int, spins: int = 0) -> bool:
        """Whether all ranks have posted message `number`."""
        return self._atomics.reached(self._bytes, 0, self.ranks, number + 1, spins)

    def read(self, number: int, size: int) -> tuple[Array, Array]:
        """All ranks' message `number`, which have arrived: keys (ranks,) and payloads (ranks, size), valid until `done`."""
        start = self._place(number)
        rows = self._bytes[start : start + self.ranks * MESSAGE].reshape(self.ranks, MESSAGE)
        return rows[:, :KEY].copy().view(np.int64)[:, 0], rows[:, KEY : KEY + size]

    def done(self, number: int) -> None:
        """This rank has read message `number`, and all before it."""
        self._atomics.publish(self._bytes, (self.ranks + self.rank) * self._atomics.LINE, number + 1)

    def _place(self, number: int) -> int:
        return self._messages + (number % RING) * self.ranks * MESSAGE
