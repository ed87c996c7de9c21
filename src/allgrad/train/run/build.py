"""From a command line to a trainer: the world, the kernels, the run's folder, the checkpoint to go on from.

Everything that can be wrong with a run is found before its folder is made or touched.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allgrad import comm, kernels
from allgrad.train.checkpoint.format import Checkpoint, load_best, load_latest, load_newest
from allgrad.train.checkpoint.state import share
from allgrad.train.config import changed_keys, from_json, resolve
from allgrad.train.run.agreement import SharedError, on_every_rank, on_rank_0
from allgrad.train.run.directory import RunFolderError, begin_again, new_folder, open_folder, write_failure
from allgrad.train.run.provenance import MILD, run_facts
from allgrad.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.train.config.schema import RunConfig

__all__ = ["MAY_CHANGE", "Options", "load_model", "new_run", "resume_run"]

MAY_CHANGE = (
    "train.*",
    "checkpoint.*",
    "logging.*",
    "batch.eval_size",
    "parallel.bucket_mb",
    "parallel.comm",
    "parallel.stall_seconds",
)
"""What a run that goes on may be told anew, beside where its data lie now: how long it is, what it tells."""


@dataclass(frozen=True)
class Options:
    """How to run, beside what the configuration says.

    Attributes:
        plugins: Python files that register parts.
        single: all virtual workers in this process, without MPI, whatever launched it.
        trainer: keyword arguments of `Trainer`: callbacks, before_worker, anomaly.
        stop_before: (step, worker) at which `before_worker` wants to stop, which must come.
    """

    plugins: Sequence[str | Path] = ()
    single: bool = False
    trainer: dict[str, Any] = field(default_factory=dict)
    stop_before: tuple[int, int] | None = None


def new_run(path: str | Path, overrides: Sequence[str] = (), options: Options | None = None) -> tuple[Trainer, Path]:
    """The trainer of a new run, and its folder.

    Args:
        path: the configuration.
    """
    options = options or Options()
    world = _join(options)
    config = on_every_rank(world, lambda: resolve(path, overrides, plugins=options.plugins))
    _verify(config, world, options)
    trainer = Trainer(config, world, **options.trainer)
    _check_stop(trainer, options)
    folder = new_folder(config, world, Path(path).stem, plugins=options.plugins)
    world.on_failure = write_failure(folder)
    return trainer, folder


def resume_run(
    folder: str | Path, overrides: Sequence[str] = (), options: Options | None = None
) -> tuple[Trainer, Path, list[str]]:
    """The trainer of a run that goes on from its newest whole checkpoint, its folder, and what there is to say of that.

    Raises:
        SharedError: it is no run's folder, has ended, no checkpoint is whole, or what is overridden may not change.
    """
    options = options or Options()
    world = _join(options)
    folder, said = Path(folder), []
    config = _stored_config(world, folder, overrides, options)
    _verify(config, world, options)
    checkpoint, refused = _stored_checkpoint(world, folder)
    said += [f"{message} The one before it is used." for message in refused]
    if checkpoint is None:
        said.append(f"{folder}: has no checkpoint yet; the run begins again.")
    trainer = Trainer(config, world, checkpoint=checkpoint, **options.trainer)
    _check_stop(trainer, options)
    if overrides:
        trainer.stopping = None
    _refuse_ended(world, folder, trainer)
    on_rank_0(world, lambda: begin_again(folder, config, from_the_start=checkpoint is None))
    world.on_failure = write_failure(folder)
    return trainer, folder, said


def load_model(
    folder: str | Path, overrides: Sequence[str] = (), *, best: bool = False, plugins: Sequence[str | Path] = ()
) -> Trainer:
    """A trainer in this process that holds a run's model, for evaluation; its `step` says after how many.

    Args:
        overrides: what a run that goes on may be told anew, such as where its data lie.
        best: the checkpoint with the best metric instead of the newest.

    Warns:
        RuntimeWarning: the newest checkpoint is damaged, and the one before it is used.
    """
    folder = Path(folder)
    config = _changed_config(folder, overrides, plugins)
    kernels.set_up_blas(config.parallel.blas_threads)
    checkpoints = folder / "checkpoints"
    checkpoint = load_best(checkpoints, config.train.monitor.mode) if best else load_newest(checkpoints)
    if checkpoint is None:
        what = "with a metric" if best else "yet"
        raise RunFolderError(f"{folder}: has no checkpoint {what}.")
    return Trainer(config, comm.World(), checkpoint=checkpoint)


def _join(options: Options) -> comm.World:
    """This process's world.

    Raises:
        SharedError: there is no MPI library, or it does not start.
    """
    if options.single:
        return comm.World()
    try:
        return comm.init()
    except (ImportError, RuntimeError) as error:
        if hasattr(error, "exit_code"):
            raise
        words = " ".join(str(error).split())
        raise SharedError(f"MPI does not start: {words}. `allgrad doctor` says more.", exit_code=1) from error


def _verify(config: RunConfig, world: comm.World, options: Options) -> None:
    """Set up the kernels, and find the ranks to agree on everything that the result depends on.

    Raises:
        SharedError: there are more ranks than virtual workers.
        DisagreementError: they differ.
    """
    workers = config.batch.virtual_workers
    if world.size > workers:
        raise SharedError(
            f"{world.size} ranks cannot share {workers} virtual workers: each rank needs at least one. "
            f"Start at most {workers} ranks, or set batch.virtual_workers={world.size}."
        )
    kernels.set_up_blas(config.parallel.blas_threads)
    if world.engine is not None:
        world.engine.configure(stall_seconds=config.parallel.stall_seconds)
    if world.size > 1:
        world.verify(run_facts(config, options.plugins), tolerate=MILD)


def _check_stop(trainer: Trainer, options: Options) -> None:
    """Raise where the step and worker at which the debugger shall open never come."""
    if options.stop_before is None:
        return
    step, worker = options.stop_before
    if not (trainer.step <= step < trainer.plan.steps and 0 <= worker < trainer.replica.virtual_workers):
        raise SharedError(
            f"--step {step} --worker {worker} never comes: this run has the steps {trainer.step} to {trainer.plan.steps - 1} "
            f"before it, and the workers 0 to {trainer.replica.virtual_workers - 1}."
        )


def _stored_config(world: comm.World, folder: Path, overrides: Sequence[str], options: Options) -> RunConfig:
    """The run's configuration with overrides, read on rank 0: the other ranks need not see its disk."""

    def read() -> str:
        text: str = _changed_config(folder, overrides, options.plugins).model_dump_json()
        return text

    text = on_rank_0(world, read)
    return on_every_rank(world, lambda: from_json(text, plugins=options.plugins))


def _changed_config(folder: Path, overrides: Sequence[str], plugins: Sequence[str | Path]) -> RunConfig:
    """A run's configuration with overrides.

    Raises:
        RunFolderError: it is no run's folder, or something is overridden that may not change.
    """
    path = open_folder(folder) / "config.yaml"
    stored = resolve(path, plugins=plugins)
    config = resolve(path, overrides, plugins=plugins)
    free = [*MAY_CHANGE, *(f"data.{key}" for key in stored.data.locations())]
    fixed = {
        key: values
        for key, values in changed_keys(stored, config).items()
        if not any(fnmatch.fnmatchcase(key, pattern) for pattern in free)
    }
    if fixed:
        lines = [f"  {key}: {old}, not {new}" for key, (old, new) in fixed.items()]
        raise RunFolderError(
            f"{folder}: a run goes on with what it began with:\n"
            + "\n".join(lines)
            + f"\nOnly {', '.join(free)} may change. Start another run by `allgrad train {path} ... run.dir=...`."
        )
    return config


def _stored_checkpoint(world: comm.World, folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, on every rank, and why newer ones were refused; None where there never was one."""
    checkpoint: Checkpoint | None = None
    refused: list[str] = []

    def read() -> bool:
        nonlocal checkpoint, refused
        checkpoint, refused = load_latest(folder / "checkpoints")
        return checkpoint is not None

    found = on_rank_0(world, read)
    return (share(world, checkpoint, folder / "checkpoints") if found else None), refused


def _refuse_ended(world: comm.World, folder: Path, trainer: Trainer) -> None:
    """Raise where there is nothing left to do."""
    done, planned = trainer.step, trainer.plan.steps
    ended = on_rank_0(world, lambda: (folder / "summary.json").exists())
    if done > planned or (ended and (done == planned or trainer.stopping is not None)):
        why = f" ({trainer.stopping})" if trainer.stopping else ""
        raise RunFolderError(
            f"{folder}: has done {done} of {planned} steps{why}; there is nothing to go on with. "
            "Give a larger train.steps or train.epochs, or other conditions to stop."
        )
