"""Whole training steps of the shipped configurations: one model per node beside one per rank.

    mpirun -n 2 python tests/benchmarks/node_steps.py [--steps 40] [NAME ...]

Each configuration is trained twice at once in one job, with `parallel.memory=rank` and `=node`, in blocks of a few steps in turn,
so that both see the same machine. The figures are medians over the blocks of the slowest rank; CPU time, which other programs
disturb less, is that of all threads and includes waiting. Default: moby_dick, diamonds and heat_equation, which need no download.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import numpy as np

from allgrad import comm, kernels
from allgrad.train.config import resolve
from allgrad.train.trainer import Trainer

CONFIGS = Path(__file__).parents[2] / "configs"
BLOCK = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["moby_dick", "diamonds", "heat_equation"])
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    world = comm.init()
    if world.rank == 0:
        print(f"{world.size} ranks on {world.nodes} node(s), load {os.getloadavg()[0]:.1f}")
    for name in options.names:
        ratio(world, name, options.steps)


def ratio(world: comm.World, name: str, steps: int) -> None:
    trainers = {}
    for memory in ("rank", "node"):
        config = resolve(CONFIGS / f"{name}.yaml", [f"parallel.memory={memory}", "logging.progress=none"])
        kernels.set_up_blas(config.parallel.blas_threads)
        trainers[memory] = Trainer(config, world)
        trainers[memory].writer = None
    taken: dict[str, list[float]] = {memory: [] for memory in trainers}
    cpu: dict[str, list[float]] = {memory: [] for memory in trainers}
    with trainers["rank"].loader, trainers["node"].loader:
        for _ in range(steps // BLOCK + 1):
            for memory, trainer in trainers.items():
                world.barrier()
                start, used = time.perf_counter(), time.process_time()
                for _ in range(BLOCK):
                    trainer._train_step()
                taken[memory].append((time.perf_counter() - start) / BLOCK)
                cpu[memory].append((time.process_time() - used) / BLOCK)

    def worst(times: dict[str, list[float]]) -> dict[str, float]:
        found = {m: np.max(np.array(world.all_gather_json(each[1:])), axis=0) for m, each in times.items()}
        return {m: statistics.median(each.tolist()) for m, each in found.items()}

    medians, spent = worst(taken), worst(cpu)
    if world.rank == 0:
        size = trainers["node"].model.parameter_count() * 4 / 2**20
        print(
            f"{name:<16} {size:7.2f} MiB  rank {medians['rank'] * 1e3:8.2f} ms  node {medians['node'] * 1e3:8.2f} ms  "
            f"node/rank {medians['node'] / medians['rank']:.3f}, of CPU time {spent['node'] / spent['rank']:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
