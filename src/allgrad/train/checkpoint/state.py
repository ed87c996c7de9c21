"""What a checkpoint of a run holds: a mapping of names to `Stateful` objects, on the disk and back.

Everything that the next step depends on is one of these parts: the model, the optimizer, the averaged weights, the position in
the data, the gradient exchange, the run's progress, what callbacks remember, and what was learned from the data. Random numbers
need no state: they depend on seed, step and worker alone. Nothing depends on the number of ranks.

The model's arrays go into their own file, under PyTorch's names. Of every other part the arrays go into a second file, and
its JSON into a third, in which {"$array": NAME} marks the place of an array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.train.checkpoint.format import Checkpoint, CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from allgrad.comm import World
    from allgrad.stateful import Stateful

__all__ = ["broadcast_checkpoint", "capture", "check_weights", "gather", "part_of", "restore"]

MODEL = "model"
_ARRAY = "$array"


def gather(parts: Mapping[str, Stateful]) -> None:
    """Bring to rank 0 what parts have spread over the ranks: those have a method `gather_state`, which all ranks call."""
    for part in parts.values():
        collect = getattr(part, "gather_state", None)
        if collect is not None:
            collect()


def capture(parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """The arguments `model`, `training` and `state` of `CheckpointWriter.save`.

    Args:
        parts: what to save, by name; one of them is "model".

    Example:
        >>> class Counter:
        ...     def state_dict(self):
        ...         return {"count": 3, "sums": [np.ones(2)]}
        >>> found = capture({"model": Counter(), "counter": Counter()})
        >>> found["state"], list(found["training"])
        ({'counter': {'count': 3, 'sums': [{'$array': 'counter/sums/0'}]}}, ['counter/sums/0'])
    """
    arrays: dict[str, NDArray[Any]] = {}
    state = {name: _split(part.state_dict(), name, arrays) for name, part in parts.items() if name != MODEL}
    return {"model": parts[MODEL].state_dict(), "training": arrays, "state": state}


def restore(parts: Mapping[str, Stateful], checkpoint: Checkpoint) -> None:
    """Put every part where `capture` found it.

    Raises:
        CheckpointError: the checkpoint does not have a part, or a part cannot take its state.
    """
    for name, part in parts.items():
        state = checkpoint.model if name == MODEL else part_of(checkpoint, name)
        if state is None:
            raise CheckpointError(f"{checkpoint.path} has no {name!r}, which this run needs.")
        try:
            part.load_state_dict(state)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{checkpoint.path}: {name!r} does not fit this run: {error}") from error


def part_of(checkpoint: Checkpoint, name: str) -> dict[str, Any] | None:
    """The state of one part other than the model; None if the checkpoint does not have it."""
    if name not in checkpoint.state:
        return None
    found: dict[str, Any] = _join(checkpoint.state[name], checkpoint.training)
    return found


def check_weights(expected: Mapping[str, NDArray[Any]], checkpoint: Checkpoint) -> None:
    """Refuse weights that do not fit a model, or are not finite.

    Args:
        expected: the model's own `state_dict()`.

    Raises:
        CheckpointError: naming the weights that are missing, unexpected, or of another shape or kind of number.
    """
    given = checkpoint.model
    wrong = [f"{name} is missing" for name in expected if name not in given]
    wrong += [f"{name} is unknown to the model" for name in given if name not in expected]
    for name, array in expected.items():
        if name not in given:
            continue
        if given[name].shape != array.shape:
            wrong.append(f"{name} has shape {given[name].shape}, the model's has {array.shape}")
        elif given[name].dtype != array.dtype:
            wrong.append(f"{name} is {given[name].dtype}, the model's is {array.dtype}")
        elif not np.isfinite(given[name]).all():
            wrong.append(f"{name} holds NaN or infinity")
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(
            f"The weights in {checkpoint.path} cannot be used: {'; '.join(wrong[:5])}{more}. "
            "They must come from a run with this configuration."
        )


def _split(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The JSON of a state, whose arrays are moved into `arrays`."""
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {_ARRAY: path}
    if isinstance(value, dict):
        return {key: _split(part, f"{path}/{key}", arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_split(part, f"{path}/{number}", arrays) for number, part in enumerate(value)]
    return value


def _join(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {key: _join(part, arrays) for key, part in value.items()}
    if isinstance(value, list):
        return [_join(part, arrays) for part in value]
    return value


def broadcast_checkpoint(world: World, checkpoint: Checkpoint | None, directory: Path, *, root: int = 0) -> Checkpoint:
    """One rank's checkpoint, on every rank: the others need not see its disk.

    Args:
        checkpoint: on the rank `root`; ignored on the others.
        directory: that of the checkpoints, for their paths.
        root: the rank that has it.
    """
    if world.size == 1:
        assert checkpoint is not None
        return checkpoint
    mine = checkpoint if world.rank == root else None
    head = world.broadcast_json(None if mine is None else _head(mine), root)
    return Checkpoint(
        step=head["step"],
        path=directory / head["name"],
        model=_broadcast(world, head["model"], None if mine is None else mine.model, root),
        training=_broadcast(world, head["training"], None if mine is None else mine.training, root),
        state=head["state"],
        metric=head["metric"],
    )


def _head(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint's JSON, and the names, dtypes and shapes of its arrays."""

    def described(arrays: Mapping[str, NDArray[Any]]) -> list[Any]:
        return [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]

    return {
        "name": checkpoint.path.name,
        "step": checkpoint.step,
        "state": checkpoint.state,
        "metric": checkpoint.metric,
        "model": described(checkpoint.model),
        "training": described(checkpoint.training),
    }


def _broadcast(
    world: World, described: list[Any], arrays: Mapping[str, NDArray[Any]] | None, root: int
) -> dict[str, NDArray[Any]]:
    result = {}
    for name, dtype, shape in described:
        mine = np.empty(shape, dtype) if arrays is None else np.array(arrays[name], order="C")
        result[name] = world.broadcast(mine.reshape(-1), root).reshape(shape)
    return result
