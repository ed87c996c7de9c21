"""Whole steps over two hosts joined by 1 Gbit/s: one model per rank beside one per node, with and without shards.

    python tests/benchmarks/node_two_hosts.py [--per-host 2] [--rounds 5] [--width 1024] [--layers 6] [--workers 4]

It makes the two hosts itself (tests/mpi/netns; needs root) and runs one job on them. Every way trains the same linear layers
with AdamW, in blocks of two steps in turn, so that all ways see the same machine. The time is the median over the blocks of the
slowest rank. "on the wire" is what left a host's network interface in a step, from /proc/net/dev, headers included.

If ranks and virtual workers are powers of two, the flat exchange sends as little as the one of two levels, because its first
partner is on the same node. Otherwise (`--workers 6`), and with shards, two levels send half with two ranks per host.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
WAYS = {
    "flat": {"memory": "rank"},
    "node": {"memory": "node"},
    "flat, shards": {"memory": "rank", "shard": "optimizer"},
    "node, shards": {"memory": "node", "shard": "optimizer"},
}


def sent() -> int:
    """Bytes that this host has sent over the link."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    return sum(
        int(line.split(":")[1].split()[8]) for line in lines if ":" in line and not line.strip().startswith("lo:")
    )


def job(rounds: int, width: int, layers: int, workers: int) -> None:
    from allgrad import comm, nn, optim, parallel

    world = comm.init()
    ways = {}
    for name, settings in WAYS.items():
        model = nn.Sequential(*(nn.Linear(width, width, rng=i) for i in range(layers)))
        replica = parallel.DataParallel(model, world, virtual_workers=workers or world.size, **settings)
        replica.attach(optim.AdamW(model.parameters(), lr=1e-4))
        ways[name] = replica
    x = np.random.default_rng(0).standard_normal((64 * (workers or world.size), width), np.float32)
    times, wire = {name: [] for name in ways}, {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, replica in ways.items():
            world.barrier()
            before, start = sent(), time.perf_counter()
            for step in (2 * number, 2 * number + 1):
                replica.step(lambda part, model=replica.model: np.mean(model(part) ** 2), replica.split(x), step)
                replica.update()
            replica.flat.params  # noqa: B018 - wait until the parameters have arrived
            times[name].append((time.perf_counter() - start) / 2)
            world.barrier()
            wire[name].append((sent() - before) / 2)
    worst = {name: np.max(world.all_gather_json(each[1:]), axis=0) for name, each in times.items()}
    digests = {replica.flat.params.flat[np.dtype("f4")].tobytes() for replica in ways.values()}
    if world.rank == 0:
        nbytes = replica.flat.grads.nbytes
        print(
            f"{world.size} ranks on {world.nodes} hosts, {nbytes / 1e6:.1f} MB of gradients; load {os.getloadavg()[0]:.1f}"
        )
        flat = statistics.median(worst["flat"].tolist())
        for name, each in worst.items():
            median, bytes_sent = statistics.median(each.tolist()), statistics.median(wire[name][1:])
            print(
                f"{name:<14} {median * 1e3:8.1f} ms ({median / flat:.2f} of flat), on the wire {bytes_sent / 1e6:6.2f} MB "
                f"({bytes_sent / nbytes:.3f} of the gradients)",
                flush=True,
            )
        print("the same bits" if len(digests) == 1 else "OTHER BITS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-host", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--workers", type=int, default=0, help="virtual workers; default: the ranks")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job(options.rounds, options.width, options.layers, options.workers)
        return
    spec = importlib.util.spec_from_file_location("two_hosts", TESTS / "mpi" / "netns" / "two_hosts.py")
    two_hosts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(two_hosts)
    if reason := two_hosts.reason_against():
        sys.exit(reason)
    with two_hosts.TwoHosts() as hosts:
        command = hosts.command(2 * options.per_host, [sys.executable, __file__, "--job", *sys.argv[1:]], None)
        path = str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", "")
        environment = os.environ | hosts.environment() | {"OPENBLAS_NUM_THREADS": "1", "PATH": path}
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
