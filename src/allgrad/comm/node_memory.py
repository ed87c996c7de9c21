"""Memory that the ranks of a node share.

Each array is an anonymous file in memory (`memfd_create`), made by the node's first rank. The others open it as
/proc/PID/fd/FD and map it; then every descriptor is closed. Why not a window of the MPI library: a file without a name cannot
collide with that of another job or host, cannot be left behind however the job ends, and is not limited by the size of
/dev/shm, which is 64 MB in most containers. And it is the same with every MPI library.

Its pages are reserved at once (unless that is not wanted), by each rank for an equal share (so that on a machine with several
memory nodes they are near the rank that updates them). So too little memory is an error here, and not a SIGBUS at the first
write. The kernel frees the memory when the last process that maps it has ended.
"""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from allgrad.errors import CollectiveError

if TYPE_CHECKING:
    from .tree import Array


class SharedMemoryError(CollectiveError):
    """The ranks of a node cannot share memory."""


class Node(Protocol):
    """What is needed to know of the ranks; `World` has it."""

    rank: int
    node: int
    nodes: int
    local_rank: int
    local_size: int

    def all_gather(self, array: Array) -> Array: ...

    def all_gather_json(self, value: Any) -> list[Any]: ...

    def node_barrier(self) -> None: ...


class NodeMemory:
    """Arrays that the ranks of this node share; a `memory.Sharing`.

    Args:
        world: the ranks, a `World`. All of them, on all nodes, make the same arrays in the same order.

    Attributes:
        rank, ranks: the number of this rank in its node, and how many the node has.
        nbytes: bytes of all arrays made so far.
        reserve: whether an array takes its memory at once; otherwise a page does when it is first written.
    """

    def __init__(self, world: Node) -> None:
        self.world = world
        self.rank, self.ranks = world.local_rank, world.local_size
        self.nbytes = 0
        self.reserve = True

    def allocate(self, length: int, dtype: np.dtype[Any]) -> Array:
        """One array of zeros, (length,) of `dtype`, the same memory for all ranks of the node.

        Raises:
            SharedMemoryError: on every rank, if some node cannot share memory or has too little of it.
        """
        array: Array = self.rows(1, length, dtype)[0]
        return array

    def rows(self, count: int, length: int, dtype: np.dtype[Any]) -> Array:
        """(count, length) of zeros, as `allocate`. `count` may differ between nodes."""
        nbytes = count * length * dtype.itemsize
        memory = _share(self.world, max(nbytes, 1), reserve=self.reserve)
        self.nbytes += nbytes
        return np.frombuffer(memory, dtype, count * length).reshape(count, length)

    def add_up(self, values: Array) -> Array:
        """The sum over the ranks of this node of a few numbers, (n,) float64. All ranks of all nodes call this together."""
        first = self.world.rank - self.rank
        total: Array = self.world.all_gather(values)[first : first + self.ranks].sum(axis=0)
        return total

    def barrier(self) -> None:
        """Return when all ranks of this node have called this."""
        self.world.node_barrier()


def reason_against() -> str | None:
    """Why this system cannot share memory between ranks, in words, or None."""
    if not hasattr(os, "memfd_create"):
        return f"{sys.platform} has no anonymous shared memory (memfd_create)"
    return None


def _share(world: Node, nbytes: int, *, reserve: bool) -> mmap.mmap:
    """The same memory on all ranks of a node."""
    nbytes = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    own, problem, memory = -1, "", None
    try:
        if world.local_rank == 0:
            own = os.memfd_create("allgrad", os.MFD_CLOEXEC)
            os.ftruncate(own, nbytes)
    except OSError as error:
        problem = _words(error)
        if own >= 0:
            os.close(own)
            own = -1
    everyone = world.all_gather_json([world.node, os.getpid(), own])
    process, descriptor = next((pid, fd) for node, pid, fd in everyone if node == world.node)
    if descriptor >= 0:
        try:
            memory = _map(own if own >= 0 else f"/proc/{process}/fd/{descriptor}", nbytes, world, reserve)
        except OSError as error:
            problem = _words(error)
    problems = world.all_gather_json(problem)
    if own >= 0:
        os.close(own)
    if any(problems) or memory is None:
        rank = next(rank for rank, text in enumerate(problems) if text)
        raise SharedMemoryError(
            f"Rank {rank} cannot share {nbytes / 2**20:.0f} MiB of memory with the other ranks of its node: {problems[rank]}. "
            "With parallel.memory=rank each rank has its own copy of parameters and optimizer state."
        )
    return memory


def _map(file: int | str, nbytes: int, world: Node, reserve: bool) -> mmap.mmap:
    opened = os.open(file, os.O_RDWR | os.O_CLOEXEC) if isinstance(file, str) else os.dup(file)
    try:
        if os.fstat(opened).st_size != nbytes:
            raise OSError(f"{file} is not the file that was meant (do the ranks have process numbers of their own?)")
        start, stop = (i * nbytes // world.local_size for i in (world.local_rank, world.local_rank + 1))
        if reserve and stop > start:
            os.posix_fallocate(opened, start, stop - start)
        memory = mmap.mmap(opened, nbytes)
    finally:
        os.close(opened)
    with suppress(OSError):  # kernels without huge pages for shared memory
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _words(error: OSError) -> str:
    return error.strerror or str(error)
