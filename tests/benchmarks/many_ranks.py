"""What a job costs as its ranks grow, on one machine: CPU seconds per rank, and whether the bits stay the same.

    python tests/benchmarks/many_ranks.py [--ranks 2 4 8 16 32 64] [--kill]

A tiny model with 64 virtual workers trains few steps and then more; the difference is the cost of a step, the rest that of
starting and ending. More ranks than cores are right, not fast, so CPU time is given, which includes what waiting ranks spend on
looking whether others have come. With --kill, rank 1 of the largest job is killed in the middle, and the seconds until everything
has ended are given.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from small_run import write_config

STEPS = (5, 25)
ALLGRAD = [sys.executable, "-P", "-m", "allgrad"]


def job(config: Path, run: Path, ranks: int, steps: int) -> tuple[float, str]:
    """CPU seconds of a whole job, and the digest of its weights."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["train", str(config), "-n", str(ranks), f"train.steps={steps}", f"run.dir={run}"]
    subprocess.run([*ALLGRAD, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, json.loads((run / "summary.json").read_text())["weights_sha256"]


def killed(config: Path, run: Path, ranks: int) -> str:
    """Kill rank 1 of a long job once it has saved; how long the end took, and its exit code."""
    words = ["train", str(config), "-n", str(ranks), "train.steps=1000000", f"run.dir={run}", "checkpoint.every=5"]
    process = subprocess.Popen([*ALLGRAD, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any((run / "checkpoints").glob("step-*")):
        time.sleep(0.1)
    victim = next(
        int(entry.name)
        for entry in Path("/proc").glob("[0-9]*")
        if entry.name != str(os.getpid())
        and str(run).encode() in (entry / "cmdline").read_bytes()
        and b"PMI_RANK=1" in (entry / "environ").read_bytes().split(b"\0")
    )
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=600)
    return f"{time.monotonic() - began:.1f} s, exit code {process.returncode}: {errors.splitlines()[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="allgrad-ranks-") as name:
        folder = Path(name)
        config = write_config(
            folder,
            batch={"size": 64, "virtual_workers": 64},
            train={"early_stopping": None, "eval_every": None},
            checkpoint={"every": None, "every_minutes": None},
        )
        job(config, folder / "compiles", 1, 1)  # the kernels, once
        for ranks in arguments.ranks:
            few, more = (job(config, folder / f"{ranks}-{steps}", ranks, steps) for steps in STEPS)
            step = (more[0] - few[0]) / (STEPS[1] - STEPS[0]) / ranks
            print(
                f"{ranks:3} ranks: start and end {few[0] / ranks - STEPS[0] * step:5.2f} s per rank, step "
                f"{1000 * step:6.1f} ms per rank, digest {more[1][:12]}",
                flush=True,
            )
        if arguments.kill:
            print(f"rank 1 of {max(arguments.ranks)} killed: {killed(config, folder / 'killed', max(arguments.ranks))}")


if __name__ == "__main__":
    main()
