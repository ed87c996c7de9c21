"""What the ranks decide before each step: to stop, to write a checkpoint, to trace steps, to let a replacement join.

A signal is a flag on the rank that got it, minutes pass on rank 0's clock, and rank 0 looks for requests in the run's directory.
All ranks must act at the same step, so they exchange what each of them knows and decide from that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from allgrad.train.loggers.trace import ON_SIGNAL, take_request

if TYPE_CHECKING:
    from pathlib import Path

    from allgrad.comm import World
    from allgrad.train.signals import StopRequest

__all__ = ["Boundary", "Decision"]


class Decision(NamedTuple):
    """What is due before the next step, the same on all ranks.

    Attributes:
        stop: some rank was asked to stop.
        save: minutes have passed since the last checkpoint.
        trace: how many steps to trace.
        join: a replacement for a dead rank is ready.
    """

    stop: bool
    save: bool
    trace: int
    join: bool


class Boundary:
    """Between two steps.

    Args:
        world: the ranks.
        directory: the run's.
        stop_request: the signals that came to this rank.
        every_minutes: between checkpoints; None: their number does not depend on the time.
    """

    def __init__(self, world: World, directory: Path, stop_request: StopRequest, every_minutes: float | None) -> None:
        self.world, self.directory = world, directory
        self.stop_request, self.every_minutes = stop_request, every_minutes
        self.looked_at = 0.0

    def decide(self, *, saved_at: float, joins: bool) -> Decision:
        """All ranks call it together.

        Args:
            saved_at: when the last checkpoint was written, by `time.monotonic()`.
            joins: on rank 0, whether a replacement is ready.
        """
        due = self.every_minutes is not None and time.monotonic() - saved_at >= 60 * self.every_minutes
        mine = np.array([self.stop_request.asked, due, self._steps_to_trace(), joins], np.int64)
        everyone = self.world.all_gather(mine)
        return Decision(
            bool(everyone[:, 0].any()), bool(everyone[0, 1]), int(everyone[:, 2].max()), bool(everyone[0, 3])
        )

    def _steps_to_trace(self) -> int:
        """How many steps this rank was asked to trace; rank 0 looks into the run's directory once a second."""
        signalled, self.stop_request.trace = self.stop_request.trace, False
        now = time.monotonic()
        if self.world.rank or now - self.looked_at < 1:
            return ON_SIGNAL * signalled
        self.looked_at = now
        return take_request(self.directory) or ON_SIGNAL * signalled
