"""How many bytes a rank sends: counted where they are handed to MPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .tree import Array


class CountingComm:
    """A communicator that counts what this rank sends to others.

    For messages between two ranks the count is exact. The algorithms of the library's own collectives are its own business:
    counted is what the best one sends.

    Attributes:
        sent: bytes since the start.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.size, self.sent = comm, comm.Get_size(), 0

    def Isend(self, array: Array, rank: int, tag: int) -> Any:
        self.sent += array.nbytes
        return self.comm.Isend(array, rank, tag)

    def Iallgather(self, mine: Array, everyone: Array) -> Any:
        self.sent += (self.size - 1) * mine.nbytes
        return self.comm.Iallgather(mine, everyone)

    def Iallreduce(self, source: Any, array: Array, operation: Any) -> Any:
        self.sent += 2 * (self.size - 1) * array.nbytes // self.size
        return self.comm.Iallreduce(source, array, operation)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comm, name)
