"""From a command line to a trainer: the ranks, the kernels, the run's directory, the checkpoint to continue from.

Everything that can be wrong with a run is found before its directory is created or touched.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allgrad import comm, kernels
from allgrad.comm.agreement import compare
from allgrad.comm.replacement import Pair
from allgrad.errors import AllgradError, CollectiveError, UsageError
from allgrad.train.checkpoint.format import Checkpoint, load_latest
from allgrad.train.checkpoint.state import broadcast_checkpoint
from allgrad.train.components.optimizers import schedule_of
from allgrad.train.config import changed_keys, default_name, from_json, plan, registry, resolve, startup_seconds
from allgrad.train.run.agreement import on_every_rank, on_rank_0
from allgrad.train.run.changes import changed_config
from allgrad.train.run.directory import (
    RunCompleteError,
    RunDirectoryError,
    create_run_directory,
    failure_writer,
    lock_run,
    prepare_resume,
)
from allgrad.train.run.machine import describe_machine
from allgrad.train.run.model import find_checkpoint
from allgrad.train.run.provenance import environment, hardware, write_provenance
from allgrad.train.survive import NotNeededError, Survivor, refuse
from allgrad.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.train.config.schema import RunConfig

__all__ = ["Options", "continued_run", "load_trainer", "new_run", "replacement", "resume_run"]


@dataclass(frozen=True)
class Options:
    """How to run, besides what the configuration says.

    Attributes:
        plugins: Python files or modules that register components.
        single: all virtual workers in this process, without MPI, whatever launched it.
        trainer: keyword arguments of `Trainer`: callbacks, before_worker, anomaly.
        stop_before: the (step, worker) at which `before_worker` stops; it must be reached.
        survive: go on when ranks die, and replace them (survive.py).
    """

    plugins: Sequence[str | Path] = ()
    single: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)
    stop_before: tuple[int, int] | None = None
    survive: bool = False


def new_run(path: str | Path, overrides: Sequence[str] = (), options: Options | None = None) -> tuple[Trainer, Path]:
    """The trainer of a new run, and the run's directory.

    Args:
        path: the configuration.
        overrides: `key.sub=value` each.
        options: see `Options`.

    Raises:
        AllgradError: anything in which the configuration, the data, or the ranks are wrong; on every rank alike.
    """
    options = options or Options()
    world = _join(options, startup_seconds(path, overrides))
    config = on_every_rank(world, lambda: resolve(path, overrides, plugins=options.plugins))
    properties = _verify(config, world, options)
    trainer = _trainer(config, world, options)
    _check_stop(trainer, options)
    directory = create_run_directory(config, world, default_name(path), plugins=options.plugins)
    _record(trainer, directory, properties, options)
    return trainer, directory


def resume_run(
    directory: str | Path, overrides: Sequence[str] = (), options: Options | None = None
) -> tuple[Trainer, Path, list[str]]:
    """The trainer of a run that continues from its newest whole checkpoint, its directory, and notes for the user.

    Raises:
        CollectiveError: it is not a run's directory, is complete, no checkpoint is whole, or an override may not change.
    """
    options = options or Options()
    directory, notes = Path(directory), []
    world = _join(options, startup_seconds(directory / "config.yaml", overrides))
    stored, config = _stored_configs(world, directory, overrides, options)
    on_rank_0(world, lambda: lock_run(directory))
    properties = _verify(config, world, options)
    checkpoint, refused = _stored_checkpoint(world, directory)
    notes += [f"{message} Using the one before it." for message in refused]
    if checkpoint is None:
        notes.append(f"{directory} has no checkpoint yet; the run starts from the beginning.")
    trainer = _trainer(config, world, options, checkpoint)
    _check_stop(trainer, options)
    notes += _learning_rate_notes(stored, trainer)
    if overrides:
        trainer.progress.stopping = None
    _refuse_complete(world, directory, trainer)
    on_rank_0(world, lambda: prepare_resume(directory, config, from_the_start=checkpoint is None))
    _record(trainer, directory, properties, options)
    return trainer, directory, notes


def continued_run(
    path: str | Path, overrides: Sequence[str] = (), options: Options | None = None
) -> tuple[Trainer, Path, list[str]]:
    """As `resume_run` if the configuration's run exists already, else as `new_run`, without notes.

    A job that a scheduler starts again gets the same words each time. A run that exists continues only with the configuration
    that it has, but for what `resume_run` allows to change.

    Raises:
        RunCompleteError: there is nothing left to do.
        CollectiveError: the configuration names no `run.dir`, or differs from the run's; whatever the other two raise.
    """
    options = options or Options()
    world = _join(options, startup_seconds(path, overrides))
    config = on_every_rank(world, lambda: resolve(path, overrides, plugins=options.plugins))
    if config.run.dir is None:
        raise CollectiveError("--continue needs run.dir=..., the run to continue.", exit_code=UsageError.exit_code)
    directory = Path(config.run.dir)

    def changes() -> list[str] | None:
        if not (directory / "config.yaml").is_file():
            return None
        stored = resolve(directory / "config.yaml", plugins=options.plugins)
        pairs = changed_keys(stored, config).items()
        return [f"{key}={json.dumps(new)}" for key, (_, new) in pairs if key != "run.dir"]

    changed = on_rank_0(world, changes)
    if changed is None:
        return *new_run(path, overrides, options), []
    return resume_run(directory, changed, options)


def load_trainer(
    directory: str | Path, overrides: Sequence[str] = (), *, best: bool = False, plugins: Sequence[str | Path] = ()
) -> Trainer:
    """A trainer in this process that holds a run's model and its data, for evaluation.

    Args:
        directory: the run's.
        overrides: what a resumed run may change, such as the location of the data.
        best: the checkpoint with the best metric instead of the newest.
        plugins: what registered the run's own components.

    Warns:
        RuntimeWarning: the newest checkpoint is damaged, and the one before it is used.
    """
    directory = Path(directory)
    _, config = changed_config(directory, overrides, plugins)
    kernels.set_up_blas(config.parallel.blas_threads)
    checkpoint = find_checkpoint(directory, config, best=best)
    return Trainer(config, comm.World(), checkpoint=checkpoint, same_data=False)


def _join(options: Options, seconds: float) -> comm.World:
    """This process's world.

    Args:
        options: see `Options`.
        seconds: for which ranks wait for each other until the model is built.

    Raises:
        CollectiveError: there is no MPI library, or it does not start.
    """
    if options.single:
        return comm.World()
    try:
        return comm.init(stall_seconds=seconds, survive=options.survive)
    except AllgradError:
        raise
    except (ImportError, RuntimeError) as error:
        words = " ".join(str(error).split())
        raise CollectiveError(f"MPI does not start: {words}. `allgrad doctor` says more.") from error


def _verify(config: RunConfig, world: comm.World, options: Options) -> dict[str, str]:
    """Set up the kernels, and check that the ranks agree on everything that the result depends on.

    Returns:
        What they agree on.

    Raises:
        CollectiveError: there are more ranks than virtual workers.
        DisagreementError: the ranks differ.
    """
    workers = config.batch.virtual_workers
    if world.size > workers:
        raise CollectiveError(
            f"{world.size} ranks cannot share {workers} virtual workers: each rank needs at least one. "
            f"Start at most {workers} ranks, or set batch.virtual_workers={world.size}.",
            exit_code=UsageError.exit_code,
        )
    on_every_rank(world, lambda: refuse(config, registry.exchanges.build(config.parallel.reduction), world))
    kernels.set_up_blas(config.parallel.blas_threads)
    properties = environment(config, options.plugins)
    if world.size > 1:
        world.verify(properties)
    return properties | hardware()


def replacement(plugins: Sequence[str | Path] = ()) -> tuple[Trainer, Path]:
    """In a process that survivors have started: the trainer with which it takes the place of a rank, and the run's directory.

    Raises:
        NotNeededError: the rank that started this one has died.
        AllgradError: this process cannot train what the others train.
    """
    world = comm.init_replacement()
    pair = Pair.with_rank_0()
    hello = pair.receive()
    if hello is None:
        raise NotNeededError
    config = from_json(hello["config"], plugins=plugins)
    kernels.set_up_blas(config.parallel.blas_threads)
    if differs := compare([hello["properties"], environment(config, plugins)]):
        raise CollectiveError("This process differs from the ranks of the job:\n" + "\n".join(differs.values()))
    trainer = Trainer(config, world)
    assert world.survival is not None
    world.survival.wanted = hello["wanted"]
    trainer.survivor = Survivor(trainer, hello["properties"], words=_replacement_words(plugins), pair=pair)
    directory = Path(hello["directory"])
    world.on_failure = failure_writer(directory)
    return trainer, directory


def _trainer(config: RunConfig, world: comm.World, options: Options, checkpoint: Checkpoint | None = None) -> Trainer:
    trainer = Trainer(config, world, checkpoint=checkpoint, **options.trainer)
    if world.survival is not None:
        properties, words = environment(config, options.plugins), _replacement_words(options.plugins)
        trainer.survivor = Survivor(trainer, properties, words=words)
    return trainer


def _replacement_words(plugins: Sequence[str | Path]) -> list[str]:
    """The arguments of the Python that takes the place of a rank."""
    return ["-P", "-m", "allgrad", "join", *(word for plugin in plugins for word in ("--plugin", str(plugin)))]


def _record(trainer: Trainer, directory: Path, properties: dict[str, str], options: Options) -> None:
    """Write what the run depends on, and prepare for its failure."""
    world = trainer.world
    ranks = world.all_gather_json(describe_machine())

    def write() -> None:
        more = {
            "data_sha256": trainer.data_record.digest,
            "planned_steps": trainer.plan.steps,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "ranks": ranks,
        }
        try:
            write_provenance(directory / "provenance.json", properties, options.plugins, **more)
        except OSError as error:
            raise RunDirectoryError(f"Cannot write to {directory}: {error.strerror}.") from error

    on_rank_0(world, write)
    world.on_failure = failure_writer(directory)


def _check_stop(trainer: Trainer, options: Options) -> None:
    """Raise if the step and worker at which the debugger should open are never reached."""
    if options.stop_before is None:
        return
    step, worker = options.stop_before
    first, last, workers = trainer.progress.step, trainer.plan.steps - 1, trainer.replica.virtual_workers
    if not (first <= step <= last and 0 <= worker < workers):
        raise UsageError(
            f"--step {step} --worker {worker} is never reached: this run has steps {first}-{last} and "
            f"workers 0-{workers - 1}."
        )


def _stored_configs(
    world: comm.World, directory: Path, overrides: Sequence[str], options: Options
) -> tuple[RunConfig, RunConfig]:
    """The run's configuration as stored and with overrides, read on rank 0: the other ranks need not see its disk."""

    def read() -> list[str]:
        return [config.model_dump_json() for config in changed_config(directory, overrides, options.plugins)]

    texts = on_rank_0(world, read)
    stored, config = on_every_rank(world, lambda: [from_json(text, plugins=options.plugins) for text in texts])
    return stored, config


def _learning_rate_notes(stored: RunConfig, trainer: Trainer) -> list[str]:
    """A note if a run of another length continues with another learning rate than it would have had."""
    step, samples = trainer.progress.step, len(trainer.source.train)
    before = plan(stored, samples)
    if not step or before.steps == trainer.plan.steps:
        return []
    config, lr = trainer.config.optimizer, trainer.config.optimizer.lr
    old = lr * schedule_of(stored.optimizer, before.steps, before.warmup)(min(step, before.steps))
    new = lr * schedule_of(config, trainer.plan.steps, trainer.plan.warmup)(step)
    if abs(new - old) <= 1e-3 * lr:
        return []
    name = config.schedule.name if config.schedule else "constant"
    return [
        f"With {trainer.plan.steps} steps instead of {before.steps}, the schedule {name!r} continues with a learning rate of "
        f"{new:.3g} instead of {old:.3g} at step {step}."
    ]


def _stored_checkpoint(world: comm.World, directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, on every rank, and why newer ones were refused; None if there never was one."""
    checkpoint: Checkpoint | None = None
    refused: list[str] = []

    def read() -> bool:
        nonlocal checkpoint, refused
        checkpoint, refused = load_latest(directory / "checkpoints")
        return checkpoint is not None

    found = on_rank_0(world, read)
    return (broadcast_checkpoint(world, checkpoint, directory / "checkpoints") if found else None), refused


def _refuse_complete(world: comm.World, directory: Path, trainer: Trainer) -> None:
    """Raise if there is nothing left to do."""
    done, planned, stopping = trainer.progress.step, trainer.plan.steps, trainer.progress.stopping
    complete = on_rank_0(world, lambda: (directory / "summary.json").exists())
    if done > planned or (complete and (done == planned or stopping is not None)):
        why = f" ({stopping})" if stopping else ""
        raise RunCompleteError(
            f"{directory} is complete: {done} of {planned} steps are done{why}. "
            "To train longer, pass a larger train.steps or train.epochs, or other stopping conditions."
        )
