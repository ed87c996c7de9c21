"""Training and resuming in this process, for tests of whole runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.train.run.build import Options, new_run, resume_run

if TYPE_CHECKING:
    from pathlib import Path


def train(config: Path, run: Path, *overrides: str, plugins=(), **trainer) -> dict:
    """The summary of a new run."""
    made, directory = new_run(config, [f"run.dir={run}", *overrides], Options(plugins, single=True, trainer=trainer))
    return made.run(directory)


def resume(run: Path, *overrides: str, plugins=(), **trainer) -> dict:
    """The summary of a run that is continued."""
    made, directory, _ = resume_run(run, overrides, Options(plugins, single=True, trainer=trainer))
    return made.run(directory)
