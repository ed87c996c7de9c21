"""Slow networks: what each way to exchange gradients reaches, what it sends, and how long its steps take over a slow link.

    python tests/benchmarks/slow_networks.py                                  # both tables
    python tests/benchmarks/slow_networks.py --no-time configs/moby_dick.yaml train.steps=650
    python tests/benchmarks/slow_networks.py --no-loss --only exact local --rates 100mbit

Two hosts on this kernel, one rank on each, joined by one link (tests/mpi/netns/two_hosts.py: network namespaces, so it needs
root, iproute2 and util-linux, and sets all of it up by itself).

- **Loss and bytes.** Each way trains CONFIG to its end; the loss is that of the evaluation at the end, and does not depend on
  the link, which has no limit here. "Sent" is what rank 0 has counted in its steps, "link" what left its host in the whole job
  (start-up, evaluations and the headers of packets too). Without CONFIG: the diamonds with a wider network, 500 steps.
- **Time.** The gradients of 24 matrices of 512 x 512 (25 MB), which cost next to nothing to compute, are exchanged and used for a
  step of SGD. All ways take turns in one job, and the times are medians, so other load on the machine changes little: the link is
  what is slow. Local updates send in one step of 50; their time is that of 49 steps without and one with an average, divided by
  50. "Wire" is the time of the bytes alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
DIAMONDS = ["model.hidden=[512,512,128]", "train.epochs=null", "train.steps=500", "train.eval_every=null"]
RATES = {"100mbit": 100e6, "1gbit": 1e9}
JOB = "--job"
MATRICES, SIDE, ROUND = 24, 512, 50

WAYS = {
    "exact": "exact",
    "bf16": "bf16",
    "top_k": "{name: top_k, fraction: 0.01}",
    "top_k, per rank": "{name: top_k, fraction: 0.01, per: rank}",
    "power_sgd": "{name: power_sgd, rank: 4}",
    "local": "{name: local, inner_steps: 50, replicas: 2, outer_lr: 1.0, outer_momentum: 0.5}",
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="CONFIG KEY=VALUE", help="what is trained for the table of losses")
    parser.add_argument("--rates", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--turns", type=int, default=5, help="steps without and with an average of local updates, each")
    parser.add_argument("--no-loss", action="store_true", help="leave out the table of losses")
    parser.add_argument("--no-time", action="store_true", help="leave out the table of times")
    options = parser.parse_intermixed_args()
    hosts = _two_hosts()
    if reason := hosts.reason_against():
        sys.exit(f"Not here: {reason}.")
    config, *overrides = options.words or [str(ROOT / "configs" / "diamonds.yaml"), *DIAMONDS]
    print(f"{_processor()}; load {os.getloadavg()[0]:.1f}")
    if not options.no_loss:
        print(f"\n{Path(config).name} {' '.join(overrides)}\n")
        _row("reduction", "loss", "MB sent per step", "predicted", "MB over the link", "same bits at any R")
        _row(*["---"] * 6)
        for way in options.only:
            _print_loss(hosts, way, config, overrides)
    if not options.no_time:
        print(f"\n{MATRICES} matrices of {SIDE} x {SIDE}; ms per step\n")
        times = {rate: _times(hosts, rate, options.only, options.turns) for rate in options.rates}
        _row(
            "reduction",
            "MB sent per step",
            *(f"{what} at {rate}" for rate in options.rates for what in ("wire", "step")),
        )
        _row(*["---"] * (2 + 2 * len(options.rates)))
        for way in options.only:
            sent = times[options.rates[0]][way][1]
            cells = [f"{ms:.0f}" for r in options.rates for ms in (8e3 * sent / RATES[r], 1e3 * times[r][way][0])]
            _row(way, f"{sent / 1e6:.3f}", *cells)


def _print_loss(hosts, way: str, config: str, overrides: list[str]) -> None:
    with hosts.TwoHosts(None) as pair:
        summary = _train(pair, config, [*overrides, f"parallel.reduction={WAYS[way]}"])
        link = pair.bytes_sent()["nodea"]
    found = summary["exchange"]
    sent, predicted = found["sent_bytes_per_step"] / 1e6, found["predicted_bytes_per_step"] / 1e6
    same = "yes" if found["same_bits"] else "no"
    _row(way, f"{summary['eval']['loss']:.4f}", f"{sent:.4f}", f"{predicted:.4f}", f"{link / 1e6:.1f}", same)


def _times(hosts, rate: str, ways: list[str], turns: int) -> dict[str, tuple[float, float]]:
    """For each way, the seconds of a step over a link, and the bytes that rank 0 sends in it."""
    with hosts.TwoHosts(rate) as pair:
        return json.loads(_run(pair, [str(HERE), JOB, str(turns), *ways]))


def _job(turns: int, ways: list[str]) -> None:
    """What each rank does for `_times`; rank 0 prints the result."""
    import numpy as np
    import yaml

    from allgrad import comm, nn, optim, parallel

    class Matrices(nn.Module):
        def __init__(self):
            for i in range(MATRICES):
                setattr(self, f"w{i}", nn.Parameter(np.zeros((SIDE, SIDE), np.float32)))

    world = comm.init()
    rows = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), np.float32)
    replicas, times = {}, {way: [] for way in ways}
    for way in ways:
        reduction = yaml.safe_load(WAYS[way].replace(f"inner_steps: {ROUND}", "inner_steps: 2"))
        model = Matrices()
        replicas[way] = parallel.DataParallel(model, world, virtual_workers=2, reduction=reduction)
        replicas[way].attach(optim.SGD(model.parameters(), lr=1e-3))
    for step in range(2 * turns):
        for way, replica in replicas.items():
            world.barrier()
            began = time.perf_counter()
            replica.step(
                lambda part, model=replica.model: sum(np.sum(p * part[0]) for p in model.parameters()),
                replica.split(rows),
                step,
            )
            replica.update()
            times[way].append(time.perf_counter() - began)
    found = {}
    for way, replica in replicas.items():
        seconds, sent = times[way][2:], replica.exchange.bytes_per_step()
        found[way] = statistics.median(seconds), sent
        if way == "local":  # every second step has an average
            plain, average = (statistics.median(seconds[i::2]) for i in (0, 1))
            found[way] = (plain * (ROUND - 1) + average) / ROUND, sent * 2 / ROUND
    if world.rank == 0:
        print(json.dumps(found))


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def _two_hosts():
    spec = importlib.util.spec_from_file_location("two_hosts", ROOT / "tests" / "mpi" / "netns" / "two_hosts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _train(pair, config: str, overrides: list[str]) -> dict:
    """The summary of a run on two ranks, one on each host."""
    with tempfile.TemporaryDirectory() as place:
        quiet = ["logging.progress=none", "logging.sample=0", "checkpoint.every=null", "checkpoint.every_minutes=null"]
        _run(pair, ["-m", "allgrad.cli.main", "train", config, *overrides, *quiet, f"run.dir={place}/run"])
        return json.loads(Path(place, "run", "summary.json").read_text())


def _run(pair, words: list[str]) -> str:
    """What a job of two ranks prints."""
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    env = os.environ | pair.environment() | {"PATH": path, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(pair.command(2, [sys.executable, *words]), env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"The job failed with code {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    if sys.argv[1:2] == [JOB]:
        _job(int(sys.argv[2]), sys.argv[3:])
    else:
        main()
