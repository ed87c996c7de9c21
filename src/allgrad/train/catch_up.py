"""A rank that is behind the others receives the state of the rank that leads (survive.py says when): what a checkpoint holds.

Where the ranks of a node share the weights, the optimizer's state and the averages, these arrays are on its ranks already, and
only the rest is sent: counters, buffers, what callbacks remember.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from allgrad.parallel import StepResult
from allgrad.train.checkpoint.format import Checkpoint
from allgrad.train.checkpoint.state import broadcast_checkpoint, capture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allgrad import nn
    from allgrad.comm import World
    from allgrad.parallel import DataParallel
    from allgrad.stateful import Stateful
    from allgrad.train.run.progress import Progress

__all__ = ["Follower", "catch_up"]

_REPORT = "survive"

_IN_FLAT_MEMORY = ("optimizer", "ema")
"""The parts whose arrays are in flat memory, beside the model's parameters."""


class Follower(Protocol):
    """What is needed of a trainer."""

    world: World
    model: nn.Module
    replica: DataParallel
    parts: dict[str, Stateful]
    progress: Progress
    directory: Path
    last_step: StepResult | None
    gradient_norm: float | None

    def load(self, checkpoint: Checkpoint) -> None: ...


def catch_up(trainer: Follower, leader: int, *, receives: bool, in_place: bool) -> None:
    """The leader's state, on all ranks that are behind. All ranks call it together.

    Args:
        trainer: this rank's.
        leader: the rank that has the state.
        receives: whether this rank is behind.
        in_place: the arrays in flat memory are right on all ranks already.
    """
    mine, kept = None, {}
    if trainer.world.rank == leader or (receives and in_place):
        captured = capture(trainer.parts)
        if in_place:
            buffers = {name for name, _ in trainer.model.named_buffers()}
            kept["model"] = _taken(captured["model"], lambda name: name not in buffers)
            kept["training"] = _taken(captured["training"], lambda name: name.split("/")[0] in _IN_FLAT_MEMORY)
        captured["state"] |= {_REPORT: _described(trainer.last_step, trainer.gradient_norm)}
        mine = Checkpoint(step=trainer.progress.step, path=trainer.directory, metric=None, **captured)
    found = broadcast_checkpoint(trainer.world, mine, trainer.directory.parent, root=leader)
    if receives:
        trainer.load(replace(found, **{key: getattr(found, key) | arrays for key, arrays in kept.items()}))
        trainer.last_step, trainer.gradient_norm = _result(found.state[_REPORT])
    else:
        with trainer.replica.flat.writing():  # as `load` does: ranks that share memory wait for each other
            pass


def _taken(arrays: dict[str, Any], wanted: Callable[[str], bool]) -> dict[str, Any]:
    """The arrays with such names, which are taken out."""
    return {name: arrays.pop(name) for name in list(arrays) if wanted(name)}


def _described(result: StepResult | None, norm: float | None) -> dict[str, Any] | None:
    """What is reported of a step, as JSON."""
    if result is None:
        return None
    return {"loss": result.loss, "terms": result.terms, "counts": result.counts, "norm": norm}


def _result(described: dict[str, Any] | None) -> tuple[StepResult | None, float | None]:
    if described is None:
        return None, None
    norm = described.pop("norm")
    return StepResult(**described, unused=frozenset(), seconds=0.0, exposed_seconds=0.0, times=None), norm
