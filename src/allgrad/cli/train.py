"""Train what a configuration describes: under mpirun on its ranks, with -n on ranks that it starts, else in one process.

With --debug, all virtual workers run in this process, without MPI, and end in the same bits as the job on any number of ranks.
A failure then opens the debugger where it happened, and --worker and --step stop right before that worker's step.
"""

from __future__ import annotations

import sys
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

from allgrad.cli.arguments import add_config, add_plugins, add_ranks, plugin_words, rank_count
from allgrad.cli.job import report_outcome, run_job
from allgrad.cli.notes import data_notes
from allgrad.cli.single_process import refuse_ranks
from allgrad.errors import EXIT_STOPPED, AllgradError, CollectiveError, UsageError
from allgrad.kernels import bf16, compile_cache
from allgrad.train.callbacks import Callback

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from allgrad.train.callbacks import RunContext
    from allgrad.train.run.build import Options
    from allgrad.train.trainer import Trainer

__all__ = [
    "add_options",
    "configure",
    "option_words",
    "options_of",
    "post_mortem",
    "print_notes",
    "run",
    "run_to_the_end",
]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad train`."""
    add_config(parser)
    add_options(parser)
    text = "continue the run in run.dir if there is one, which must have this configuration"
    parser.add_argument("--continue", dest="continued", action="store_true", help=text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what `train` and `resume` share."""
    add_ranks(parser)
    add_plugins(parser)
    text = "go on when ranks die, on those that are left, and replace them (Open MPI)"
    parser.add_argument("--survive", action="store_true", help=text)
    parser.add_argument("--debug", action="store_true", help="all virtual workers in this process, with a debugger")
    parser.add_argument("--worker", type=int, metavar="W", help="with --debug and --step: stop before this worker")
    parser.add_argument("--step", type=int, metavar="S", help="with --debug and --worker: in this step, counted from 0")
    text = "stop at the first NaN or infinity, and name the operation that made it"
    parser.add_argument("--anomaly", action="store_true", help=text)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad train`."""
    options = options_of(arguments)
    if arguments.ranks is not None:
        return _on_ranks(arguments)
    from allgrad.train.run.build import new_run

    def train() -> int:
        if arguments.continued:
            return _continue(arguments, options)
        with data_notes() as notes:
            trainer, directory = new_run(arguments.config, arguments.overrides, options)
        print_notes(trainer, notes)
        return run_to_the_end(trainer, directory)

    return post_mortem(train) if arguments.debug else train()


def _continue(arguments: argparse.Namespace, options: Options) -> int:
    """Start a run, or continue it; one that is complete is no mistake."""
    from allgrad.train.run.build import continued_run
    from allgrad.train.run.directory import RunCompleteError

    try:
        trainer, directory, notes = continued_run(arguments.config, arguments.overrides, options)
    except RunCompleteError as error:
        print(f"allgrad: {error}", file=sys.stderr, flush=True)
        return 0
    print_notes(trainer, notes)
    return run_to_the_end(trainer, directory)


def print_notes(trainer: Trainer, notes: list[str]) -> None:
    """What the user should know about a run that continues, on rank 0."""
    if trainer.world.rank == 0:
        for note in notes:
            print(f"allgrad: {note}", file=sys.stderr, flush=True)


def _on_ranks(arguments: argparse.Namespace) -> int:
    """Start the ranks of a new run."""
    from allgrad.cli.ranks import fitting_here
    from allgrad.train.config import resolve

    # A mistake in the configuration is found before any rank is started.
    config = resolve(arguments.config, arguments.overrides, plugins=arguments.plugin)
    ranks = rank_count(arguments.ranks) or fitting_here(config)
    words = [*option_words(arguments), *(["--continue"] if arguments.continued else [])]
    return run_job(ranks, "train", arguments.config, *arguments.overrides, *words, survive=arguments.survive)


def option_words(arguments: argparse.Namespace) -> list[str]:
    """The options of `add_options` that ranks are started with."""
    chosen = [f"--{name}" for name in ("anomaly", "survive") if getattr(arguments, name)]
    return [*plugin_words(arguments.plugin), *chosen]


def options_of(arguments: argparse.Namespace) -> Options:
    """What `add_options` declared, as the trainer takes it.

    Raises:
        UsageError: options that exclude each other.
    """
    from allgrad.train.run.build import Options

    if (arguments.worker is None) != (arguments.step is None) or (arguments.worker is not None and not arguments.debug):
        raise UsageError("--worker and --step must be given together, and with --debug.")
    if arguments.debug:
        refuse_ranks("--debug")
    if arguments.ranks is not None:
        if arguments.debug:
            raise UsageError("--debug runs in a single process; leave out -n.")
        rank_count(arguments.ranks)
        refuse_ranks("-n, which starts mpirun itself,")
    settings: dict[str, Any] = {"anomaly": arguments.anomaly}
    stop = None
    if arguments.worker is not None:
        stop = (arguments.step, arguments.worker)
        settings["before_worker"] = _breakpoint(*stop)
    return Options(
        plugins=arguments.plugin,
        single=arguments.debug,
        trainer=settings,
        stop_before=stop,
        survive=arguments.survive,
    )


def run_to_the_end(trainer: Trainer, directory: Path) -> int:
    """Train, and print on rank 0 where the run is, a sample of its prose, and last the digest of the weights."""
    survivor = trainer.survivor
    joins = survivor is not None and survivor.outside is not None
    root = trainer.world.rank == 0 and not joins
    if root:
        batch = trainer.config.batch
        ranks = f"{trainer.world.size} rank{'s' if trainer.world.size > 1 else ''}"
        workers = f"{batch.virtual_workers} virtual worker{'s' if batch.virtual_workers > 1 else ''}"
        chosen = "" if batch.virtual_workers_from == "configuration" else f" (chosen for batches of {batch.size})"
        print(
            f"{_shown(directory)}: {trainer.model.parameter_count():,} parameters, {trainer.plan.steps} steps, "
            f"{workers}{chosen} on {ranks}",
            flush=True,
        )
        if trainer.config.parallel.reduction.name != "exact" or trainer.config.parallel.shard is not None:
            print(_exchange_in_words(trainer), flush=True)
        why = trainer.replica.why_one_by_one(trainer.objective)
        if why and len(trainer.replica.workers) > 1:
            print(f"the virtual workers of a rank run one by one, which takes longer: {why}", flush=True)
    if root and trainer.config.precision == "bf16":
        print(bf16.EMULATED, file=sys.stderr, flush=True)
    compile_cache.announce(_say_compiling if root else None)
    if survivor is not None:
        survivor.on_change = partial(report_outcome, trainer.world, directory, "running")
    if not joins:
        trainer.callbacks.append(_ReportStart())
    try:
        summary = trainer.run(directory)
    except Exception as error:
        # If one rank of several fails, comm/failure.py reports it.
        everywhere = trainer.world.size == 1 or isinstance(error, CollectiveError)
        outside = survivor is not None and survivor.outside is not None
        if trainer.world.rank == 0 and not outside and everywhere and trainer.world.on_failure is not None:
            trainer.world.on_failure("".join(traceback.format_exception(error)))
        raise
    report_outcome(trainer.world, directory, "stopped" if summary["interrupted"] else "complete")
    if trainer.world.rank == 0:  # which may be another process than at the start
        if not summary["interrupted"]:
            _print_sample(trainer)
        print(f"the run is in {_shown(directory)}")
        print(f"weights sha256 {summary['weights_sha256']}", flush=True)
    return EXIT_STOPPED if summary["interrupted"] else 0


class _ReportStart(Callback):
    """Tells whoever started the job that signals are answered from now on."""

    def on_start(self, run: RunContext) -> None:
        report_outcome(run.world, run.directory, "running")


def _say_compiling(cache: Path) -> None:
    """What rank 0 says when compiling takes time."""
    print(
        f"compiling the kernels for this CPU, once per machine; they are kept in {cache}", file=sys.stderr, flush=True
    )


def _exchange_in_words(trainer: Trainer) -> str:
    """How the run exchanges gradients: what it sends, and whether the bits depend on the number of ranks."""
    from allgrad.train.run.results import exchange_of

    found = exchange_of(trainer)
    predicted = found["predicted_bytes_per_step"]
    sent = "" if not predicted else f", about {predicted / 1e6:.3g} MB sent per step"
    bits = "the same bits at any number of ranks" if found["same_bits"] else "bits depend on the number of ranks"
    return f"exchange {found['name']}, {found['path']}{sent}; {bits}: {found['why']}"


def _shown(directory: Path) -> Path:
    """The directory as a user would type it here: relative, if it is inside the working directory."""
    here = directory.cwd()
    return directory.relative_to(here) if directory.is_relative_to(here) else directory


def _print_sample(trainer: Trainer) -> None:
    """As much prose as the configuration asks for, from a model that can write."""
    from allgrad.train.generate import sample_text

    info, length = trainer.info, trainer.config.logging.sample
    if length and info.kind == "tokens":
        with trainer.evaluated_weights():
            text = sample_text(trainer.model, info.extra, context=info.input_shape[0], length=length)
        print(f"\n{text}\n")


def _breakpoint(step: int, worker: int) -> Callable[[int, int], None]:
    """What opens the debugger right before a worker's forward in a step."""

    def before(at_step: int, at_worker: int) -> None:
        if (at_step, at_worker) == (step, worker):
            print(f"Worker {worker} is about to run step {step}. `up` shows its caller, `next` runs it.", flush=True)
            breakpoint()

    return before


def post_mortem(function: Callable[[], int]) -> int:
    """Open the debugger where an exception arose, if there is a terminal; a user's mistake is reported as usual."""
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
