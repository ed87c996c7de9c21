"""Transfers under way and the MPI requests they wait for: one call tests all requests, instead of one call each.

A transfer (see `transport.py`) is a generator that yields the requests it waits for. `RequestPool` keeps the requests of all
transfers in one list. One call on that list (`Testsome`) advances the MPI library once and releases Python's lock once. A `Test`
for each request would do both once per request; and if the main thread is busy in Python, getting the lock back takes up to
a switch interval each time.

The library moves a limited amount per call (over TCP, a few segments), and does not say whether it moved anything before a
whole message is complete. But the time shows it: a call that finds nothing takes a microsecond, one that copies bytes takes
several. So `test` repeats the call as long as it was busy. It then empties the sockets in one go, and the caller can sleep
longer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .transport import Transfer

_BUSY = 5e-6  # seconds: a call that takes longer has moved bytes
_CALLS = 16  # at most so many per round, because the caller has other duties


@dataclass(eq=False)
class Running:
    """A transfer under way: how many of its requests are incomplete, and whether it has ended."""

    transfer: Transfer
    pending: int = 0
    ended: bool = False


class RequestPool:
    """The requests of all transfers under way. Only the holder of the engine's lock uses it."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self._owners: list[Running] = []

    def start(self, transfer: Transfer) -> Running:
        """Run a transfer up to its first requests."""
        running = Running(transfer)
        self.resume(running)
        return running

    def test(self) -> None:
        """Find completed requests. The transfers that they belong to can be resumed afterwards."""
        for _ in range(_CALLS if self.requests else 0):
            start = time.perf_counter()
            complete = type(self.requests[0]).Testsome(self.requests)
            if complete:
                self._take(complete)
                return
            if time.perf_counter() - start < _BUSY:
                return

    def _take(self, complete: list[int]) -> None:
        for i in complete:
            self._owners[i].pending -= 1
        left = sorted(set(range(len(self.requests))).difference(complete))
        self.requests = [self.requests[i] for i in left]
        self._owners = [self._owners[i] for i in left]

    def resume(self, running: Running) -> bool:
        """Run a transfer as far as its completed requests allow; returns whether it moved. Raises what the transfer raises."""
        moved = False
        while not running.pending and not running.ended:
            try:
                # A sum that overflows is for the trainer to detect; it must not end the communication thread.
                with np.errstate(all="ignore"):
                    requests = next(running.transfer)
            except StopIteration:
                running.ended = True
                return True
            if requests is None:  # it waits for other ranks' shared memory
                return moved
            moved = True
            running.pending = len(requests)
            self.requests += requests
            self._owners += [running] * len(requests)
        return moved
