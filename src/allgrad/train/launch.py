"""From a command line to a trainer: the world, the kernels, the run's folder, the checkpoint to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import comm, kernels
from allgrad.train.checkpoint import Checkpoint, CheckpointError, load_best, load_latest
from allgrad.train.config import resolve
from allgrad.train.facts import MILD, run_facts
from allgrad.train.folder import RunFolderError, new_folder, open_folder, write_failure
from allgrad.train.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allgrad.train.schema import RunConfig

__all__ = ["load_model", "new_run", "resume_run"]


def new_run(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str | Path] = (),
    single: bool = False,
    before_worker: Callable[[int, int], None] | None = None,
    anomaly: bool = False,
) -> Trainer:
    """The trainer of a new run.

    Args:
        path: the configuration.
        single: all virtual workers in this process, without MPI, whatever launched it.
        before_worker, anomaly: see `Trainer`.
    """
    config = resolve(path, overrides, plugins=plugins)
    world = _world(config, single)
    _verify(config, world, plugins)
    folder = new_folder(config, world, Path(path).stem)
    world.on_failure = write_failure(folder)
    return Trainer(config, world, folder, before_worker=before_worker, anomaly=anomaly)


def resume_run(
    folder: str | Path, overrides: Sequence[str] = (), *, plugins: Sequence[str | Path] = (), single: bool = False
) -> tuple[Trainer, list[str]]:
    """The trainer of a run that goes on from its newest whole checkpoint, and why newer ones were refused.

    Raises:
        RunFolderError: it is no run's folder, has no checkpoint, or has ended.
        CheckpointError: no checkpoint is whole.
    """
    folder = open_folder(folder)
    config = resolve(folder / "config.yaml", overrides, plugins=plugins)
    world = _world(config, single)
    _verify(config, world, plugins)
    checkpoint, refused = _shared_checkpoint(world, folder)
    if checkpoint.step >= (config.train.steps or checkpoint.step + 1) and (folder / "summary.json").exists():
        raise RunFolderError(f"{folder}: this run has ended, after {checkpoint.step} steps. Give a larger train.steps.")
    world.on_failure = write_failure(folder)
    return Trainer(config, world, folder, checkpoint=checkpoint), refused


def load_model(folder: str | Path, *, best: bool = False, plugins: Sequence[str | Path] = ()) -> tuple[Trainer, int]:
    """A run's model in this process, with the averaged weights where the run keeps an average; and after how many steps.

    Args:
        best: the checkpoint with the best metric instead of the newest.
    """
    folder = open_folder(folder)
    config = resolve(folder / "config.yaml", plugins=plugins)
    world = _world(config, single=True)
    checkpoints = folder / "checkpoints"
    checkpoint = load_best(checkpoints, config.train.monitor.mode) if best else load_latest(checkpoints)[0]
    if checkpoint is None:
        what = "with a metric" if best else "at all"
        raise RunFolderError(f"{folder}: has no checkpoint {what}.")
    trainer = Trainer(config, world, folder, checkpoint=checkpoint, report=False)
    return trainer, checkpoint.step


def _world(config: RunConfig, single: bool) -> comm.World:
    kernels.set_up_blas(config.parallel.blas_threads)
    world = comm.World() if single else comm.init(blas_threads=config.parallel.blas_threads)
    if world.size > config.batch.virtual_workers:
        raise comm.LaunchError(
            f"{world.size} ranks cannot share {config.batch.virtual_workers} virtual workers: each rank needs at least one. "
            f"Start at most {config.batch.virtual_workers} ranks, or set batch.virtual_workers={world.size}."
        )
    return world


def _verify(config: RunConfig, world: comm.World, plugins: Sequence[str | Path]) -> None:
    if world.size > 1:
        world.verify(run_facts(config, plugins), tolerate=MILD)


def _shared_checkpoint(world: comm.World, folder: Path) -> tuple[Checkpoint, list[str]]:
    """Rank 0 reads the newest whole checkpoint and gives it to all: the others need not see its disk."""
    checkpoint: Checkpoint | None = None
    refused: list[str] = []
    problem: str | None = None
    if world.rank == 0:
        try:
            checkpoint, refused = load_latest(folder / "checkpoints")
            problem = None if checkpoint else f"{folder}: has no checkpoint to go on from; start it anew."
        except CheckpointError as error:
            problem = str(error)
    problem = world.broadcast_json(problem)
    if problem is not None:
        raise RunFolderError(problem)
    if world.size == 1:
        assert checkpoint is not None
        return checkpoint, refused
    head: dict[str, Any] = world.broadcast_json(None if checkpoint is None else _head(checkpoint))
    model = _broadcast(world, head["model"], None if checkpoint is None else checkpoint.model)
    optimizer = _broadcast(world, head["optimizer"], None if checkpoint is None else checkpoint.optimizer)
    path = folder / "checkpoints" / head["name"]
    return Checkpoint(head["step"], path, model, optimizer, head["state"], head["metric"]), refused


def _head(checkpoint: Checkpoint) -> dict[str, Any]:
    def described(arrays: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
        return [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]

    return {
        "name": checkpoint.path.name,
        "step": checkpoint.step,
        "state": checkpoint.state,
        "metric": checkpoint.metric,
        "model": described(checkpoint.model),
        "optimizer": described(checkpoint.optimizer),
    }


def _broadcast(
    world: comm.World, described: list[Any], arrays: dict[str, np.ndarray[Any, Any]] | None
) -> dict[str, np.ndarray[Any, Any]]:
    result = {}
    for name, dtype, shape in described:
        mine = np.empty(shape, dtype) if arrays is None else np.array(arrays[name], order="C")
        result[name] = world.broadcast(mine.reshape(-1)).reshape(shape)
    return result
