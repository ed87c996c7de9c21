"""Record what every rank of a running job does in its next steps, in trace.json of the run's directory.

Open that file in ui.perfetto.dev or chrome://tracing; `allgrad report` draws one of its steps. SIGUSR2 to any rank does the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from allgrad.errors import AllgradError, UsageError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad trace`."""
    parser.add_argument("directory", metavar="RUN", help="the run's directory")
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="how many steps to record (default: 3)")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad trace`: ask the job, and wait for its file.

    Raises:
        UsageError: no job is running there, or the number of steps is out of range.
        AllgradError: the job ended before it wrote the trace.
    """
    from allgrad.train.loggers.trace import LONGEST, ask_for_trace
    from allgrad.train.run.directory import open_run_directory, owner_of

    directory = open_run_directory(arguments.directory)
    if not 1 <= arguments.steps <= LONGEST:
        raise UsageError(f"--steps must be between 1 and {LONGEST}, got {arguments.steps}.")
    owner = owner_of(directory)
    if not owner:
        raise UsageError(
            f"No job is running in {directory}. Start one with logging.trace=true to record its first steps."
        )
    file = directory / "trace.json"
    before = _written(file)
    ask_for_trace(directory, arguments.steps)
    print(f"asked {owner} for a trace of {arguments.steps} steps", flush=True)
    while _written(file) == before:
        if not owner_of(directory) and _written(file) == before:
            raise AllgradError(f"The job in {directory} ended before it wrote a trace.")
        time.sleep(0.1)
    print(f"the trace is in {file}")
    return 0


def _written(file: Path) -> int:
    """When a file was written, in nanoseconds; 0 if it is not there."""
    return file.stat().st_mtime_ns if file.exists() else 0
