"""What the trainer costs around the bare step, what checkpoints cost, and how long a start takes, on the main job.

    python tests/benchmarks/trainer.py                       # one process
    mpirun -n 2 python tests/benchmarks/trainer.py           # the loop on two ranks
    python tests/benchmarks/trainer.py --start               # `allgrad --help`, and mpirun to the first step

The bare step is DataParallel.step, clipping and the optimizer's step over batches made beforehand. It runs inside the trainer's
own run, in a callback after every block of 20 steps, with the same replica and optimizer, so that both see the same machine. The
ratios are medians over the blocks, of wall time and of the process's CPU time (which counts the loader's and the checkpoint's
threads in full, and a noisy neighbour not at all). Targets: trainer over bare 1.05, a checkpoint every 20 steps 3.5 %.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from allgrad import comm, optim
from allgrad.train.callbacks import Callback
from allgrad.train.run.build import Options, new_run

CONFIG = Path(__file__).parents[2] / "configs" / "moby_dick.yaml"
BLOCK = 20


class Interleave(Callback):
    """After each block of the trainer's steps, a block of bare ones; `blocks` has (trainer, bare) of (wall, CPU) seconds."""

    def __init__(self) -> None:
        self.blocks: list[tuple[tuple[float, float], tuple[float, float]]] = []
        self.parts: list[dict[int, Any]] = []

    def on_start(self, trainer: Any) -> None:
        workers = trainer.replica.workers
        self.parts = [dict(zip(workers, next(trainer.loader).workers, strict=True)) for _ in range(BLOCK)]
        self.mark = clocks()

    def on_step(self, trainer: Any, result: Any) -> None:
        if trainer.progress.step % BLOCK:
            return
        if trainer.writer is not None:
            trainer.writer.wait()  # usually long done; otherwise the rest counts as the trainer's
        ours = since(self.mark)
        mark = clocks()
        for number, parts in enumerate(self.parts):
            trainer.replica.step(trainer.objective, parts, number)
            optim.clip_norm(trainer.optimizer.flat, trainer.config.optimizer.clip_norm)
            trainer.optimizer.step()
        self.blocks.append((ours, since(mark)))
        self.mark = clocks()


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(mark: tuple[float, float]) -> tuple[float, float]:
    now = clocks()
    return now[0] - mark[0], now[1] - mark[1]


def loop(blocks: int, overrides: list[str]) -> tuple[float, float, float]:
    """Median ratio of trainer to bare, in wall and in CPU time, and the bare step's seconds."""
    interleave = Interleave()
    options = Options(trainer={"callbacks": [interleave]})
    with tempfile.TemporaryDirectory() as folder:
        folder = comm.init().broadcast_json(folder)
        words = [f"run.dir={folder}/run", f"train.steps={BLOCK * (blocks + 1)}", "train.eval_every=null"]
        words += ["logging.progress=none", "data.valid=200", *overrides]
        trainer, run = new_run(CONFIG, words, options)
        trainer.run(run)
    measured = interleave.blocks[1:]  # the first one finds cold caches
    wall, cpu = (statistics.median(ours[i] / bare[i] for ours, bare in measured) for i in (0, 1))
    return wall, cpu, statistics.median(bare[0] for _, bare in measured) / BLOCK


def start() -> None:
    """Seconds of `allgrad --help`, and from mpirun to the end of the main job's first step."""
    command = [str(Path(sys.executable).with_name("allgrad"))]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([*command, "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - began)
    print(f"allgrad --help: best {min(seconds):.2f} s, median {statistics.median(seconds):.2f} s (target 0.5)")
    mpirun = [str(Path(sys.executable).with_name("mpirun")), "-n", "2", *command]
    first = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            words = [
                "train",
                str(CONFIG),
                f"run.dir={folder}/run",
                "train.steps=1",
                "train.log_every=1",
                "data.valid=200",
            ]
            began = time.perf_counter()
            with subprocess.Popen([*mpirun, *words], stdout=subprocess.PIPE, text=True) as job:
                assert job.stdout is not None
                first.append(next(time.perf_counter() - began for line in job.stdout if line.startswith("step 1/")))
                job.stdout.read()
    print(f"mpirun -n 2 to the first step: best {min(first):.2f} s, median {statistics.median(first):.2f} s (target 5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=10, help="of 20 + 20 steps; 10 are about a minute a line")
    parser.add_argument("--start", action="store_true", help="measure starts instead")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="what is changed in the main job")
    arguments = parser.parse_args()
    if arguments.start:
        print(f"load {os.getloadavg()[0]:.1f}")
        start()
        return
    root = comm.init().rank == 0
    found = {}
    for every in ("null", str(BLOCK)):
        load = os.getloadavg()[0]
        found[every] = loop(arguments.blocks, [*arguments.overrides, f"checkpoint.every={every}"])
        wall, cpu, bare = found[every]
        if root:
            print(
                f"checkpoint.every={every:<4}  bare step {1000 * bare:6.1f} ms   trainer over bare: wall {wall:.3f}, "
                f"CPU {cpu:.3f}   load {load:.1f}",
                flush=True,
            )
    if root:
        wall, cpu = (100 * (found[str(BLOCK)][i] / found["null"][i] - 1) for i in (0, 1))
        print(f"a checkpoint every {BLOCK} steps: wall {wall:+.1f} %, CPU {cpu:+.1f} % (target 3.5)")


if __name__ == "__main__":
    main()
