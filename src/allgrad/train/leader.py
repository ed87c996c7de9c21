"""What rank 0 does for all: it owns the run's directory, writes checkpoints, and reports.

If rank 0 dies in a run that survives it (survive.py), the lowest rank that is left takes over. It continues the files that it
finds, and first writes the lines of metrics.jsonl that the dead rank did not come to.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from allgrad.train.checkpoint.writer import CheckpointWriter
from allgrad.train.run.directory import lock_run, unlock_run
from allgrad.train.run.results import Run, make_reporter

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from allgrad.parallel import StepResult
    from allgrad.train.callbacks import Callback
    from allgrad.train.run.progress import Progress

__all__ = ["lead", "missing_reports", "take_over"]


class Led(Run, Protocol):
    """What is needed of a trainer."""

    callbacks: list[Callback]
    writer: CheckpointWriter | None
    last_step: StepResult | None


def lead(run: Led, until: ExitStack) -> Callback:
    """Give this rank the checkpoint writer and the reporter; returns the reporter.

    Args:
        run: its directory is locked.
        until: ends all of it, and unlocks the directory last.
    """
    settings, mode = run.config.checkpoint, run.config.train.monitor.mode
    until.callback(unlock_run, run.directory)
    writer = CheckpointWriter(
        run.directory / "checkpoints", keep=settings.keep, mode=mode, asynchronous=settings.asynchronous
    )
    run.writer = until.enter_context(writer)
    reporter = make_reporter(run)
    run.callbacks.insert(0, reporter)
    return reporter


def take_over(run: Led, until: ExitStack) -> None:
    """Become the rank that leads, since the one before has died."""
    lock_run(run.directory)
    run.resumed = True  # the loggers go on with what there is
    reporter = lead(run, until)
    until.callback(reporter.close)
    reporter.on_start(run)
    _report_missing(run, reporter)


def _report_missing(run: Led, reporter: Callback) -> None:
    step_is_missing, evaluation_is_missing = missing_reports(run.directory / "metrics.jsonl", run.progress)
    if step_is_missing and run.last_step is not None:
        reporter.on_step(run, run.last_step)
    if evaluation_is_missing:
        reporter.on_evaluation(run, run.progress.metrics)


def missing_reports(file: Path, progress: Progress) -> tuple[bool, bool]:
    """Whether metrics.jsonl lacks the line of the last step, and that of an evaluation after it.

    Only a step that is due for a report gets one (`Reporter.on_step` decides that).
    """
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    now = [line for line in lines if line["step"] == progress.step]
    return not any("loss" in line for line in now), (
        progress.evaluated == progress.step and not any("eval" in line for line in now)
    )
