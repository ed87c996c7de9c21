"""Slow networks: what each way to exchange gradients reaches, what it sends, and how long its steps take over a slow link.

    python tests/benchmarks/slow_networks.py                                  # both tables
    python tests/benchmarks/slow_networks.py --no-time configs/moby_dick.yaml train.steps=650
    python tests/benchmarks/slow_networks.py --no-loss --only exact local --rates 100mbit

Two hosts on this kernel, one rank on each, joined by one link (tests/mpi/netns/two_hosts.py: network namespaces, so it needs
root, iproute2 and util-linux, and sets all of it up by itself).

- **Loss and bytes.** Each way trains CONFIG to its end; the loss is that of the evaluation at the end, and does not depend on
  the link, which has no limit here. "Sent" is what rank 0 has counted in its steps, "link" what left its host in the whole job
  (start-up, evaluations and the headers of packets too). Without CONFIG: the diamonds with a wider network, 500 steps.
- **Time.** A transformer of 3.2 million parameters (13 MB of gradients) takes a few steps over each link. The times are medians
  of steps after the first two. Local updates send in one step of 50 only: their time is that of 49 steps without and one with an
  average, divided by 50 (here a round has 4 steps, so that both are measured). "Wire" is the time of the bytes alone: no way can
  be faster, and on a machine that does other things too the difference is those other things.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
DIAMONDS = ["model.hidden=[512,512,128]", "train.epochs=null", "train.steps=500", "train.eval_every=null"]
TIMED = [
    "model.layers=4",
    "model.width=256",
    "model.heads=8",
    "batch.size=8",
    "batch.virtual_workers=2",
    "data.valid=2000",
]
RATES = {"100mbit": 100e6, "1gbit": 1e9}
ROUND, TIMED_ROUND, TIMED_STEPS = 50, 4, 12

WAYS = {
    "exact": "exact",
    "bf16": "bf16",
    "top_k": "{name: top_k, fraction: 0.01}",
    "top_k, per rank": "{name: top_k, fraction: 0.01, per: rank}",
    "power_sgd": "{name: power_sgd, rank: 4}",
    "local": "{name: local, inner_steps: 50, replicas: 2, outer_lr: 1.0, outer_momentum: 0.5}",
    "local, 2 fragments": "{name: local, inner_steps: 50, replicas: 2, outer_lr: 1.0, outer_momentum: 0.5, fragments: 2}",
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="CONFIG KEY=VALUE", help="what is trained for the table of losses")
    parser.add_argument("--rates", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
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
        print(f"\nmoby_dick.yaml {' '.join(TIMED)}\n")
        columns = [name for rate in options.rates for name in (f"wire at {rate}, s", f"step at {rate}, s")]
        _row("reduction", "MB sent per step", *columns)
        _row(*["---"] * (2 + len(columns)))
        for way in options.only:
            _print_times(hosts, way, options.rates)


def _print_loss(hosts, way: str, config: str, overrides: list[str]) -> None:
    with hosts.TwoHosts(None) as pair:
        summary, _ = _train(pair, config, [*overrides, f"parallel.reduction={WAYS[way]}"])
        link = pair.bytes_sent()["nodea"]
    found = summary["exchange"]
    sent, predicted = found["sent_bytes_per_step"] / 1e6, found["predicted_bytes_per_step"] / 1e6
    same = "yes" if found["same_bits"] else "no"
    _row(way, f"{summary['eval']['loss']:.4f}", f"{sent:.4f}", f"{predicted:.4f}", f"{link / 1e6:.1f}", same)


def _print_times(hosts, way: str, rates: list[str]) -> None:
    cells = []
    local = way.startswith("local")
    reduction = WAYS[way].replace(f"inner_steps: {ROUND}", f"inner_steps: {TIMED_ROUND}")
    words = [
        *TIMED,
        f"train.steps={TIMED_STEPS}",
        "train.eval_every=null",
        "train.log_every=1",
        f"parallel.reduction={reduction}",
    ]
    for rate in rates:
        with hosts.TwoHosts(rate) as pair:
            summary, seconds = _train(pair, str(ROOT / "configs" / "moby_dick.yaml"), words)
        sent = summary["exchange"]["predicted_bytes_per_step"] * (TIMED_ROUND / ROUND if local else 1)
        steps = {i: b - a for i, (a, b) in enumerate(itertools.pairwise(seconds), 2) if i > 2}
        averaging = TIMED_ROUND if "fragments" not in way else TIMED_ROUND // 2
        plain = statistics.median(time for i, time in steps.items() if not local or i % averaging)
        with_average = statistics.median(time for i, time in steps.items() if not local or i % averaging == 0)
        averages = (TIMED_ROUND // averaging if local else 0) / ROUND
        cells += [f"{8 * sent / RATES[rate]:.3f}", f"{plain + (with_average - plain) * averages:.2f}"]
    _row(way, f"{sent / 1e6:.3f}", *cells)


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def _two_hosts():
    spec = importlib.util.spec_from_file_location("two_hosts", ROOT / "tests" / "mpi" / "netns" / "two_hosts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _train(pair, config: str, overrides: list[str]) -> tuple[dict, list[float]]:
    """Two ranks, one on each host; returns the run's summary, and the seconds from the start to the end of each logged step."""
    with tempfile.TemporaryDirectory() as place:
        quiet = ["logging.progress=none", "logging.sample=0", "checkpoint.every=null", "checkpoint.every_minutes=null"]
        words = ["-m", "allgrad.cli.main", "train", config, *overrides, *quiet, f"run.dir={place}/run"]
        path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
        env = os.environ | pair.environment() | {"PATH": path, "OPENBLAS_NUM_THREADS": "1"}
        command = pair.command(2, [sys.executable, *words])
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"The job failed with code {done.returncode}:\n{done.stdout}\n{done.stderr}")
        lines = [json.loads(line) for line in Path(place, "run", "metrics.jsonl").read_text().splitlines()]
        seconds = [line["seconds"] for line in lines if "loss" in line]
        return json.loads(Path(place, "run", "summary.json").read_text()), seconds


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    main()
