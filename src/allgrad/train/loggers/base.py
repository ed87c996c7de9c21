"""What a logger is. To add one: subclass `Logger` in a file of its own and register it.

    @register_logger("wandb")
    def wandb_logger(run, *, project: str):
        return WandbLogger(project, run.directory)

`run` is the `RunContext` of `train/callbacks.py`. Loggers exist on rank 0 only. A configuration selects them by
`logging.loggers: [{name: jsonl}, {name: wandb, project: whale}]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Logger"]


class Logger:
    """Receives what a run reports, on rank 0. Does nothing with it; subclasses override what they need."""

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Values after `step` steps: numbers, strings, lists, or nested mappings of them.

        Training values come as {"loss", "lr", "epoch", "rate", ...}, the results of an evaluation as {"eval": {...}}.
        """

    def tick(self, step: int, values: Mapping[str, Any]) -> None:
        """Some of the training values after a step that is not reported, for a live display: at most ten times a second."""

    def message(self, text: str) -> None:
        """A sentence for the person who watches the run."""

    def rewind(self, step: int) -> None:
        """The run returned to `step`: forget what was logged for later steps."""

    def close(self) -> None:
        """The run has ended. May be called twice."""
