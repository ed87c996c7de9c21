"""A network without MPI: messages between ranks that live in one process, delivered in any order that MPI allows."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np


@dataclass
class Request:
    """A pending operation on a buffer; complete when the network says so."""

    buffer: np.ndarray
    into: np.ndarray | None = None
    complete: bool = False

    def Test(self):
        return self.complete

    @classmethod
    def Testsome(cls, requests):
        return [i for i, request in enumerate(requests) if request.complete]


class Network:
    """Carries what its communicators post; `deliver` completes one operation that can be completed.

    A message is read from its sender's memory and written into its receiver's at the moment of delivery, so that a
    buffer that is changed too early, or read too early, shows. Between two ranks on one tag the order of sending is
    kept.
    """

    def __init__(self, size):
        self.comms = [Comm(self, rank) for rank in range(size)]
        self.sends = defaultdict(deque)
        self.receives = defaultdict(deque)
        self.gathers = defaultdict(dict)

    def deliver(self, choose):
        """Complete one operation, picked by `choose` from a list; False where there is none to complete."""
        messages = [key for key in self.sends if self.sends[key] and self.receives[key]]
        gathers = [number for number, posted in self.gathers.items() if len(posted) == len(self.comms)]
        if not messages and not gathers:
            return False
        chosen = choose(messages + gathers)
        if chosen in gathers:
            posted = self.gathers.pop(chosen)
            rows = [posted[rank].buffer.copy().reshape(-1) for rank in range(len(self.comms))]
            for request in posted.values():
                request.into.reshape(len(rows), -1)[:] = rows
                request.complete = True
            return True
        sent, received = self.sends[chosen].popleft(), self.receives[chosen].popleft()
        assert sent.buffer.size == received.buffer.size, "a message of another length than its receiver expects"
        received.buffer[:] = sent.buffer
        sent.complete = received.complete = True
        return True


class Comm:
    """The calls of an MPI communicator that the state machines make."""

    def __init__(self, network, rank):
        self.network, self.rank, self.count = network, rank, 0

    def Get_size(self):
        return len(self.network.comms)

    def Isend(self, buffer, to, tag):
        request = Request(buffer)
        self.network.sends[self.rank, to, tag].append(request)
        return request

    def Irecv(self, buffer, source, tag):
        request = Request(buffer)
        self.network.receives[source, self.rank, tag].append(request)
        return request

    def Iallgather(self, mine, everyone):
        request = Request(mine, everyone)
        self.count += 1
        self.network.gathers[self.count][self.rank] = request
        return request


@pytest.fixture(scope="session")
def make_network():
    """make_network(size) -> Network, with a communicator for each rank in `comms`"""
    return Network
