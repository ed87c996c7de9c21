"""The world: this process's place in the job, and the collectives that a program needs beside the gradients.

Arrays travel as buffers and everything else as JSON; nothing is pickled. In a job of several ranks an engine runs from
`init` on: it moves all collectives, so that one thread per rank owns all MPI calls, and it watches for stalls.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import time
import warnings
from contextlib import nullcontext
from functools import lru_cache, partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np

from . import cores, failure, launcher, ulfm
from .agreement import DisagreementError, compare
from .all_reduce import Group
from .board import NO_BYTES, Board
from .desync import Kind
from .engine import Engine
from .launcher import LaunchError
from .node_memory import NodeMemory, SharedMemoryError
from .stall_monitor import STALL_SECONDS
from .survival import Survival
from .time_limit import join_limit, set_time_limit
from .topology import Topology
from .traffic import CountingComm
from .transport import Collective

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import AbstractContextManager

    from .transport import Handle, Lane, Transfer, Transport
    from .tree import Array

_PIECE = 1 << 30  # bytes that a single MPI call moves at most: counts stay inside 32 bits with every MPI library
_world: World | None = None


class World(Topology):
    """The ranks of this job, seen from one of them. Made by `init`; `World()` is a world of one rank.

    Attributes:
        engine: moves collectives; None in a world of one rank, unless somebody started one.
        engine_settings: those of the last `start_engine`.
        board: of the ranks of this node; None before `open_board`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.engine: Engine | None = None
        self.engine_settings: dict[str, Any] = {}
        self._counted: list[CountingComm] = []
        self.board: Board | None = None

    def start_engine(self, **settings: Any) -> Engine:
        """Start the engine, or replace it by one with other settings; see `Engine`. All ranks call it together."""
        self.close()
        self.engine, self.engine_settings = Engine(self, **settings), settings
        self._use_board(self.engine)
        return self.engine

    def open_board(self) -> str:
        """Let the ranks of each node share a notice board. All ranks call it together.

        If there is a single node, all small collectives go through it from now on.

        Returns:
            Why the ranks of a node cannot share memory, in words; "" if they can.
        """
        if self.engine is None or self.board is not None:
            return ""
        try:
            self.board = Board(NodeMemory(self))
        except SharedMemoryError as error:  # on every rank
            return str(error)
        self._use_board(self.engine)
        return ""

    def _use_board(self, engine: Engine) -> None:
        if self.nodes == 1:
            engine.pipeline.board = self.board

    def close(self) -> None:
        """End the engine, on all ranks together."""
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.close()

    def restart_engine(self) -> None:
        """Start an engine for the ranks that the world consists of now, with the settings of the one before."""
        self.start_engine(**self.engine_settings)

    def abandon(self) -> None:
        """Give up the engine and the board, because a rank has died; see `survival.py`."""
        engine, self.engine, self.board = self.engine, None, None
        if engine is not None:
            engine.abandon()

    @property
    def transport(self) -> Transport:
        """What moves collectives.

        Raises:
            RuntimeError: the engine is closed, so that the ranks can no longer communicate.
        """
        if self.engine is None:
            raise RuntimeError("The engine of this world is closed: its ranks can no longer communicate.")
        return self.engine

    @property
    def sent_bytes(self) -> int:
        """What this rank has sent to others since its engine started."""
        return sum(comm.sent for comm in self._counted) + (0 if self.engine is None else self.engine.sent_bytes)

    def counted(self, comm: Any) -> CountingComm:
        """A communicator whose messages count in `sent_bytes`."""
        self._counted.append(CountingComm(comm))
        return self._counted[-1]

    def group(self, number: int) -> Group:
        """The ranks that give the same number, in their order. All ranks call it together; the collective is MPI's own."""
        comm = self.comm.Split(number, self.rank)
        return Group(self.counted(comm), comm.Get_rank(), comm.Get_size())

    def clock(self) -> float:
        """Seconds on rank 0's clock (`time.perf_counter()` of rank 0)."""
        return time.perf_counter() if self.engine is None else self.engine.clock()

    def long_task(self, what: str) -> AbstractContextManager[None]:
        """Inside, other ranks may wait for this one as long as they need to: that is not a stall.

        For what only some ranks do while the others wait, such as writing a checkpoint.
        """
        return nullcontext() if self.engine is None else self.engine.long_task(what)

    # ---- collectives ----

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """Give every rank `root`'s values, in place; the array must be C-contiguous. Returns it."""
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError(
                "The array parameter of broadcast must be C-contiguous and writable: it is filled in place."
            )
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size if self.size > 1 else 0, _PIECE):
            piece = flat[start : start + _PIECE]
            self._submit(_what("broadcast", piece.size), piece.size, methodcaller("Ibcast", piece, root)).wait()
        return array

    def all_gather(self, array: Array) -> Array:
        """Every rank's array, stacked along a new first axis; shape and dtype must be the same on all ranks."""
        return self._all_gather(array, later=False)()

    def all_gather_later(self, array: Array) -> Callable[[], Array]:
        """Start an `all_gather`; call the result to get the value. Ranks must start in the same order, and may fetch in any."""
        return self._all_gather(array, later=True)

    def _all_gather(self, array: Array, *, later: bool) -> Callable[[], Array]:
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        if self.size == 1 or not array.nbytes:
            everyone = np.repeat(array[np.newaxis], self.size, axis=0)
            return lambda: everyone
        mine, shape = array.reshape(-1).view(np.uint8), (self.size, *array.shape)
        kind = _what("all_gather", mine.size)
        if self.engine is not None:
            if later:
                fetch = self.engine.quick.exchange_later(kind, mine)
            else:
                rows = self.engine.quick.exchange(kind, mine)
                fetch = None if rows is None else lambda: rows
            if (found := fetch) is not None:
                return lambda: found().view(array.dtype).reshape(shape)
        everyone = np.empty(shape, array.dtype)
        theirs = everyone.reshape(self.size, -1).view(np.uint8)
        # What is on the board arrives without anybody's help.
        wake = later and (self.board is None or self.nodes > 1)
        handle = self._submit(
            kind, mine.size, methodcaller("Iallgather", mine, theirs), mine, partial(np.copyto, theirs), wake
        )

        def wait() -> Array:
            handle.wait()
            return everyone

        return wait

    def broadcast_json(self, value: Any, root: int = 0) -> Any:
        """Give every rank `root`'s value, which JSON must be able to hold."""
        text = json.dumps(value).encode() if self.rank == root else b""
        length = int(self.broadcast(np.array([len(text)]), root)[0])
        buffer = np.frombuffer(text, np.uint8).copy() if self.rank == root else np.empty(length, np.uint8)
        return json.loads(self.broadcast(buffer, root).tobytes())

    def all_gather_json(self, value: Any) -> list[Any]:
        """Every rank's value, by rank."""
        text = json.dumps(value).encode()
        lengths = self.all_gather(np.array([len(text)])).reshape(-1)
        buffer = np.zeros(int(lengths.max()), np.uint8)
        buffer[: len(text)] = np.frombuffer(text, np.uint8)
        rows = self.all_gather(buffer)
        return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]

    def barrier(self) -> None:
        """Return when every rank has called this."""
        if self.size > 1:
            self._barrier(_what("barrier", 0))

    def _barrier(self, kind: Kind) -> None:
        if self.engine is None or self.engine.quick.exchange(kind, NO_BYTES) is None:
            # The payload makes the check itself the barrier: a rank that takes the quick way does nothing else either.
            self._submit(kind, 0, methodcaller("Ibarrier"), NO_BYTES).wait()

    def node_barrier(self) -> None:
        """Return when every rank of this node has called this. Needs the board."""
        if self.nodes == 1:
            self.barrier()
        elif self.local_size > 1:
            assert self.board is not None
            assert self.engine is not None
            pipeline, arrived = self.engine.pipeline, partial(self.board.arrived, self.board.post(0, NO_BYTES))
            self.engine.wait_until(lambda: pipeline.error is not None or arrived())
            if pipeline.error is not None:  # a rank of this node may have died
                raise pipeline.error
            self.board.done(self.board.posted - 1)

    def sum_in_memory(self, kind: Kind, additions: Array) -> tuple[float, float]:
        """Make each rank's additions in memory that all ranks share: those of a single node. Needs the engine.

        No addition is made before all ranks have called this, and it returns when all of them are made.

        Args:
            kind: what is added up, the same on all ranks.
            additions: this rank's; see `kernels/shared_sums.py`.

        Returns:
            When all ranks had come, and when all had added, on `clock()`.
        """
        assert self.engine is not None
        return self.engine.quick.sum_up(kind, additions, self._barrier)

    def _submit(
        self,
        kind: Kind,
        nbytes: int,
        start: Callable[[Any], Any],
        payload: Array | None = None,
        arrived: Callable[[Array], None] | None = None,
        wake: bool = False,
    ) -> Handle:
        """Run one non-blocking MPI collective, `start(comm) -> request`, in its turn."""

        def transfer(lane: Lane) -> Transfer:
            yield [start(lane.comm)]

        label = kind.what["collective"]
        collective = Collective(kind.what, iter([transfer]), nbytes, label=label, payload=payload, arrived=arrived)
        return self.transport.submit(collective, wake=wake)

    # ---- agreement ----

    def verify(self, properties: Mapping[str, str], *, tolerate: Collection[str] = ()) -> None:
        """Check that properties (hash of the code, configuration, versions, BLAS, CPU ...) are the same on all ranks.

        Args:
            properties: name -> value.
            tolerate: names of properties that may differ: rank 0 warns about them.

        Raises:
            DisagreementError: on every rank; names the properties, their values and the ranks that have them.
        """
        digest = hashlib.sha256(json.dumps(properties, sort_keys=True).encode()).digest()
        digests = self.all_gather(np.frombuffer(digest, np.uint8))
        if (digests == digests[0]).all():
            return  # the usual case: a thousand ranks exchange hashes instead of texts
        differences = compare(self.all_gather_json(dict(properties)))
        tolerated = [text for name, text in differences.items() if name in tolerate]
        if tolerated and self.rank == 0:
            warnings.warn("Ranks differ:\n" + "\n".join(tolerated), RuntimeWarning, stacklevel=2)
        refused = [text for name, text in differences.items() if name not in tolerate]
        if refused:
            raise DisagreementError(
                "The ranks of this job differ in what must be the same on all of them:\n" + "\n".join(refused)
            )

    def verify_arrays(self, arrays: Mapping[str, Array], what: str = "weights") -> None:
        """Check by their hashes that named arrays (initial weights) are the same on all ranks; raises as `verify` does."""
        properties = {}
        for name, array in arrays.items():
            digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
            properties[f"{what} {name}"] = digest.hexdigest()[:16]
        self.verify(properties)


@lru_cache(maxsize=256)
def _what(kind: str, nbytes: int) -> Kind:
    return Kind({"collective": kind, "bytes": str(nbytes)})


def init(
    *, blas_threads: int = 1, mpi: bool | None = None, stall_seconds: float = STALL_SECONDS, survive: bool = False
) -> World:
    """Find out what this process is, once; later calls return the same world.

    Args:
        blas_threads: of each rank, to warn if a node has fewer cores than its ranks need.
        mpi: whether to start MPI; by default only if the launcher's environment says that this process is a rank.
        stall_seconds: how long ranks wait for one that does not join, and the limit of the stall monitor, which runs from then
            on. `DataParallel` may choose another.
        survive: let the world outlive some of its ranks (`survival.py`).

    Raises:
        LaunchError: the ranks cannot see each other, or `survive` is not possible here.
    """
    global _world
    if _world is None:
        launch = launcher.detect(os.environ) if mpi is None else launcher.Launch("the caller", None) if mpi else None
        world = World()
        if launch is not None:
            if survive:
                ulfm.prepare()
            with join_limit(stall_seconds):
                world.join(launch)
            _watch(world)
            if survive:
                if reason := ulfm.reason_against():
                    raise LaunchError(
                        f"This job cannot survive the death of a rank: {reason}. Use Open MPI with `mpirun --with-ft ulfm`, "
                        "or let `allgrad supervise` start the job again after a failure."
                    )
                Survival(world)
            if world.size > 1:
                world.start_engine(stall_seconds=stall_seconds)
        _count_cores(world, blas_threads)
        _world = world
    return _world


def init_replacement(*, stall_seconds: float = STALL_SECONDS) -> World:
    """The world of a process that the survivors of a job have started: one rank, until they admit it (`survival.py`)."""
    global _world
    _world = World()
    _watch(_world)
    Survival(_world)
    _world.engine_settings = {"stall_seconds": stall_seconds}
    return _world


def _watch(world: World) -> None:
    """Let the job end together: at the first failure, and at the end of the program."""
    failure.install(world)
    atexit.register(_leave, world, os.getpid())


def _count_cores(world: World, blas_threads: int) -> None:
    mine = [world.node, cores.affinity(), cores.quota()]
    node = [one for one in world.all_gather_json(mine) if one[0] == world.node]
    cpus = {cpu for _, allowed, _ in node for cpu in allowed}
    available = min(cores.physical_cores(cpus), max(granted for *_, granted in node))
    text = cores.shortage(world.host, world.local_size, blas_threads, available)
    world.oversubscribed = text is not None
    if text is not None and world.local_rank == 0 and world.is_mpi:
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _leave(world: World, process: int) -> None:
    if os.getpid() == process:  # a forked child has neither the thread nor a place in the job
        limit = world.engine.stall_seconds if world.engine is not None else STALL_SECONDS
        world.close()
        if world.survival is not None:
            world.survival.leave()
        if world.size > 1:
            set_time_limit(limit)  # for MPI_Finalize, which waits for all ranks
