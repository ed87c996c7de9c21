"""Measures the MPI of a running job: what it is, and how fast a small all-reduce goes.

Every rank calls `measure`; it takes about a second. As a program (`mpirun -n 2 python -m allgrad.cli.probe`) rank 0
prints the result as one line of JSON; that is how `allgrad doctor` looks at MPI without importing it, since the import
alone ends the process on some login nodes.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from allgrad.comm import node_memory
from allgrad.comm.world import init

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.comm.world import World

__all__ = ["Findings", "measure"]

LARGE = 1 << 22  # float32 elements of the all-reduce whose bandwidth and progress are measured: 16 MiB


@dataclass(frozen=True)
class Findings:
    """What a job found out about its MPI.

    Attributes:
        library: its name and version, as it says itself.
        standard: version of the MPI standard.
        threads: the level of thread support that was granted, such as "MULTIPLE".
        ranks: how many; nodes: on how many machines.
        latency: seconds for an all-reduce of 8 bytes.
        bandwidth: bytes a second that an all-reduce of 16 MiB gets through (its size over its time).
        hidden: the part of that all-reduce's time that is saved when nobody calls MPI meanwhile: near 1 where the
            library progresses in the background, near 0 where it does not.
        unshared: why the ranks of a node cannot share memory; "" if they can.
        exchange: seconds for a small exchange through shared memory; None with several nodes, or without it.
    """

    library: str
    standard: str
    threads: str
    ranks: int
    nodes: int
    latency: float
    bandwidth: float
    hidden: float
    unshared: str = ""
    exchange: float | None = None


def measure(world: World) -> Findings:
    """Measure on all ranks together; the times are the slowest rank's.

    Raises:
        ValueError: the world is not an MPI job.
    """
    if world.comm is None:
        raise ValueError("measure needs an MPI job; this process runs alone. Start it with mpirun.")
    from mpi4py import MPI

    comm = world.comm
    small, large = np.zeros(1), np.zeros(LARGE, np.float32)

    def slowest(action: Callable[[], float], times: int) -> float:
        seconds = np.array([statistics.median(action() for _ in range(times))])
        comm.Allreduce(MPI.IN_PLACE, seconds, MPI.MAX)
        return float(seconds[0])

    def blocking(array: np.ndarray) -> float:
        start = time.perf_counter()
        comm.Allreduce(MPI.IN_PLACE, array)
        return time.perf_counter() - start

    for array in (small, large):
        blocking(array)  # the first one opens connections
    latency = slowest(lambda: blocking(small), 200)
    whole = slowest(lambda: blocking(large), 7)

    def waited() -> float:
        request = comm.Iallreduce(MPI.IN_PLACE, large)
        time.sleep(2 * whole)
        start = time.perf_counter()
        request.Wait()
        return time.perf_counter() - start

    levels = {getattr(MPI, f"THREAD_{name}"): name for name in ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")}
    unshared = (node_memory.reason_against() or world.open_board()) if world.size > world.nodes else ""
    shared = world.size > 1 and world.nodes == 1 and not unshared

    def agreed() -> float:
        start = time.perf_counter()
        world.barrier()
        return time.perf_counter() - start

    return Findings(
        library=" ".join(MPI.Get_library_version().splitlines()[0].split()).partition(", package")[0],
        standard=".".join(map(str, MPI.Get_version())),
        threads=levels[MPI.Query_thread()],
        ranks=world.size,
        nodes=world.nodes,
        latency=latency,
        bandwidth=large.nbytes / whole,
        hidden=min(1.0, max(0.0, 1 - slowest(waited, 5) / whole)),
        unshared=unshared,
        exchange=slowest(agreed, 200) if shared else None,
    )


def main() -> None:
    """Measure this job; rank 0 prints the findings."""
    world = init(mpi=True)
    findings = measure(world)
    if world.rank == 0:
        print(json.dumps(asdict(findings)), flush=True)


if __name__ == "__main__":
    main()
