"""What `--survive` costs with `memory: node`: saving the state before an update, and moving it when the ranks have changed.

    mpirun -n 2 python tests/benchmarks/survival.py [--millions 10]

Each rank prints CPU seconds (median): of an AdamW update of its share, and of copying that share of parameters and moments into
the shadow; and the seconds that a move of all of it into new shared memory takes.
"""

import argparse
import statistics
import time

import numpy as np

import allgrad as ag
from allgrad import comm, optim
from allgrad.comm import NodeMemory
from allgrad.memory import Shadow, flatten


def median(function, clock, rounds=9):
    times = []
    for _ in range(rounds):
        began = clock()
        function()
        times.append(clock() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=10)
    size = int(parser.parse_args().millions * 1e6)
    world = comm.init()
    world.open_board()
    leaf = ag.tensor(np.ones(size, np.float32), requires_grad=True)
    flat = flatten([("w", leaf)], sharing=NodeMemory(world))
    optimizer = optim.AdamW([leaf])
    flat.grads.flat[leaf.dtype][...] = 1e-3
    optimizer.step(())
    shadow = Shadow(flat)
    shadow.save()
    update = median(lambda: optimizer.step(()), time.thread_time)
    save = median(shadow.save, time.thread_time)
    move = median(lambda: flat.move(NodeMemory(world), fills=world.rank == 0), time.perf_counter, 3)
    print(f"rank {world.rank}: update {update:.4f} s, save {save:.4f} s ({save / update:.2f} of it), move {move:.3f} s")


if __name__ == "__main__":
    main()
