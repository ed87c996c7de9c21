"""All-reduce of 4 B to 100 MB: the fixed tree (thread and polling) beside MPI's own. Prints a table on rank 0.

    mpirun -n 2 python tests/benchmarks/allreduce.py [--torch] [--max-mb 100] [--chunk-kb 1024] [--window 4] [--repeat 15]

Medians over the repetitions of the slowest rank, in place, float32, V = the smallest power of two >= the ranks (or
--workers). "MPI, blocking" is MPI_Allreduce called by the main thread and nothing else; "mpi" is `reduction="mpi"`, the same
sum posted to the engine; `--torch` adds PyTorch's all-reduce over gloo. Below 1 MB there are eight times as many repetitions.
Every method is timed in turn within a repetition, so that a noisy moment hits all of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

from allgrad import comm, parallel


def gloo(world: comm.World):
    """PyTorch's all-reduce over gloo, called by the main thread."""
    import torch

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0" if world.nodes > 1 else "lo"
    address = "10.77.0.1" if world.nodes > 1 else "127.0.0.1"  # as tests/mpi/netns has them
    torch.distributed.init_process_group("gloo", f"tcp://{address}:29512", rank=world.rank, world_size=world.size)

    def run(arrays: list[np.ndarray]) -> float:
        tensor = torch.from_numpy(arrays[0])
        start = time.perf_counter()
        torch.distributed.all_reduce(tensor)
        return time.perf_counter() - start

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-mb", type=float, default=100)
    parser.add_argument("--min-bytes", type=int, default=4)
    parser.add_argument("--chunk-kb", type=int, default=1024)
    parser.add_argument("--small-kb", type=int, default=64)
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--torch", action="store_true")
    options = parser.parse_args()

    world = comm.init()
    if world.size < 2:
        sys.exit("This compares all-reduces: start it with mpirun and two ranks or more.")
    from mpi4py import MPI

    sys.setswitchinterval(5e-4)
    own = world.comm.Dup()
    total = options.workers or 1 << (world.size - 1).bit_length()
    plan = comm.plan_block(comm.block(world.rank, world.size, total), total)
    library = parallel.make_exchange("mpi")
    library.open(world, total, None, ())  # type: ignore[arg-type]  # it keeps nothing

    def through(mode: str, reduction: str):
        def run(arrays: list[np.ndarray]) -> float:
            engine = world.engine
            nodes = [(*node, arrays[slot]) for node, slot in zip(plan.nodes, plan.slots, strict=True)]
            start = time.perf_counter()
            if reduction == "exact":
                comm.tree_all_reduce(
                    engine, nodes, arrays[0], virtual_workers=total,
                    chunk_bytes=options.chunk_kb << 10, small_bytes=options.small_kb << 10,
                ).wait()  # fmt: skip
            else:
                bucket = parallel.Bucket(0, arrays[0].dtype, 0, arrays[0].size, ("all",))
                library.post(
                    parallel.BucketGradients(bucket, tuple(nodes), arrays[0], (), ""), step=0, ready=engine.clock()
                )
                library.finish()
            return time.perf_counter() - start

        return mode, run

    def blocking(arrays: list[np.ndarray]) -> float:
        start = time.perf_counter()
        own.Allreduce(MPI.IN_PLACE, arrays[0])
        return time.perf_counter() - start

    methods = {
        "MPI, blocking": ("thread", blocking),
        "exact, thread": through("thread", "exact"),
        "exact, poll": through("poll", "exact"),
        "mpi, thread": through("thread", "mpi"),
    }
    if options.torch:
        methods["gloo"] = ("thread", gloo(world))
    sizes = [4]
    while sizes[-1] * 8 <= options.max_mb * 1e6:
        sizes.append(sizes[-1] * 8)
    sizes = sorted({*sizes, *(int(s * 1e6) for s in (25, 100) if s <= options.max_mb)})
    if world.rank == 0:
        print(f"{world.size} ranks on {world.nodes} nodes, V = {total}, {MPI.Get_library_version().splitlines()[0]}")
        print(f"load {os.getloadavg()[0]:.1f}")
        print("milliseconds".ljust(16) + "".join(name.rjust(16) for name in methods) + "  exact/MPI".rjust(12))
    for nbytes in sizes:
        if nbytes < options.min_bytes:
            continue
        arrays = [np.ones(nbytes // 4, np.float32) for _ in range(plan.arrays)]
        taken: dict[str, list[float]] = {name: [] for name in methods}
        for mode in ("thread", "poll"):
            world.start_engine(mode=mode, window=options.window)
            for _ in range(options.repeat * (8 if nbytes < 1e6 else 1)):
                for name, (wanted, run) in methods.items():
                    if wanted == mode:
                        own.Barrier()
                        taken[name].append(run(arrays))
                        for array in arrays:
                            array.fill(1)
        worst = np.max([[taken[name] for name in methods] for taken in world.all_gather_json(taken)], axis=0)
        medians = np.median(worst[:, 1:], axis=1) * 1e3
        if world.rank == 0:
            label = f"{nbytes / 1e6:g} MB" if nbytes >= 1e6 else f"{nbytes} B"
            print(label.ljust(16) + "".join(f"{m:16.3f}" for m in medians) + f"{medians[1] / medians[0]:12.2f}")


if __name__ == "__main__":
    main()
