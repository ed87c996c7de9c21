"""The world: which rank this process is, of how many, on which node; and the collectives that start-up needs.

Ranks are numbered in (node, local rank) order, whatever the launcher's order was, so that neighbouring ranks, and with
them neighbouring virtual workers, share a node. Arrays travel as buffers and everything else as JSON; nothing is
pickled.

Before an `Engine` is started the collectives here run on the calling thread, polled; from then on the engine runs them,
so that one thread a rank owns all MPI calls.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import platform
import sys
import time
import warnings
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.errors import CollectiveError

from . import cores, failure, launcher

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from .engine import Engine
    from .tree import Array

_PIECE = 1 << 30  # bytes a single MPI call moves at most: counts stay inside 32 bits on every MPI
_world: World | None = None


class DisagreementError(CollectiveError):
    """Ranks differ in what must be the same on all of them."""


class World:
    """The ranks of this job, seen from one of them. Made by `init`.

    Attributes: `rank`, `size` (of the job); `node`, `nodes` (this rank's node and their number); `local_rank`,
    `local_size` (inside the node); `host` (its name); `is_mpi`; `comm` (mpi4py's communicator in this numbering, or
    None); `oversubscribed` (this node has fewer cores than ranks times threads); `on_failure` (called with the text of
    a failure before the job is ended).
    """

    def __init__(self) -> None:
        self.rank, self.size, self.node, self.nodes, self.local_rank, self.local_size = 0, 1, 0, 1, 0, 1
        self.host = platform.node()
        self.is_mpi = False
        self.comm: Any = None
        self.oversubscribed = False
        self.on_failure: Callable[[str], None] | None = None
        self.engine: Engine | None = None

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """Give every rank `root`'s values, in place; the array must be C-contiguous. Returns it."""
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError(
                "The array parameter of broadcast must be C-contiguous and writable: it is filled in place."
            )
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size if self.size > 1 else 0, _PIECE):
            piece = flat[start : start + _PIECE]
            self._run("broadcast", piece.size, methodcaller("Ibcast", piece, root))
        return array

    def all_gather(self, array: Array) -> Array:
        """Every rank's array, stacked along a new first axis; shape and dtype must be the same on all ranks."""
        return self._all_gather(array, later=False)()

    def all_gather_later(self, array: Array) -> Callable[[], Array]:
        """Start an `all_gather`; the result is called for its value. Ranks start, not fetch, in the same order."""
        return self._all_gather(array, later=True)

    def _all_gather(self, array: Array, *, later: bool) -> Callable[[], Array]:
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        everyone = np.empty((self.size, *array.shape), array.dtype)
        if self.size == 1:
            everyone[0] = array
        elif array.nbytes:
            mine, theirs = array.reshape(-1).view(np.uint8), everyone.reshape(-1).view(np.uint8)
            if self.engine is not None:
                handle = self.engine.all_gather(mine, theirs, wake=later)

                def fetch() -> Array:
                    handle.wait()
                    return everyone

                return fetch
            self._run("all_gather", mine.size, methodcaller("Iallgather", mine, theirs))
        return lambda: everyone

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
        """Return when every rank has come here."""
        if self.size > 1:
            self._run("barrier", 0, methodcaller("Ibarrier"))

    def abort(self, code: int = 1) -> None:
        """End all ranks with this exit code, at once and without clean-up."""
        sys.stdout.flush()
        sys.stderr.flush()
        if self.is_mpi:
            self.comm.Abort(code)
        os._exit(code)

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

    def _run(self, kind: str, size: int, start: Callable[[Any], Any]) -> None:
        if self.engine is not None:
            self.engine.run(kind, size, start).wait()
            return
        request, polls = start(self.comm), 0
        while not request.Test():
            polls += 1
            time.sleep(0 if polls < 200 else 3e-4)


def init(*, blas_threads: int = 1, mpi: bool | None = None) -> World:
    """Find out what this process is, once; later calls return the same world.

    MPI is imported only where the launcher's environment says that this process is a rank (`mpi=True` or `False`
    overrides it). Raises `LaunchError` where the ranks cannot see each other; warns, on the first rank of a node, where
    a node has fewer cores than its ranks times `blas_threads`.
    """
    global _world
    if _world is None:
        launch = launcher.detect(os.environ) if mpi is None else launcher.Launch("the caller", None) if mpi else None
        world = World()
        if launch is not None:
            _join(world, launch)
            failure.install(world)
            atexit.register(_leave, world)
        _count_cores(world, blas_threads)
        _world = world
    return _world


def _join(world: World, launch: launcher.Launch) -> None:
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    launcher.check_size(launch, comm.Get_size(), MPI.Get_library_version().splitlines()[0])
    shared = comm.Split_type(MPI.COMM_TYPE_SHARED, comm.Get_rank())
    world.local_rank, world.local_size = shared.Get_rank(), shared.Get_size()
    leader = np.array([comm.Get_rank()])
    shared.Bcast(leader)
    shared.Free()
    # A node is named by its lowest rank; sorting by (node, local rank) keeps rank 0 where it was.
    places = np.empty((comm.Get_size(), 2), leader.dtype)
    comm.Allgather(np.array([leader[0], world.local_rank]), places)
    leaders = sorted(set(places[:, 0].tolist()))
    world.node, world.nodes = leaders.index(int(leader[0])), len(leaders)
    world.comm = comm.Split(0, world.node * comm.Get_size() + world.local_rank)
    world.rank, world.size, world.is_mpi = world.comm.Get_rank(), world.comm.Get_size(), True


def _count_cores(world: World, blas_threads: int) -> None:
    mine = [world.node, cores.affinity(), cores.quota()]
    node = [one for one in world.all_gather_json(mine) if one[0] == world.node]
    cpus = {cpu for _, allowed, _ in node for cpu in allowed}
    available = min(cores.physical_cores(cpus), max(granted for *_, granted in node))
    text = cores.shortage(world.host, world.local_size, blas_threads, available)
    world.oversubscribed = text is not None
    if text is not None and world.local_rank == 0 and world.is_mpi:
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _leave(world: World) -> None:
    if world.engine is not None:
        world.engine.close()


def compare(everyone: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The facts that are not the same on all ranks: name -> a line that says which ranks have which value.

    >>> compare([{"cpu": "A"}, {"cpu": "B"}, {"cpu": "A"}])["cpu"]
    "  cpu: 'A' on ranks 0, 2; 'B' on rank 1"
    """
    differences = {}
    for name in sorted(set().union(*everyone)):
        values: dict[str, list[int]] = {}
        for rank, facts in enumerate(everyone):
            values.setdefault(repr(facts[name]) if name in facts else "missing", []).append(rank)
        if len(values) > 1:
            groups = sorted(values.items(), key=lambda item: -len(item[1]))
            differences[name] = f"  {name}: " + "; ".join(f"{value} on {ranks(members)}" for value, members in groups)
    return differences


def ranks(members: Sequence[int]) -> str:
    """A list of ranks in words, with runs folded.

    >>> ranks([3]), ranks([0, 1, 2, 5])
    ('rank 3', 'ranks 0-2, 5')
    """
    runs: list[list[int]] = []
    for rank in members:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    parts = [str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a}-{b}" for a, b in runs]
    return ("rank " if len(members) == 1 else "ranks ") + ", ".join(parts)


def progress_mode(world: World, wanted: str | None) -> str:
    """Who drives MPI, "thread" or "poll": what is `wanted`, or the thread where the MPI library grants one.

    Raises:
        RuntimeError: a thread is wanted, and the library does not grant MPI_THREAD_MULTIPLE.
    """
    if wanted not in (None, "thread", "poll"):
        raise ValueError(f"The mode parameter of Engine must be 'thread', 'poll' or None. Got {wanted!r} instead.")
    if world.size == 1:
        return "poll"
    from mpi4py import MPI

    granted = MPI.Query_thread() == MPI.THREAD_MULTIPLE
    if wanted == "thread" and not granted:
        raise RuntimeError(
            "A communication thread needs MPI_THREAD_MULTIPLE, which this MPI library did not grant. Use mode='poll'."
        )
    return wanted or ("thread" if granted else "poll")
