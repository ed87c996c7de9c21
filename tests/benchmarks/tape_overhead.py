"""What one operation costs on the tape: forward plus backward on four elements, and what a chain keeps in memory.

    python tests/benchmarks/tape_overhead.py

Times are medians of CPU time over interleaved rounds, in microseconds per operation of a chain of 1,000. HIPS autograd and
PyTorch run next to it where they are installed. To compare two versions of allgrad, run it in two checkouts in turn.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np

import allgrad as ag

LENGTH, ROUNDS = 1_000, 15
START, OTHER = np.full(4, 0.5), np.full(4, 0.9)


def allgrad_chain(op: Callable) -> Callable[[], None]:
    x, other = ag.tensor(START, requires_grad=True), ag.tensor(OTHER, requires_grad=True)

    def run() -> None:
        y = x
        for _ in range(LENGTH):
            y = op(np, y, other)
        y.backward(np.ones(4))

    return run


def hips_chain(op: Callable) -> Callable[[], None]:
    import autograd
    import autograd.numpy as anp

    def f(x, other):
        y = x
        for _ in range(LENGTH):
            y = op(anp, y, other)
        return anp.sum(y)

    gradient = autograd.grad(f, (0, 1))
    return lambda: gradient(START, OTHER)


def torch_chain(op: Callable) -> Callable[[], None]:
    import torch

    torch.set_num_threads(1)
    x, other = (torch.tensor(a, requires_grad=True) for a in (START, OTHER))

    def run() -> None:
        y = x
        for _ in range(LENGTH):
            y = op(torch, y, other)
        y.backward(torch.ones(4, dtype=torch.float64))

    return run


OPS: dict[str, Callable] = {
    "sin": lambda m, y, z: m.sin(y),
    "tanh": lambda m, y, z: m.tanh(y),
    "y + z": lambda m, y, z: y + z,
    "y * z": lambda m, y, z: y * z,
    "y * 0.9": lambda m, y, z: y * 0.9,
    "y[:]": lambda m, y, z: y[:],
    "reshape": lambda m, y, z: y.reshape((4,)),
}


def main() -> None:
    peers = {"allgrad": allgrad_chain}
    if importlib.util.find_spec("autograd"):
        peers["HIPS autograd"] = hips_chain
    if importlib.util.find_spec("torch"):
        peers["PyTorch"] = torch_chain
    print(f"{'us per operation':16s}" + "".join(f"{peer:>16s}" for peer in peers))
    for name, op in OPS.items():
        runs = {peer: make(op) for peer, make in peers.items()}
        times: dict[str, list[float]] = {peer: [] for peer in peers}
        for _ in range(ROUNDS):
            for peer, run in runs.items():
                start = time.process_time()
                run()
                times[peer].append((time.process_time() - start) / LENGTH * 1e6)
        print(f"{name:16s}" + "".join(f"{statistics.median(times[peer]):16.2f}" for peer in peers))
    memory()


def memory() -> None:
    """How many arrays a chain of 20 operations on a million numbers keeps; for the first two PyTorch keeps as many."""
    for name, op in (("sin", np.sin), ("tanh", np.tanh), ("* 0.9", lambda y: y * 0.9)):
        y = ag.tensor(np.full(1_000_000, 0.5), requires_grad=True)
        tracemalloc.start()
        for _ in range(20):
            y = op(y)
        held = tracemalloc.get_traced_memory()[0] / 8e6
        tracemalloc.stop()
        print(f"20 x {name:6s} keeps {held:5.1f} arrays")


if __name__ == "__main__":
    main()
