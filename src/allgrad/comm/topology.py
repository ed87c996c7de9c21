"""Who and where: the rank of this process, the number of ranks, and how they are spread over nodes."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import launcher, shared_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from .survival import Survival


_PRETEND = "ALLGRAD_PRETEND_NODES"
"""An environment variable for tests: the ranks of a host behave like this many nodes."""


class Topology:
    """The place of this process in the job. Without MPI it is rank 0 of 1.

    Ranks are numbered in (node, local rank) order, whatever order the launcher used. So neighbouring ranks, and with them
    neighbouring virtual workers, share a node.

    Attributes:
        rank, size: the number of this rank, and the number of ranks in the job.
        node, nodes: the number of this rank's node, and the number of nodes.
        local_rank, local_size: the same inside the node.
        node_sizes: the number of ranks of each node.
        host: the name of the node.
        is_mpi: whether MPI was started.
        comm: the mpi4py communicator with this numbering; None without MPI.
        oversubscribed: whether this node has fewer cores than ranks times BLAS threads.
        on_failure: called with the text of a failure before the job ends; may be set by the program.
        survival: what the job needs to outlive some of its ranks; None: it ends with the first of them.
    """

    def __init__(self) -> None:
        self.rank, self.size, self.node, self.nodes, self.local_rank, self.local_size = 0, 1, 0, 1, 0, 1
        self.node_sizes: tuple[int, ...] = (1,)
        self.host = platform.node()
        self.is_mpi = False
        self.comm: Any = None
        self.oversubscribed = False
        self.on_failure: Callable[[str], None] | None = None
        self.survival: Survival | None = None

    def join(self, launch: launcher.Launch) -> None:
        """Start MPI and find the place of this process in the job.

        Raises:
            LaunchError: the ranks cannot see each other.
        """
        shared_memory.check_limits(os.environ)
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
        launcher.check_size(launch, comm.Get_size(), MPI.Get_library_version().splitlines()[0])
        self.place(comm)
        shared_memory.unlink_segments()  # every rank has joined
        if self.local_rank == 0:
            shared_memory.remove_left_behind()

    def place(self, comm: Any) -> None:
        """Number the ranks of a communicator, and find the place of this process among them. All of them call it together.

        It communicates on `comm` alone: a rank that dies meanwhile must not leave others waiting elsewhere (survival.py).
        """
        mine = _ranks_of_this_node(comm) if self.survival is None else _ranks_of_this_system(comm)
        if pretended := int(os.environ.get(_PRETEND, "0")):
            part = mine.index(comm.Get_rank()) * pretended // len(mine)
            mine = [rank for i, rank in enumerate(mine) if i * pretended // len(mine) == part]
        self.local_rank, self.local_size = mine.index(comm.Get_rank()), len(mine)
        # A node is identified by its lowest rank. Sorting by (node, local rank) keeps rank 0 where it was.
        places = np.empty((comm.Get_size(), 2), np.int64)
        comm.Allgather(np.array([mine[0], self.local_rank], np.int64), places)
        leaders = sorted(set(places[:, 0].tolist()))
        self.node, self.nodes = leaders.index(mine[0]), len(leaders)
        self.node_sizes = tuple(int((places[:, 0] == each).sum()) for each in leaders)
        self.comm = comm.Split(0, self.node * comm.Get_size() + self.local_rank)
        self.rank, self.size, self.is_mpi = self.comm.Get_rank(), self.comm.Get_size(), True

    def abort(self, code: int = 1) -> None:
        """End all ranks with this exit code, at once and without clean-up."""
        sys.stdout.flush()
        sys.stderr.flush()
        if self.is_mpi:
            self.comm.Abort(code)
        os._exit(code)


def _ranks_of_this_node(comm: Any) -> list[int]:
    """The ranks of `comm` with which this process can share memory, itself included, in order."""
    from mpi4py import MPI

    shared = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.Get_rank())
    here, everyone = shared.Get_group(), comm.Get_group()
    ranks = here.Translate_ranks(range(here.Get_size()), everyone)
    here.Free()
    everyone.Free()
    shared.Free()
    return sorted(int(rank) for rank in ranks)


def _ranks_of_this_system(comm: Any) -> list[int]:
    """The same, without MPI's help: Open MPI does not tell all ranks on which node one is that has joined."""
    system = [platform.node()]
    for place in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/ipc"):
        with suppress(OSError):
            system.append(os.readlink(place) if "/ns/" in place else Path(place).read_text())
    key = np.frombuffer(hashlib.sha256("\0".join(system).encode()).digest(), np.uint8)
    keys = np.empty((comm.Get_size(), key.size), np.uint8)
    comm.Allgather(key, keys)
    return [int(rank) for rank in np.flatnonzero((keys == key).all(axis=1))]
