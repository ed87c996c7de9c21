"""What a checkpoint of a run holds, from the trainer and back, and from rank 0 to all ranks.

Everything that the next step depends on is here: weights and buffers, the optimizer's moments, the average, the position in
the data, the order in which buckets are posted, what evaluations have found, and what callbacks remember. Random numbers
need no state: they depend on seed, step and worker alone. Nothing depends on the number of ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.train.checkpoint.format import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from allgrad.comm import World
    from allgrad.train.callbacks import Callback
    from allgrad.train.trainer import Trainer

__all__ = ["capture", "restore", "share"]

_KEPT = ("step", "epoch", "samples", "seconds", "train_loss", "metrics", "evaluated", "best", "stopping")
"""The trainer's attributes that are JSON, and stored by name."""

_ARRAY = "$array"
"""In the JSON part of a state, `{"$array": key}` stands for the array that is stored under `key`."""


def capture(trainer: Trainer) -> dict[str, Any]:
    """The arguments `model`, `optimizer` and `state` of `CheckpointWriter.save`."""
    arrays: dict[str, NDArray[Any]] = {}
    state = {name: getattr(trainer, name) for name in _KEPT}
    state |= {
        "loader": trainer.loader.state_dict(),
        "reducer": _split(trainer.replica.reducer.state_dict(), "reducer", arrays),
        "optimizer": _split(trainer.optimizer.state_dict(), "optimizer", arrays),
        "ema": None if trainer.ema is None else _split(trainer.ema.state_dict(), "ema", arrays),
        "callbacks": {name: kept for name, callback in _named(trainer.callbacks) if (kept := callback.state())},
    }
    return {"model": trainer.model.state_dict(), "optimizer": arrays, "state": state}


def restore(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Put a trainer, whose model has the checkpoint's weights already, where `capture` was called."""
    state = checkpoint.state
    trainer.optimizer.load_state_dict(_join(state["optimizer"], checkpoint.optimizer))
    if trainer.ema is not None:
        trainer.ema.load_state_dict(_join(state["ema"], checkpoint.optimizer))
    trainer.loader.load_state_dict(state["loader"])
    trainer.replica.reducer.load_state_dict(_join(state["reducer"], checkpoint.optimizer))
    for name in _KEPT:
        setattr(trainer, name, state[name])
    for name, callback in _named(trainer.callbacks):
        if name in state["callbacks"]:
            callback.load_state(state["callbacks"][name])


def _split(value: Any, key: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The JSON part of a state; its arrays are put into `arrays`."""
    if isinstance(value, np.ndarray):
        arrays[key] = value
        return {_ARRAY: key}
    if isinstance(value, dict):
        return {name: _split(each, f"{key}/{name}", arrays) for name, each in value.items()}
    return value


def _join(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """The way back from `_split`."""
    if isinstance(value, dict):
        return arrays[value[_ARRAY]] if _ARRAY in value else {name: _join(each, arrays) for name, each in value.items()}
    return value


def _named(callbacks: list[Callback]) -> Iterator[tuple[str, Callback]]:
    """Each callback under the name of its class; several of one class are numbered in their order."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        yield (kind if seen[kind] == 1 else f"{kind} {seen[kind]}"), callback


def share(world: World, checkpoint: Checkpoint | None, folder: Path) -> Checkpoint:
    """Rank 0's checkpoint, on every rank: the others need not see its disk.

    Args:
        checkpoint: on rank 0; ignored on the others.
        folder: that of the checkpoints, for their paths.
    """
    if world.size == 1:
        assert checkpoint is not None
        return checkpoint
    head = world.broadcast_json(_head(checkpoint) if world.rank == 0 and checkpoint is not None else None)
    mine = checkpoint if world.rank == 0 else None
    return Checkpoint(
        step=head["step"],
        path=folder / head["name"],
        model=_broadcast(world, head["model"], None if mine is None else mine.model),
        optimizer=_broadcast(world, head["optimizer"], None if mine is None else mine.optimizer),
        state=head["state"],
        metric=head["metric"],
    )


def _head(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is JSON in a checkpoint, and of its arrays the names, dtypes and shapes."""

    def described(arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
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
    world: World, described: list[Any], arrays: Mapping[str, NDArray[Any]] | None
) -> dict[str, NDArray[Any]]:
    result = {}
    for name, dtype, shape in described:
        mine = np.empty(shape, dtype) if arrays is None else np.array(arrays[name], order="C")
        result[name] = world.broadcast(mine.reshape(-1)).reshape(shape)
    return result
