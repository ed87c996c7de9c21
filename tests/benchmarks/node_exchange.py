"""All-reduce, and all-reduce with an AdamW update, inside a node: shared memory beside today's messages, MPI and gloo.

    mpirun -n 2 python tests/benchmarks/node_exchange.py [--repeat 31] [--no-torch] [--only-update]

Medians over the repetitions of the slowest rank, float32, one virtual worker per rank; before each call, a barrier that is not
timed. Large sizes: all methods are timed in turn within a repetition, so that a noisy moment hits all of them. Small sizes:
blocks of 200 calls of one method, as all-reduces are usually measured (the OSU benchmarks), the methods' blocks in turn.
"cold" are small sizes with the methods in turn call by call. In a training step an exchange is in between: much else has run
since the last one, so caches and branch predictors have forgotten it, but no other library's threads wake up.

"node" is `memory: node`, "exact" the default exchange of `memory: rank`, "MPI" is MPI_Allreduce in place, called by the main
thread and nothing else, "gloo" PyTorch's. "tree_sum" (one size) is the sum of a small vector, as a step has several. An update
is AdamW's over all parameters: of the own share with "node".
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

from allgrad import comm, nn, optim, parallel

SIZES = (4, 64 << 10, 25_000_000, 100_000_000)


class Flat(nn.Module):
    def __init__(self, size: int) -> None:
        self.w = nn.Parameter(np.zeros(size, np.float32))


def replica(world: comm.World, size: int, memory: str):
    """A replica of one parameter, and a function that exchanges its gradient."""
    model = Flat(size)
    made = parallel.DataParallel(model, world, virtual_workers=world.size, memory=memory, bucket_mb=1000)
    reducer = made.reducer
    (gradients,) = reducer._gradients

    def exchange() -> None:
        made.exchange.post(gradients, step=0, ready=0.0)
        made.exchange.finish()

    reducer.arenas[0].flat[np.dtype(np.float32)][:] = 1e-3
    return model, exchange


def gloo(world: comm.World):
    import torch

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", "tcp://127.0.0.1:29513", rank=world.rank, world_size=world.size)

    def make(size: int):
        tensor = torch.zeros(size)
        return lambda: torch.distributed.all_reduce(tensor)

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=31)
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    world = comm.init()
    if world.size < 2:
        sys.exit("This compares all-reduces: start it with mpirun and two ranks or more.")
    from mpi4py import MPI

    own = world.comm.Dup()
    make_gloo = None if options.no_torch else gloo(world)

    def measure(methods, repeat: int, block: int = 1) -> dict[str, float]:
        """Median seconds of each method, over `repeat` blocks of calls after a first one that does not count."""
        taken: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(repeat + 1):
            for name, run in methods.items():
                for _ in range(block):
                    own.Barrier()
                    start = time.perf_counter()
                    run()
                    taken[name].append(time.perf_counter() - start)
        worst = {name: np.max(np.array(world.all_gather_json(times[block:])), axis=0) for name, times in taken.items()}
        return {name: float(np.median(times)) for name, times in worst.items()}

    def show(title: str, found: dict[str, float]) -> None:
        if world.rank == 0:
            cells = "".join(f"  {name} {seconds * 1e3:9.3f} ms" for name, seconds in found.items())
            ratios = ", ".join(f"node/{n} {found['node'] / s:.2f}" for n, s in found.items() if n != "node")
            print(f"{title:<24}{cells}   {ratios}", flush=True)

    if world.rank == 0:
        print(f"{world.size} ranks, {MPI.Get_library_version().splitlines()[0]}, load {os.getloadavg()[0]:.1f}")
    for nbytes in SIZES:
        size = nbytes // 4
        buffer = np.zeros(size, np.float32)
        methods = {
            "node": replica(world, size, "node")[1],
            "exact": replica(world, size, "rank")[1],
            "MPI": lambda: own.Allreduce(MPI.IN_PLACE, buffer),  # noqa: B023
        }
        if make_gloo is not None:
            methods["gloo"] = make_gloo(size)
        if nbytes < 1e6:
            show(f"all-reduce of {nbytes:,} B", measure(methods, max(1, options.repeat // 4), block=200))
            show("the same, cold", measure(methods, options.repeat * 8))
        else:
            show(f"all-reduce of {nbytes:,} B", measure(methods, options.repeat))
    row = np.ones((1, 1))
    show(
        "tree_sum of 8 B",
        measure({"node": lambda: comm.tree_sum(world, row, virtual_workers=world.size)}, 1, block=500),
    )
    methods = {}
    for name, memory in (("node", "node"), ("exact", "rank")):
        model, exchange = replica(world, SIZES[2] // 4, memory)
        optimizer = optim.AdamW(model.parameters(), lr=1e-5)

        def step(exchange=exchange, optimizer=optimizer) -> None:
            exchange()
            optimizer.step([])

        methods[name] = step
    show("25 MB and AdamW", measure(methods, options.repeat))


if __name__ == "__main__":
    main()
