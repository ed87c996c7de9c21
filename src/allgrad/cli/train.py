"""Train what a configuration describes: under mpirun on its ranks, by itself in one process.

With --debug, all virtual workers run in this process, without MPI, and end in the same bits as the job on any number of ranks;
a failure opens the debugger where it happened, and --worker and --step stop right before that worker's step.
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Any

from allgrad.cli.alone import refuse_ranks
from allgrad.errors import EXIT_STOPPED, AllgradError, CollectiveError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from allgrad.train.run.build import Options
    from allgrad.train.trainer import Trainer

__all__ = ["add_options", "configure", "options_of", "post_mortem", "run", "run_to_the_end"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad train`."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="what is changed in it")
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what `train` and `resume` share."""
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="Python file that registers parts"
    )
    parser.add_argument("--debug", action="store_true", help="all virtual workers in this process, with a debugger")
    parser.add_argument("--worker", type=int, metavar="W", help="with --debug: stop before this worker (with --step)")
    parser.add_argument("--step", type=int, metavar="S", help="with --debug: stop in this step, counted from 0")
    parser.add_argument(
        "--anomaly", action="store_true", help="stop at the first NaN or infinity and name its operation"
    )


def run(arguments: argparse.Namespace) -> int:
    """`allgrad train`."""
    from allgrad.train.run.build import new_run

    options = options_of(arguments)

    def train() -> int:
        trainer, folder = new_run(arguments.config, arguments.overrides, options)
        return run_to_the_end(trainer, folder)

    return post_mortem(train) if arguments.debug else train()


def options_of(arguments: argparse.Namespace) -> Options:
    """What `add_options` declared, as the trainer takes it.

    Raises:
        UsageError: options that do not go together.
    """
    from allgrad.train.run.build import Options

    if (arguments.worker is None) != (arguments.step is None) or (arguments.worker is not None and not arguments.debug):
        raise UsageError("--worker and --step go together, and with --debug")
    if arguments.debug:
        refuse_ranks("--debug")
    settings: dict[str, Any] = {"anomaly": arguments.anomaly}
    stop = None
    if arguments.worker is not None:
        stop = (arguments.step, arguments.worker)
        settings["before_worker"] = _breakpoint(*stop)
    return Options(plugins=arguments.plugin, single=arguments.debug, trainer=settings, stop_before=stop)


def run_to_the_end(trainer: Trainer, folder: Path) -> int:
    """Train, and print on rank 0 where the run is, a sample of its prose, and last the digest of the weights."""
    root = trainer.world.rank == 0
    if root:
        ranks = f"{trainer.world.size} rank{'s' if trainer.world.size > 1 else ''}"
        print(
            f"{folder}: {trainer.model.parameter_count():,} parameters, {trainer.plan.steps} steps, "
            f"{trainer.replica.virtual_workers} virtual workers on {ranks}",
            flush=True,
        )
    try:
        summary = trainer.run(folder)
    except Exception as error:
        # Of a rank that fails alone among others, comm/failure.py takes care.
        everywhere = trainer.world.size == 1 or isinstance(error, CollectiveError)
        if root and everywhere and trainer.world.on_failure is not None:
            trainer.world.on_failure("".join(traceback.format_exception(error)))
        raise
    if root:
        if not summary["interrupted"]:
            _print_sample(trainer)
        print(f"the run is in {folder}")
        print(f"weights sha256 {summary['weights_sha256']}", flush=True)
    return EXIT_STOPPED if summary["interrupted"] else 0


def _print_sample(trainer: Trainer) -> None:
    """As much prose as the configuration asks for, of a model that can write."""
    from allgrad.train.generate import sample_text

    info, length = trainer.source.info, trainer.config.logging.sample
    if length and info.kind == "tokens":
        with trainer.evaluated_weights():
            text = sample_text(trainer.model, info.extra, context=info.input_shape[0], length=length)
        print(f"\n{text}\n")


def _breakpoint(step: int, worker: int) -> Callable[[int, int], None]:
    """What opens the debugger right before that worker's part of that step."""

    def before(at_step: int, at_worker: int) -> None:
        if (at_step, at_worker) == (step, worker):
            print(
                f"worker {worker} is about to run step {step}; `up` leads to DataParallel, `next` into it", flush=True
            )
            breakpoint()

    return before


def post_mortem(function: Callable[[], int]) -> int:
    """Open the debugger where an exception arose, if there is a terminal; a user's mistake is reported as ever."""
    try:
        return function()
    except Exception as error:
        terminal = sys.stdin is not None and sys.stdin.isatty()
        if isinstance(error, AllgradError) or not terminal:
            raise
        import pdb

        traceback.print_exc()
        pdb.post_mortem(error.__traceback__)
        return 1
