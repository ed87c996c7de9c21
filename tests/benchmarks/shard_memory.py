"""Memory of each rank with the optimizer's state whole, and divided among the ranks (`shard="optimizer"`).

    mpirun -n 4 python tests/benchmarks/shard_memory.py [--millions 50] [--optimizer AdamW]
    mpirun -n 4 python tests/benchmarks/shard_memory.py --shard

A network of big matrices makes three steps, then the anonymous memory of each process (RssAnon: no libraries, nothing shared) is
compared with that before the network was made.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path

import numpy as np

from allgrad import comm, nn, optim, parallel


def anonymous() -> float:
    """Anonymous memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6


def measured(world: comm.World, shard: str | None, options: argparse.Namespace) -> tuple[float, int]:
    """The memory of this rank, and the number of parameters."""
    gc.collect()
    before = anonymous()
    model = nn.models.MLP([64, *[1024] * max(1, round(options.millions * 1e6 / 1024**2)), 8], rng=0)
    replica = parallel.DataParallel(model, world, virtual_workers=world.size, shard=shard, memory="rank")
    kept = replica.attach(getattr(optim, options.optimizer)(model.parameters(), lr=1e-3))
    rng = np.random.default_rng(0)
    for step in range(3):
        x = rng.standard_normal((world.size, 64), dtype=np.float32)
        replica.step(lambda part: np.mean(model(part) ** 2), replica.split(x), step)
        replica.update(clip_norm=1.0)
    gc.collect()
    after = anonymous()
    assert kept is not None
    return after - before, model.parameter_count()


def main() -> None:
    """Measure both, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=50, help="parameters")
    parser.add_argument("--optimizer", default="AdamW")
    parser.add_argument("--shard", action="store_const", const="optimizer", help="divide the optimizer's state")
    options = parser.parse_args()
    world = comm.init()
    mine, parameters = measured(world, options.shard, options)
    everyone = world.all_gather(np.array([mine])).reshape(-1)
    if world.rank == 0:
        size = 4 * parameters / 1e6
        print(
            f"{options.optimizer}, shard={options.shard}, {parameters:,} parameters ({size:.0f} MB), {world.size} ranks"
        )
        print(
            f"MB of each rank: {', '.join(f'{mb:.0f}' for mb in everyone)}  (largest / weights: {max(everyone) / size:.2f})"
        )


if __name__ == "__main__":
    main()
