"""What virtual workers cost: training steps at V = 8 against V = the number of ranks, for every shipped configuration.

    python tests/benchmarks/virtual_workers.py                        # one process: V = 8 against V = 1
    mpirun -n 2 python tests/benchmarks/virtual_workers.py            # two ranks: V = 8 against V = 2
    python tests/benchmarks/virtual_workers.py moby_dick lstm --rounds 9
    python tests/benchmarks/virtual_workers.py moby_dick --profile    # where the time of a step at V = 8 goes

A step is what the trainer does between two batches: forward, backward, reduction, clipping and the optimizer. Both contestants
train the same model on the same batches, in short turns of about `SLOT` seconds, because the speed of a machine changes within
a second; a round has `TURNS` of them, or one if a step takes longer. Time is CPU time of the process (the communication thread
included). Printed are the medians and the median of the turns' ratios. The target is 1.10.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from allgrad import comm
from allgrad.train.run.build import Options, new_run

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS: dict[str, tuple[str, list[str]]] = {
    "diamonds": ("diamonds", []),
    "heat_equation": ("heat_equation", []),
    "fashion_mnist_mlp": ("fashion_mnist_mlp", []),
    "fashion_mnist_cnn": ("fashion_mnist_cnn", []),
    "moby_dick": ("moby_dick", []),
    "lstm": ("moby_dick", ["model={name: lstm, width: 128, layers: 2}"]),
    "resnet18": ("resnet18", []),
}
"""A configuration and overrides for each row. No shipped configuration has the LSTM, which is among the shipped models."""
SLOT = 0.03
TURNS = 10
BATCHES = 8


class Contestant:
    """One model with its virtual workers and optimizer, and a few batches to train on."""

    def __init__(self, config: str, overrides: list[str], virtual_workers: int, directory: str) -> None:
        words = [f"run.dir={directory}/v{virtual_workers}", f"batch.virtual_workers={virtual_workers}"]
        words += ["train.eval_every=null", "logging.progress=none", *overrides]
        self.trainer, _ = new_run(CONFIGS / f"{config}.yaml", words, Options())
        loader = self.trainer.loader
        batches = [next(loader) for _ in range(BATCHES)]
        self.parts = [self.trainer.replica.parts(batch.arrays, batch.lengths) for batch in batches]
        loader.close()
        self.steps = 0

    def step(self) -> float:
        trainer = self.trainer
        result = trainer.replica.step(trainer.objective, self.parts[self.steps % BATCHES], self.steps)
        settings = trainer.config.optimizer
        trainer.replica.update(clip_norm=settings.clip_norm, clip_value=settings.clip_value)
        self.steps += 1
        return result.loss

    def time(self, steps: int) -> float:
        """CPU seconds per step."""
        start = time.process_time()
        for _ in range(steps):
            self.step()
        return (time.process_time() - start) / steps


def measure(name: str, rounds: int, virtual_workers: int, world: Any) -> tuple[float, float, float]:
    """Milliseconds of a step at V = R and at `virtual_workers`, and the median ratio."""
    config, overrides = MODELS[name]
    with tempfile.TemporaryDirectory() as directory:
        directory = world.broadcast_json(directory)
        contestants = [Contestant(config, overrides, v, directory) for v in (world.size, virtual_workers)]
        for contestant in contestants:
            contestant.time(2)
        took = world.broadcast_json(contestants[0].time(2))
        steps = max(1, round(SLOT / took))
        pairs = []
        for turn in range(rounds * (TURNS if took < SLOT else 1)):
            order = contestants if turn % 2 else contestants[::-1]
            seconds = {id(contestant): contestant.time(steps) for contestant in order}
            pairs.append(tuple(seconds[id(contestant)] for contestant in contestants))
    few, many = (1e3 * statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    return few, many, statistics.median(pair[1] / pair[0] for pair in pairs)


def profile(name: str, virtual_workers: int, world: Any) -> None:
    config, overrides = MODELS[name]
    with tempfile.TemporaryDirectory() as directory:
        contestant = Contestant(config, overrides, virtual_workers, world.broadcast_json(directory))
        contestant.time(3)
        profiler = cProfile.Profile()
        profiler.enable()
        contestant.time(20)
        profiler.disable()
    if world.rank == 0:
        pstats.Stats(profiler, stream=sys.stdout).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=[], help=", ".join(MODELS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--fashion", help="the directory with the images of Fashion-MNIST")
    options = parser.parse_args()
    if options.fashion:
        for config, overrides in MODELS.values():
            overrides += [f"data.directory={options.fashion}"] if config.startswith(("fashion", "resnet")) else []
    world = comm.init()
    ratios = []
    for name in options.models or MODELS:
        if options.profile:
            profile(name, options.workers, world)
            continue
        few, many, ratio = measure(name, options.rounds, options.workers, world)
        ratios.append(ratio)
        if world.rank == 0:
            print(
                f"{name:18s} V={world.size}: {few:9.3f} ms   V={options.workers}: {many:9.3f} ms   ratio {ratio:5.2f}",
                flush=True,
            )
    if world.rank == 0 and ratios:
        print(f"{'largest':18s} {max(ratios):48.2f}")


if __name__ == "__main__":
    main()
