"""Parts under way, and what MPI still owes them: one look at all their requests instead of one at each.

A part (see `collectives.py`) is a generator that yields the requests it waits for. `Flight` keeps the requests of all
parts in one list, because a look at that list (`Testsome`) makes the library's progress once and lets go of Python's
lock once, where a `Test` for each request does both as often as there are requests; and beside a main thread busy in
Python, getting the lock back costs up to a switch interval each time.

The library moves only so much a look (over TCP, a few segments), and does not say whether it moved anything before a
whole message is there. But time says it: a look that finds nothing takes a microsecond, one that copies bytes several.
So `test` looks again while a look was busy. It empties the sockets in one go, and whoever polls can sleep longer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .collectives import Part

_BUSY = 5e-6  # seconds: a look that takes longer has moved bytes
_LOOKS = 16  # at most so many a round, so that whoever makes them keeps other duties


@dataclass(eq=False)
class Running:
    """A part under way: how many of its requests are not complete, and whether it has ended."""

    part: Part
    pending: int = 0
    ended: bool = False


class Flight:
    """The requests of all parts under way. Used by whoever holds the engine's lock."""

    def __init__(self) -> None:
        self._requests: list[Any] = []
        self._owners: list[Running] = []

    def start(self, part: Part) -> Running:
        """Run a part up to its first requests."""
        running = Running(part)
        self.resume(running)
        return running

    def test(self) -> None:
        """Find requests that are complete; the parts that they belong to can be resumed after it."""
        for _ in range(_LOOKS if self._requests else 0):
            start = time.perf_counter()
            complete = type(self._requests[0]).Testsome(self._requests)
            if complete:
                self._take(complete)
                return
            if time.perf_counter() - start < _BUSY:
                return

    def _take(self, complete: list[int]) -> None:
        for i in complete:
            self._owners[i].pending -= 1
        left = sorted(set(range(len(self._requests))).difference(complete))
        self._requests = [self._requests[i] for i in left]
        self._owners = [self._owners[i] for i in left]

    def resume(self, running: Running) -> bool:
        """Take a part as far as its complete requests allow; whether it moved. What the part raises comes from here."""
        moved = False
        while not running.pending and not running.ended:
            moved = True
            try:
                # A sum that overflows is the trainer's to find, not the communication thread's to die of.
                with np.errstate(all="ignore"):
                    requests = next(running.part)
            except StopIteration:
                running.ended = True
                break
            running.pending = len(requests)
            self._requests += requests
            self._owners += [running] * len(requests)
        return moved
