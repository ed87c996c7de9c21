"""The interface between those who post collectives and the engine that moves them.

A `Collective` says what is to be done. It is cut into transfers: generators that yield lists of MPI requests and are resumed
when these are complete. `Transport.submit` returns a `Handle`, and `Handle.wait` returns when the result is there.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from .topology import Topology
    from .tree import Array

Transfer = Generator[list[Any] | None, None, None]
"""One chunk of a collective under way. It yields the requests that it waits for, or None to be resumed in the next round, and
never blocks."""


class Lane(NamedTuple):
    """What a transfer is given to work with.

    Attributes:
        comm: the communicator for data.
        tag: for messages between two ranks; no other transfer under way uses it.
        scratch: scratch(elements, dtype) returns memory for incoming data. It is valid until the transfer ends.
    """

    comm: Any
    tag: int
    scratch: Callable[[int, np.dtype[Any]], Array]


class Times(NamedTuple):
    """When the data of a collective were final, when it was posted, first moved and done: seconds on rank 0's clock."""

    label: str
    step: int
    nbytes: int
    ready: float
    posted: float
    progress: float
    done: float


@dataclass(frozen=True)
class Collective:
    """One collective operation, ready to be posted.

    Attributes:
        what: all that must be equal on all ranks, name -> value. `what["collective"]` is its kind.
        transfers: makes the transfers, one for each chunk, each to be called with its lane.
        nbytes: the size of the data.
        label, step: names the bucket and the training step in reports; step -1: it belongs to no step.
        ready: when the data became final, on the transport's clock; None: when it is posted.
        payload: (n,) uint8. If it fits into the message of the desync check (`Transport.room`), it may travel there, and
            `transfers` is not used.
        arrived: called with all ranks' payloads, (ranks, n) uint8.
        guard: arrays that are read-only until `Handle.wait`.
    """

    what: dict[str, str]
    transfers: Iterator[Callable[[Lane], Transfer]]
    nbytes: int
    label: str = ""
    step: int = -1
    ready: float | None = None
    payload: Array | None = None
    arrived: Callable[[Array], None] | None = None
    guard: Sequence[Array] = ()


class Handle:
    """A posted collective. Its arrays are read-only until `wait`."""

    def __init__(self, transport: Transport, guard: Sequence[Array]) -> None:
        self.transport = transport
        self.event = threading.Event()
        self.error: BaseException | None = None
        self.times: Times | None = None  # once it is done, if the engine records times
        self._guarded = [array for array in guard if array.flags.writeable]
        for array in self._guarded:
            array.flags.writeable = False

    @property
    def done(self) -> bool:
        """Whether `wait` would return (or raise) at once."""
        return self.event.is_set()

    def wait(self) -> None:
        """Return when the result is there; the arrays then belong to the caller again. Raises what went wrong."""
        if not self.event.is_set():
            self.transport.wait_for(self)
        if self.error is not None:
            raise self.error
        self.release()

    @property
    def guards(self) -> bool:
        """Whether arrays are read-only because of this handle."""
        return bool(self._guarded)

    def release(self) -> None:
        """Give the arrays back to the caller: MPI no longer uses them."""
        guarded, self._guarded = self._guarded, []
        for array in guarded:
            array.flags.writeable = True


class Transport(Protocol):
    """What posts, moves and finishes collectives: the engine."""

    topology: Topology

    @property
    def room(self) -> int:
        """Bytes of a collective's data that travel at no cost, with its check."""
        ...

    def submit(self, collective: Collective, *, wake: bool = True) -> Handle:
        """Start a collective. All ranks submit the same ones in the same order.

        `wake=False` leaves the communication thread asleep. That is cheaper if the caller waits at once.
        """
        ...

    def wait_for(self, handle: Handle) -> None:
        """Block until the handle's collective is finished or has failed."""
        ...

    def poll(self) -> None:
        """Move what can be moved without blocking."""
        ...

    def clock(self) -> float:
        """Seconds on rank 0's clock."""
        ...
