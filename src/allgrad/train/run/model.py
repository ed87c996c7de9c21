"""A run's model without its training data: for prediction, sampling and inspection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import comm, kernels
from allgrad.data import DataInfo
from allgrad.nn.precision import apply_precision
from allgrad.train.checkpoint.format import load_best, load_newest
from allgrad.train.checkpoint.state import broadcast_checkpoint, check_weights, part_of
from allgrad.train.config import from_json, registry, resolve
from allgrad.train.run.agreement import on_every_rank, on_rank_0
from allgrad.train.run.directory import RunDirectoryError, open_run_directory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allgrad import nn
    from allgrad.train.checkpoint.format import Checkpoint
    from allgrad.train.config.schema import RunConfig

__all__ = ["DataRecord", "LoadedModel", "find_checkpoint", "load_model"]


class DataRecord:
    """What a checkpoint keeps of the data, so that the model can be used without them.

    Attributes:
        info: what the model was built for.
        fitted: what was learned from the training data (means, categories, classes, vocabulary), as JSON.
        digest: of the data's content.
    """

    def __init__(self, info: DataInfo, fitted: Mapping[str, Any], digest: str) -> None:
        self.info, self.fitted, self.digest = info, dict(fitted), digest

    def state_dict(self) -> dict[str, Any]:
        info = self.info
        described = {
            "kind": info.kind,
            "input_shape": list(info.input_shape),
            "outputs": info.outputs,
            "extra": dict(info.extra),
        }
        return {"info": described, "fitted": self.fitted, "digest": self.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        info = state["info"]
        self.info = DataInfo(info["kind"], tuple(info["input_shape"]), info["outputs"], info["extra"])
        self.fitted, self.digest = state["fitted"], state["digest"]

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> DataRecord:
        """The record in a checkpoint."""
        record = cls.__new__(cls)
        state = part_of(checkpoint, "data")
        assert state is not None
        record.load_state_dict(state)
        return record


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready for use.

    Attributes:
        model: with the weights that evaluations use (the averaged ones, if the run has an average), in evaluation mode.
        info: what the data were that it was trained on.
        fitted: the preprocessing that was learned from them.
        config: the run's configuration.
        step: after how many steps the weights were saved.
    """

    model: nn.Module
    info: DataInfo
    fitted: Mapping[str, Any]
    config: RunConfig
    step: int


def load_model(
    directory: str | Path,
    *,
    best: bool = False,
    plugins: Sequence[str | Path] = (),
    world: comm.World | None = None,
) -> LoadedModel:
    """The model of a run, from its newest whole checkpoint. The training data are not needed.

    Args:
        directory: the run's, or one of its checkpoints.
        best: the checkpoint with the best metric instead of the newest.
        plugins: what registered the run's own components.
        world: the ranks that load it together; only rank 0 reads the directory.

    Raises:
        RunDirectoryError: it is not a run's directory, or has no checkpoint.
        CheckpointError: no checkpoint is whole, or its weights do not fit the model.

    Warns:
        RuntimeWarning: the newest checkpoint is damaged, and the one before it is used.

    Example:
        >>> loaded = load_model("runs/diamonds")  # doctest: +SKIP
        >>> loaded.model(inputs).shape  # doctest: +SKIP
        (32, 1)
    """
    world = world or comm.World()
    found: Checkpoint | None = None

    def read() -> str:
        nonlocal found
        run = open_run_directory(directory)
        config = resolve(run / "config.yaml", plugins=plugins)
        found = find_checkpoint(run, config, best=best)
        return config.model_dump_json()

    text = on_rank_0(world, read)
    config = on_every_rank(world, lambda: from_json(text, plugins=plugins))
    checkpoint = broadcast_checkpoint(world, found, Path(directory) / "checkpoints")
    return on_every_rank(world, lambda: _built(config, checkpoint))


def _built(config: RunConfig, checkpoint: Checkpoint) -> LoadedModel:
    kernels.set_up_blas(config.parallel.blas_threads)
    record = DataRecord.from_checkpoint(checkpoint)
    model: nn.Module = registry.models.build(config.model, record.info, np.random.default_rng(0))
    apply_precision(model, config.precision, config.float32_layers)
    check_weights(model.state_dict(), checkpoint)
    model.load_state_dict(checkpoint.model)
    average = part_of(checkpoint, "ema")
    if average is not None:
        _use_average(model, average)
    model.eval()
    return LoadedModel(model, record.info, record.fitted, config, checkpoint.step)


def find_checkpoint(directory: Path, config: RunConfig, *, best: bool = False) -> Checkpoint:
    """The newest whole checkpoint of a run, or the best one.

    Raises:
        RunDirectoryError: if the run has no checkpoint yet.
    """
    checkpoints = directory / "checkpoints"
    found = load_best(checkpoints, config.train.monitor.mode) if best else load_newest(checkpoints)
    if found is None:
        what = "no checkpoint with a metric" if best else "no checkpoint yet"
        raise RunDirectoryError(f"{directory} has {what}.")
    return found


def _use_average(model: nn.Module, state: Mapping[str, Any]) -> None:
    from allgrad.memory import flatten
    from allgrad.optim import EMA

    ema = EMA(flatten(model.named_parameters()))
    ema.load_state_dict(dict(state))
    for dtype, values in ema.flat.params.flat.items():
        values[...] = ema.average.flat[dtype]
    ema.flat.touch()
