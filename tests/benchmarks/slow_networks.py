"""Training over a slow link: loss reached, bytes and time of each way to exchange gradients.

    python tests/benchmarks/slow_networks.py [CONFIG [KEY=VALUE ...]] [--rates 100mbit 1gbit] [--only exact local]
    python tests/benchmarks/slow_networks.py configs/moby_dick.yaml            # takes long: each way trains the whole run

Two hosts on this kernel, one rank on each, joined by a link of each rate (tests/mpi/netns/two_hosts.py: network namespaces, so
it needs root, iproute2 and util-linux, and sets all of it up by itself). Each way trains the configuration to its end; the loss
is that of the evaluation at the end. "MB sent" is what rank 0 has counted in its steps, "link" what crossed the link from its
host in the whole job (start-up, evaluations and checkpoints too, and the headers of the packets). Without CONFIG it is the
diamonds with a wider network (330,241 parameters, 500 steps).

The seconds are those of the training loop. On a machine that does other things too they grow with its load, but no way can be
faster than its bytes over the link, which is the column "wire".
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
DIAMONDS = ["model.hidden=[512,512,128]", "train.epochs=null", "train.steps=500", "train.eval_every=null"]
RATES = {"100mbit": 100e6, "1gbit": 1e9}

WAYS = {
    "exact": "exact",
    "bf16": "bf16",
    "top_k": "{name: top_k, fraction: 0.01}",
    "top_k, per rank": "{name: top_k, fraction: 0.01, per: rank}",
    "power_sgd": "{name: power_sgd, rank: 4}",
    "local": "{name: local, inner_steps: 50, replicas: 2}",
    "local, 5 fragments": "{name: local, inner_steps: 50, replicas: 2, fragments: 5}",
}


def main() -> None:
    """Train every way over every link, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "words", nargs="*", metavar="CONFIG KEY=VALUE", help="what is trained; default: diamonds, wider"
    )
    parser.add_argument("--rates", nargs="+", default=list(RATES), metavar="RATE")
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_intermixed_args()
    hosts = _two_hosts()
    if reason := hosts.reason_against():
        sys.exit(f"Not here: {reason}.")
    config, *overrides = options.words or [str(ROOT / "configs" / "diamonds.yaml"), *DIAMONDS]
    print(f"{_processor()}; load {os.getloadavg()[0]:.1f}; {Path(config).name} {' '.join(overrides)}\n")
    print(
        "| link | reduction | loss | MB sent per step | predicted | MB over the link | wire, s | seconds | same bits |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for rate in options.rates:
        for way in options.only:
            with hosts.TwoHosts(rate) as pair:
                summary, link = _train(pair, config, [*overrides, f"parallel.reduction={WAYS[way]}"])
            found, steps = summary["exchange"], summary["steps"]
            cells = [
                rate, way, f"{summary['eval']['loss']:.4f}", f"{found['sent_bytes_per_step'] / 1e6:.4f}",
                f"{found['predicted_bytes_per_step'] / 1e6:.4f}", f"{link / 1e6:.1f}",
                f"{8 * found['sent_bytes_per_step'] * steps / RATES.get(rate, float('nan')):.1f}",
                f"{summary['seconds']:.1f}", "yes" if found["same_bits"] else "no",
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


def _two_hosts():
    spec = importlib.util.spec_from_file_location("two_hosts", ROOT / "tests" / "mpi" / "netns" / "two_hosts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _train(pair, config: str, overrides: list[str]) -> tuple[dict, int]:
    """Two ranks, one on each host; returns the run's summary, and the bytes that left rank 0's host."""
    with tempfile.TemporaryDirectory() as place:
        quiet = ["logging.progress=none", "logging.sample=0", "checkpoint.every=null", "checkpoint.every_minutes=null"]
        words = ["-m", "allgrad.cli.main", "train", config, *overrides, *quiet, f"run.dir={place}/run"]
        path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
        env = os.environ | pair.environment() | {"PATH": path, "OPENBLAS_NUM_THREADS": "1"}
        command = pair.command(2, [sys.executable, *words])
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"The job failed with code {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return json.loads(Path(place, "run", "summary.json").read_text()), pair.bytes_sent()["nodea"]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    main()
