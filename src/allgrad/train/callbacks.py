"""What happens beside the optimisation: reports, checkpoints, early stopping, and whatever a user adds.

A callback is called on every rank, in the order in which the trainer was given them, at these events:

| event                             | when                                                                        |
|-----------------------------------|-----------------------------------------------------------------------------|
| `on_start(trainer)`               | before the first step, state restored                                       |
| `on_step(trainer, result)`        | after an optimizer step; `trainer.step` steps are done                      |
| `on_evaluation(trainer, metrics)` | after an evaluation                                                         |
| `on_checkpoint(trainer)`          | after the state was handed to the checkpoint writer                         |
| `on_end(trainer, summary)`        | after the last step and evaluation; not where the run was stopped or failed |

It may set `trainer.stopping = "why"`, which ends the run after this step; all ranks must decide alike, so it may look at
what is the same on every rank (`result.loss`, `metrics`, `trainer.step`), not at clocks.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from allgrad.train.metrics import MetricsWriter, ProgressLine, TensorBoardWriter

if TYPE_CHECKING:
    from allgrad.parallel import StepResult
    from allgrad.train.trainer import Trainer

__all__ = ["Callback", "EarlyStopping", "Report"]


class Callback:
    """Does nothing at every event; subclasses override what they need."""

    def on_start(self, trainer: Trainer) -> None: ...

    def on_step(self, trainer: Trainer, result: StepResult) -> None: ...

    def on_evaluation(self, trainer: Trainer, metrics: dict[str, float]) -> None: ...

    def on_checkpoint(self, trainer: Trainer) -> None: ...

    def on_end(self, trainer: Trainer, summary: dict[str, Any]) -> None: ...


class EarlyStopping(Callback):
    """Ends the run when the monitored metric has not improved by `min_delta` for `patience` evaluations."""

    def __init__(self, metric: str, mode: str, patience: int, min_delta: float) -> None:
        self.metric, self.sign = metric, 1.0 if mode == "min" else -1.0
        self.patience, self.min_delta = patience, min_delta

    def on_evaluation(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        state = trainer.early_stopping
        value = self.sign * metrics[self.metric]
        if state["best"] is None or value < state["best"] - self.min_delta:
            state["best"], state["waited"] = value, 0
            return
        state["waited"] += 1
        if state["waited"] >= self.patience:
            trainer.stopping = f"{self.metric} has not improved for {self.patience} evaluations"


class Report(Callback):
    """metrics.jsonl, the progress line, TensorBoard: rank 0's word on the run."""

    def __init__(self, trainer: Trainer, *, resumed: int | None) -> None:
        config = trainer.config
        self.every = config.train.log_every
        self.writer = MetricsWriter(trainer.folder / "metrics.jsonl", resumed=resumed)
        self.board = TensorBoardWriter(trainer.folder / "tensorboard") if config.logging.tensorboard else None
        unit = "tokens" if trainer.on_tokens else "samples"
        self.per_sample = trainer.source.info.input_shape[0] if trainer.on_tokens else 1
        style = config.logging.progress
        self.line = ProgressLine(trainer.plan.steps, start=trainer.step, unit=unit, style=style)
        self.since = time.perf_counter()
        self.samples = 0

    def on_step(self, trainer: Trainer, result: StepResult) -> None:
        self.samples += trainer.last_samples
        if trainer.step % self.every and trainer.step != trainer.plan.steps:
            return
        now = time.perf_counter()
        rate = self.samples * self.per_sample / max(now - self.since, 1e-9)
        values: dict[str, Any] = {"loss": result.loss, "lr": trainer.optimizer.groups[0].lr}
        if len(result.terms) > 1:
            values["terms"] = result.terms
        if trainer.gradient_norm is not None:
            values["gradient_norm"] = trainer.gradient_norm
        self._write(trainer.step, {**values, "epoch": trainer.epoch, "rate": rate})
        self.line.update(trainer.step, {"loss": result.loss}, rate=rate)
        self.since, self.samples = now, 0

    def on_evaluation(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        self._write(trainer.step, {"eval": metrics})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if math.isfinite(value))
        self.line.message(f"evaluation after {trainer.step} steps: {shown}")

    def _write(self, step: int, values: dict[str, Any]) -> None:
        self.writer.write(step, values)
        if self.board is not None:
            self.board.write(step, values)

    def close(self) -> None:
        self.writer.close()
        self.line.close()
        if self.board is not None:
            self.board.close()
