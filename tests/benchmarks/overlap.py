"""How much of the all-reduce hides behind compute: buckets posted one after another while the main thread computes.

    mpirun -n 2 python tests/benchmarks/overlap.py [--mb 25] [--buckets 8] [--work gemm|python] [--mode thread|poll]
    python tests/mpi/netns/two_hosts.py 2 tests/benchmarks/overlap.py      # over a link of 1 Gbit/s

Communication is timed alone first, and the compute of a step is made as long as it. The ideal step is then
max(compute, communication) plus the communication of the last bucket, which has nothing left to hide behind. `--work
gemm` computes in matrix products; `--work python` in Python and NumPy calls of a few microseconds, as a tape does.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial

import numpy as np

from allgrad import comm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=25)
    parser.add_argument("--buckets", type=int, default=8)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--work", choices=["gemm", "python"], default="gemm")
    parser.add_argument("--mode", choices=["thread", "poll"], default="thread")
    options = parser.parse_args()

    world = comm.init()
    sys.setswitchinterval(5e-4)
    engine = comm.Engine(world, mode=options.mode)
    total = 1 << (world.size - 1).bit_length()
    plan = comm.plan_block(comm.block(world.rank, world.size, total), total)
    size = int(options.mb * 1e6 / 4 / options.buckets)
    arrays = [[np.ones(size, np.float32) for _ in range(plan.arrays)] for _ in range(options.buckets)]
    a = np.random.default_rng(0).standard_normal((256, 256), np.float32)
    small = np.ones(64, np.float32)

    def work(units: int) -> None:
        for _ in range(units):
            if options.work == "gemm":
                a @ a
                engine.poll()
            else:
                for _ in range(50):
                    small + small
                    engine.poll()

    def step(units: int, overlapped: bool) -> float:
        world.barrier()
        for bucket in arrays:
            for array in bucket:
                array.fill(1)
        start = time.perf_counter()
        handles = []
        for number, bucket in enumerate(arrays):
            work(units)
            nodes = [(*node, bucket[slot]) for node, slot in zip(plan.nodes, plan.slots, strict=True)]
            handles.append(engine.post(nodes, bucket[0], total=total, label=f"b{number}", step=0))
            if not overlapped:
                handles[-1].wait()
        for handle in handles:
            handle.wait()
        return time.perf_counter() - start

    def median(measure) -> float:
        times = world.all_gather(np.array([measure() for _ in range(options.steps)]))
        return float(np.median(times.max(axis=0)[1:])) * 1e3

    alone = median(partial(step, 0, True))

    def compute(units: int) -> float:
        start = time.perf_counter()
        for _ in range(options.buckets):
            work(units)
        return time.perf_counter() - start

    guess = median(partial(compute, 20)) / 20
    units = max(1, round(alone / guess))
    computing = median(partial(compute, units))
    serial, overlapped = median(partial(step, units, False)), median(partial(step, units, True))
    ideal = max(alone, computing) + alone / options.buckets
    if world.rank == 0:
        print(
            f"{world.size} ranks on {world.nodes} nodes, {options.mb:g} MB in {options.buckets} buckets, {engine.mode}"
        )
        print(
            f"ms a step: communication {alone:.1f}, compute ({options.work}) {computing:.1f}, one after another {serial:.1f}"
        )
        print(f"           overlapped {overlapped:.1f}, ideal {ideal:.1f}, overlapped / ideal {overlapped / ideal:.3f}")


if __name__ == "__main__":
    main()
