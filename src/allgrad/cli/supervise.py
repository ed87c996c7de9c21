"""Run a command that trains, and start it again after a failure, from the newest whole checkpoint.

    allgrad supervise -- allgrad train configs/moby_dick.yaml -n 4
    allgrad supervise --run runs/mine -- launch/hostfile.sh hosts configs/moby_dick.yaml

The run ends in the bits of one that was never disturbed. What counts as success is that the run has reported its end, not the
exit code alone. It is not started again

- after a mistake in the command line or the configuration (exit code 2), or a NaN (3), which would come again;
- after this command was asked to stop by Ctrl-C, SIGTERM or SIGUSR1: the run saves its state and ends (4);
- if it failed twice with the same error at the same checkpoint;
- after --retries failures in a row without a new checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.cli.job import OUTCOME, Outcome, forwarding, wait_for
from allgrad.cli.processes import end_processes, guarded, marked
from allgrad.errors import EXIT_STOPPED, NonFiniteError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["configure", "continuation", "run"]

_LONGEST = 60.0  # seconds between two attempts
_FINAL = (UsageError.exit_code, NonFiniteError.exit_code)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad supervise`."""
    text = "failures in a row without a new checkpoint after which to give up (default: 5)"
    parser.add_argument("--retries", type=int, default=5, metavar="N", help=text)
    text = "seconds before the first restart, doubled at each further one without progress (default: 1)"
    parser.add_argument("--pause", type=float, default=1.0, metavar="SECONDS", help=text)
    text = "the run's directory, if this machine cannot learn it from the job"
    parser.add_argument("--run", dest="directory", type=Path, metavar="RUN", help=text)
    parser.usage = f"{parser.prog} [-h] [--retries N] [--pause SECONDS] [--run RUN] -- COMMAND ..."


def run(arguments: argparse.Namespace) -> int:
    """`allgrad supervise`."""
    if arguments.retries < 1 or not arguments.pause >= 0:
        raise UsageError("--retries must be at least 1, and --pause at least 0 seconds.")
    if not arguments.words:
        raise UsageError("The command to supervise is missing: allgrad supervise -- allgrad train CONFIG -n 4")
    with tempfile.TemporaryDirectory(prefix=f"allgrad-supervised-{os.getpid()}-") as name:
        file = Path(name) / "outcome.json"
        with guarded(OUTCOME, str(file)):
            return _Supervisor(arguments, file).run()


class _Supervisor:
    """The attempts at one run.

    Attributes:
        words: the command of the first attempt.
        directory: the run's, once it is known.
        file: where the job reports.
    """

    def __init__(self, arguments: argparse.Namespace, file: Path) -> None:
        self.words: list[str] = arguments.words
        self.retries, self.pause = arguments.retries, arguments.pause
        self.directory: Path | None = arguments.directory or _named_directory(arguments.words)
        self.file = file
        self.attempts = 0
        self.began = time.time()

    def run(self) -> int:
        """Attempts until the run is complete or there is a reason to give up; returns the exit code."""
        failures, before = 0, (-1, "")
        while True:
            code, asked = self._attempt()
            if self._complete():
                return 0
            if asked:
                return code or EXIT_STOPPED
            if code in _FINAL:
                self._say(f"ended with exit code {code}, which a restart would not change")
                return code
            now = (self._saved(), self._cause())
            failures = 1 if now[0] > before[0] else failures + 1
            if now == before and now[1]:
                self._say(f"failed twice with the same error at {_at(now[0])}: {now[1]}")
                return code or 1
            if failures >= self.retries:
                self._say(f"failed {failures} times in a row without getting past {_at(now[0])}")
                return code or 1
            before = now
            pause = min(self.pause * 2 ** (failures - 1), _LONGEST)
            self._say(f"ended with exit code {code} before its end; starting again from {_at(now[0])} in {pause:g} s")
            time.sleep(pause)

    def _attempt(self) -> tuple[int, list[int]]:
        """Run the command once, and end whatever it leaves behind; its exit code, and the signals that came for it."""
        first, self.attempts = self.attempts == 0, self.attempts + 1
        command = self.words if first or self.directory is None else continuation(self.words, self.directory)
        environment = os.environ | {OUTCOME: str(self.file)}
        if self.directory is not None:
            environment["RUN"] = str(self.directory)  # the launchers continue a run of this name
        self.file.unlink(missing_ok=True)
        try:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, text=True, start_new_session=True
            )
        except OSError as error:
            raise UsageError(f"Cannot start {command[0]!r}: {error.strerror}.") from error
        with forwarding(process, self.file, lambda: True) as asked:
            code = wait_for(process, self.file)
        end_processes(marked(OUTCOME, str(self.file)))
        directory = Outcome.read(self.file).directory
        if directory is not None:
            self.directory = Path(directory)
        return (code if code >= 0 else 128 - code), asked

    def _complete(self) -> bool:
        """Whether the run has reported its end in this command's time."""
        if Outcome.read(self.file).state == "complete":
            return True
        if self.directory is None:
            return False
        with contextlib.suppress(OSError):
            return (self.directory / "summary.json").stat().st_mtime >= self.began - 1.0
        return False

    def _saved(self) -> int:
        """The step of the newest whole checkpoint; 0 without one."""
        from allgrad.train.checkpoint.format import CheckpointError, load_latest

        if self.directory is None:
            return 0
        try:
            checkpoint, refused = load_latest(self.directory / "checkpoints")
        except CheckpointError as error:
            raise UsageError(f"{error} The run cannot be continued.") from error
        for text in refused:
            self._say(text)
        return 0 if checkpoint is None else checkpoint.step

    def _cause(self) -> str:
        """The last line of the traceback of an error in the program; "" if nothing is known, as after a kill."""
        if self.directory is None:
            return ""
        try:
            text = (self.directory / "failure.txt").read_text(encoding="utf-8")
        except OSError:
            return ""
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith((" ", "In step "))]
        return lines[-1] if text.count("Traceback") and lines else ""

    def _say(self, text: str) -> None:
        what = f"the run in {self.directory}" if self.directory is not None else "the job"
        print(f"allgrad: supervise: {what}: {text}", file=sys.stderr, flush=True)


def _named_directory(words: Sequence[str]) -> Path | None:
    """The run's directory if the command names it: a run may fail after it was made and before it has reported anything.

    >>> _named_directory(["allgrad", "train", "a.yaml", "run.dir=runs/a"])
    PosixPath('runs/a')
    """
    found = [word.removeprefix("run.dir=") for word in words if word.startswith("run.dir=")]
    return Path(found[-1]) if found else None


def _at(step: int) -> str:
    return f"the checkpoint of step {step}" if step else "the beginning"


def continuation(words: Sequence[str], directory: Path) -> list[str]:
    """The command that continues a run that `words` started.

    `allgrad train CONFIG ...` becomes `allgrad resume RUN`, with the options and without the overrides, which the run has
    stored. Every other command, such as a launcher's or `allgrad train --continue`, continues the run by itself.

    Example:
        >>> continuation(["launch/hostfile.sh", "hosts", "a.yaml"], Path("runs/a"))
        ['launch/hostfile.sh', 'hosts', 'a.yaml']
    """
    if not (directory / "config.yaml").is_file():
        return list(words)  # it did not come so far as to make the run
    if "--continue" in words:
        return list(words)
    for place, word in enumerate(words):
        if word == "train" and place and Path(words[place - 1]).name == "allgrad":
            return [*words[:place], "resume", str(directory), *_options(words[place + 1 :])]
    return list(words)


def _options(words: Sequence[str]) -> list[str]:
    """The options among the arguments of `allgrad train`, with their values."""
    kept: list[str] = []
    takes_value = False
    for word in words:
        if takes_value or word.startswith("-"):
            kept.append(word)
        takes_value = word in ("-n", "--plugin") and not takes_value
    return kept
