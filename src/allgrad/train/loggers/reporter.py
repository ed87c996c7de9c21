"""From a run's events to its loggers: what is reported, and how often."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from allgrad.train.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.parallel import StepResult
    from allgrad.train.callbacks import RunContext
    from allgrad.train.loggers.base import Logger

__all__ = ["Reporter"]


class Reporter(Callback):
    """Reports on rank 0: training values every `train.log_every` steps, and every evaluation.

    Args:
        run: the run, before its first step.
        loggers: who receives the reports.
    """

    def __init__(self, run: RunContext, loggers: Sequence[Logger]) -> None:
        self.loggers = tuple(loggers)
        self.every = run.config.train.log_every
        self.per_sample = run.info.input_shape[0] if run.info.kind == "tokens" else 1
        self.since, self.samples = time.perf_counter(), run.progress.samples

    def on_step(self, run: RunContext, result: StepResult) -> None:
        progress = run.progress
        if progress.step % self.every and progress.step != run.plan.steps:
            return
        now = time.perf_counter()
        rate = (progress.samples - self.samples) * self.per_sample / max(now - self.since, 1e-9)
        self.since, self.samples = now, progress.samples
        values: dict[str, Any] = {"loss": result.loss, "lr": run.optimizer.groups[0].lr}
        if len(result.terms) > 1:
            values["terms"] = result.terms
        if run.gradient_norm is not None:
            values["gradient_norm"] = run.gradient_norm
        if progress.skipped and progress.skipped[-1] == progress.step - 1:
            values["skipped"] = True
        self._log(progress.step, {**values, "epoch": progress.epoch, "rate": rate})

    def on_evaluation(self, run: RunContext, metrics: dict[str, float]) -> None:
        self._log(run.progress.step, {"eval": metrics})

    def on_rollback(self, run: RunContext) -> None:
        at, to = run.progress.rollbacks[-1]
        for logger in self.loggers:
            logger.rewind(to)
        self._say(f"rolled back from step {at} to the checkpoint of step {to}; the batches in between are left out")

    def on_end(self, run: RunContext, summary: dict[str, Any]) -> None:  # noqa: ARG002
        progress = run.progress
        if progress.stopping is not None:
            self._say(f"ended after {progress.step} of {run.plan.steps} steps: {progress.stopping}")

    def on_interrupt(self, run: RunContext) -> None:
        self._say(
            f"stopped after {run.progress.step} of {run.plan.steps} steps, and saved. "
            f"Continue with `allgrad resume {run.directory}`."
        )

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()

    def _log(self, step: int, values: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.log(step, values)

    def _say(self, text: str) -> None:
        for logger in self.loggers:
            logger.message(text)
