"""From a run's events to its loggers: what is reported, and how often."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from allgrad.train.callbacks import Callback
from allgrad.train.run.machine import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.parallel import StepResult
    from allgrad.train.callbacks import RunContext
    from allgrad.train.loggers.base import Logger
    from allgrad.train.loggers.pace import Pace

__all__ = ["CLOCKS", "Reporter"]

_TICK = 0.1  # seconds

CLOCKS = frozenset({"rate", "seconds", "seconds_left", "memory_bytes", "comm_hidden_fraction"})
"""What depends on the machine and its clock; the other values are the same whenever the run is repeated."""


class Reporter(Callback):
    """Reports on rank 0: training values every `train.log_every` steps, and every evaluation.

    Args:
        run: the run, before its first step.
        loggers: who receives the reports.
        pace: estimates the time that is left.
    """

    def __init__(self, run: RunContext, loggers: Sequence[Logger], pace: Pace) -> None:
        self.loggers, self.pace = tuple(loggers), pace
        self.every = run.config.train.log_every
        self.per_sample = run.info.input_shape[0] if run.info.kind == "tokens" else 1
        self.mark = self.ticked = time.perf_counter()  # the end of the last step, evaluation or checkpoint
        self.rollbacks = len(run.progress.rollbacks)  # that are reported
        self._begin_interval(run)

    def on_step(self, run: RunContext, result: StepResult) -> None:
        progress, now = run.progress, time.perf_counter()
        self.pace.step(now - self.mark)
        self.training += now - self.mark
        self.mark = now
        if progress.step % self.every == 0 or progress.step == run.plan.steps:
            self._log(progress.step, self._described(run, result) | self._measured(run))
            self._begin_interval(run)
        elif now - self.ticked < _TICK:
            return
        else:
            values = {"loss": result.loss, **self._measured(run)}
            for logger in self.loggers:
                logger.tick(progress.step, values)
        self.ticked = now

    def on_evaluation(self, run: RunContext, metrics: dict[str, float]) -> None:
        now = time.perf_counter()
        self.pace.evaluation(now - self.mark)
        self.mark = now
        self._log(run.progress.step, {"eval": metrics})

    def on_checkpoint(self, run: RunContext) -> None:  # noqa: ARG002
        self.mark = time.perf_counter()

    def on_rollback(self, run: RunContext) -> None:
        self.mark = time.perf_counter()
        self._begin_interval(run)
        for logger in self.loggers:
            logger.rewind(run.progress.step)
        if len(run.progress.rollbacks) > self.rollbacks:
            at, to = run.progress.rollbacks[-1]
            self._say(f"rolled back from step {at} to the checkpoint of step {to}; the batches in between are left out")
        self.rollbacks = len(run.progress.rollbacks)

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

    def _begin_interval(self, run: RunContext) -> None:
        """Rates are those since here, without evaluations and checkpoints."""
        self.training, self.samples = 0.0, run.progress.samples
        self.under_way, self.exposed = run.overlap.under_way, run.overlap.exposed

    def _described(self, run: RunContext, result: StepResult) -> dict[str, Any]:
        progress = run.progress
        values: dict[str, Any] = {"loss": result.loss, "lr": run.optimizer.groups[0].lr}
        if len(result.terms) > 1:
            values["terms"] = result.terms
        if run.gradient_norm is not None:
            values["gradient_norm"] = run.gradient_norm
        if progress.skipped and progress.skipped[-1] == progress.step - 1:
            values["skipped"] = True
        return {**values, "epoch": progress.epoch}

    def _measured(self, run: RunContext) -> dict[str, Any]:
        progress, overlap = run.progress, run.overlap
        values: dict[str, Any] = {
            "rate": (progress.samples - self.samples) * self.per_sample / max(self.training, 1e-9),
            "seconds": progress.seconds,
            "memory_bytes": resident_bytes(),
        }
        if (left := self.pace.seconds_left(progress.step)) is not None:
            values["seconds_left"] = left
        if (under_way := overlap.under_way - self.under_way) > 0:
            values["comm_hidden_fraction"] = 1 - (overlap.exposed - self.exposed) / under_way
        return values

    def _log(self, step: int, values: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.log(step, values)

    def _say(self, text: str) -> None:
        for logger in self.loggers:
            logger.message(text)
