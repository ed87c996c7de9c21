"""The parts of a run: everything that its next step depends on, by name. A checkpoint stores them (checkpoint/state.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from allgrad.train.callbacks import named_callbacks

if TYPE_CHECKING:
    from allgrad import nn, optim
    from allgrad.data import Loader
    from allgrad.parallel import DataParallel
    from allgrad.stateful import Stateful
    from allgrad.train.callbacks import Callback
    from allgrad.train.checkpoint.format import Checkpoint
    from allgrad.train.run.model import DataRecord
    from allgrad.train.run.progress import Progress

__all__ = ["parts_of", "parts_of_ranks", "parts_to_restore"]

_CALLBACK = "callback "


class Run(Protocol):
    """What has parts: the trainer."""

    model: nn.Module
    optimizer: optim.Optimizer
    ema: optim.EMA | None
    replica: DataParallel
    loader: Loader
    progress: Progress
    data_record: DataRecord
    callbacks: list[Callback]


def parts_of(run: Run) -> dict[str, Stateful]:
    """All parts of a run that has not started."""
    parts = {"model": run.model, **parts_of_ranks(run), "progress": run.progress, "data": run.data_record}
    if run.ema is not None:
        parts["ema"] = run.ema
    return parts | {f"{_CALLBACK}{name}": each for name, each in named_callbacks(run.callbacks).items()}


def parts_of_ranks(run: Run) -> dict[str, Stateful]:
    """Those that are made anew when the ranks change."""
    return {"optimizer": run.replica.attach(run.optimizer), "loader": run.loader, "exchange": run.replica.reducer}


def parts_to_restore(parts: dict[str, Stateful], checkpoint: Checkpoint) -> dict[str, Stateful]:
    """Not the model, whose weights are loaded before the replica is made; nor the data, nor callbacks that are new."""
    new = {name for name in parts if name.startswith(_CALLBACK) and name not in checkpoint.state}
    return {name: part for name, part in parts.items() if name not in {"model", "data"} | new}
