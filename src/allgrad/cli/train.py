"""Train what a configuration describes: under mpirun on its ranks, by itself in one process.

With --debug, all virtual workers run in this process, without MPI, and end in the same bits as the job on any number of ranks;
a failure opens the debugger where it happened, and --worker and --step stop right before that worker's step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allgrad.cli.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from allgrad.train.trainer import Trainer

__all__ = ["configure", "run", "run_to_the_end"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad train`."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="what is changed in it")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="Python file that registers parts"
    )
    parser.add_argument("--debug", action="store_true", help="all virtual workers in this process, with a debugger")
    parser.add_argument("--worker", type=int, metavar="W", help="with --debug: stop before this worker (with --step)")
    parser.add_argument("--step", type=int, metavar="S", help="with --debug: stop in this step (with --worker)")
    parser.add_argument(
        "--anomaly", action="store_true", help="stop at the first NaN or infinity and name its operation"
    )


def run(arguments: argparse.Namespace) -> int:
    """`allgrad train`."""
    from allgrad.train.launch import new_run

    if (arguments.worker is None) != (arguments.step is None) or (arguments.worker is not None and not arguments.debug):
        raise UsageError("--worker and --step go together, and with --debug")

    def train() -> int:
        trainer = new_run(
            arguments.config,
            arguments.overrides,
            plugins=arguments.plugin,
            single=arguments.debug,
            before_worker=_breakpoint(arguments.worker, arguments.step),
            anomaly=arguments.anomaly,
        )
        return run_to_the_end(trainer)

    return _post_mortem(train) if arguments.debug else train()


def run_to_the_end(trainer: Trainer) -> int:
    """Train, and say on rank 0 where the run lies, a sample of its prose, and last the digest of the weights."""
    from allgrad.train.sample import sample_text

    root = trainer.world.rank == 0
    if root:
        ranks = f"{trainer.world.size} rank{'s' if trainer.world.size > 1 else ''}"
        print(
            f"{trainer.folder}: {trainer.model.parameter_count():,} parameters, {trainer.plan.steps} steps, "
            f"{trainer.total} virtual workers on {ranks}",
            flush=True,
        )
    summary = trainer.run()
    if root:
        length = trainer.config.logging.sample
        if length and trainer.on_tokens and summary["stopped"] is None:
            info = trainer.source.info
            print("\n" + sample_text(trainer.model, info.extra, context=info.input_shape[0], length=length) + "\n")
        print(f"the run lies in {trainer.folder}")
        print(f"weights sha256 {summary['weights_sha256']}", flush=True)
    return 0


def _breakpoint(worker: int | None, step: int | None) -> Callable[[int, int], None] | None:
    if worker is None:
        return None

    def before(at_step: int, at_worker: int) -> None:
        if (at_step, at_worker) == (step, worker):
            print(f"worker {worker} is about to run step {step}; `up` twice leads to DataParallel's _one", flush=True)
            breakpoint()

    return before


def _post_mortem(function: Callable[[], int]) -> int:
    """Open the debugger where an exception arose; a user's mistake is reported as ever."""
    try:
        return function()
    except Exception as error:
        if isinstance(getattr(error, "exit_code", None), int):
            raise
        import pdb
        import sys
        import traceback

        traceback.print_exc()
        trace: Any = error.__traceback__
        if sys.stdin is not None and sys.stdin.isatty():
            pdb.post_mortem(trace)
        raise
