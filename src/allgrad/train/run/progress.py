"""How far a run has come: the numbers that a checkpoint stores and a resumed run continues from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Progress"]


@dataclass
class Progress:
    """The run's counters and its latest results; the same on every rank, but for `seconds`.

    Attributes:
        step: optimizer steps done, skipped ones included.
        epoch: the pass over the data that the last batch belonged to, from 0.
        samples: samples trained on so far.
        seconds: time spent training so far, in seconds, earlier parts of a resumed run included.
        train_loss: the loss of the last step, or None before the first.
        metrics: the results of the last evaluation.
        evaluated: the step of that evaluation; -1 if there was none.
        best: the best value of the monitored metric so far, or None.
        stopping: why the run ends after this step, or None while it continues.
        skipped: the steps whose update was skipped because of a non-finite loss or gradient.
        rollbacks: for each rollback, the step where it happened and the step that the run returned to.
        not_portable: why the bits depend on the CPU; empty if they do not (run/portability.py).

    Example:
        >>> progress = Progress(step=3)
        >>> again = Progress()
        >>> again.load_state_dict(progress.state_dict())
        >>> again == progress
        True
    """

    step: int = 0
    epoch: int = 0
    samples: int = 0
    seconds: float = 0.0
    train_loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    evaluated: int = -1
    best: float | None = None
    stopping: str | None = None
    skipped: list[int] = field(default_factory=list)
    rollbacks: list[list[int]] = field(default_factory=list)
    not_portable: list[str] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """Every field, as JSON values."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over every field of a `state_dict()`."""
        for each in fields(self):
            if each.name in state:
                setattr(self, each.name, state[each.name])
