"""What one operation costs on the tape: forward plus backward on four elements, and what a chain keeps in memory.

    python tests/benchmarks/tape_overhead.py [--against DIRECTORY]

Times are medians of CPU time over interleaved rounds, in microseconds per operation of a chain of 300. HIPS autograd and
PyTorch run next to it where they are installed. With `--against`, the `src` directory of another version of allgrad, both
versions run in turn in processes of their own, and the smallest time of each operation counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np

import allgrad as ag

LENGTH, ROUNDS = 300, 15
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
    "sqrt": lambda m, y, z: m.sqrt(y),
    "exp": lambda m, y, z: m.exp(-y),
    "tanh": lambda m, y, z: m.tanh(y),
    "y + z": lambda m, y, z: y + z,
    "y * z": lambda m, y, z: y * z,
    "y / z": lambda m, y, z: y / z,
    "y * 0.9": lambda m, y, z: y * 0.9,
    "y ** 2": lambda m, y, z: y**2,
    "where": lambda m, y, z: m.where(y > 0, y, z),
    "y[:]": lambda m, y, z: y[:],
    "reshape": lambda m, y, z: y.reshape((4,)),
}


def serve() -> None:
    """For each line that comes in, one round of all operations, as a line of JSON."""
    runs = {name: allgrad_chain(op) for name, op in OPS.items()}
    for _ in sys.stdin:
        print(json.dumps({name: cpu_time(run) for name, run in runs.items()}), flush=True)


def cpu_time(run: Callable[[], None]) -> float:
    """Microseconds per operation."""
    start = time.process_time()
    run()
    return (time.process_time() - start) / LENGTH * 1e6


def compare(other: str) -> None:
    here = os.path.dirname(os.path.dirname(ag.__file__))
    servers = [
        subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env=os.environ | {"PYTHONPATH": source},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for source in (other, here)
    ]
    rounds: list[list[dict[str, float]]] = [[], []]
    for _ in range(ROUNDS):
        for server, found in zip(servers, rounds, strict=True):
            assert server.stdin
            assert server.stdout
            server.stdin.write("\n")
            server.stdin.flush()
            found.append(json.loads(server.stdout.readline()))
    for server in servers:
        server.communicate()
    print(f"{'us per operation':16s}{'there':>10s}{'here':>10s}{'ratio':>10s}")
    for name in OPS:
        there, now = (min(r[name] for r in found) for found in rounds)
        print(f"{name:16s}{there:10.2f}{now:10.2f}{now / there:10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", metavar="DIRECTORY", help="the src directory of another version")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.against:
        compare(options.against)
    else:
        beside_peers()


def beside_peers() -> None:
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
                times[peer].append(cpu_time(run))
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
