"""Running a command of allgrad on several ranks, and judging how the job ended.

Contract.

- mpirun gets a session of its own, because at Ctrl-C MPICH's kills the ranks, and Open MPI's does so at SIGTERM. SIGINT, SIGTERM
  and SIGUSR1 to this process all reach the ranks as SIGUSR1, upon which a run saves its state and ends. A second SIGINT or
  SIGTERM ends the job at once, and so does the first signal before the run has begun: there is nothing to save yet, and MPICH's
  own handler of SIGUSR1 would swallow it. SIGUSR2 asks the run for a trace; mpirun would die of it.
- An exit code alone proves nothing: mpirun gives 0 when a rank calls `os._exit(0)`, and Open MPI's when a whole node dies. So a
  training reports its outcome in a file (`report_outcome`), and a job without one has failed. A run that reported that it is
  complete is complete, whatever happened to its processes afterwards.
- No process outlives the job: a launcher whose ranks on this machine are all gone is ended, and so are ranks whose launcher is.
  If this process itself is killed, a guard ends the job (processes.py).
- The last words of a job that failed name the process that died, if the launcher says that one did, and how to continue. Which
  one was the first, this process sees for itself on its machine: a launcher may name one of those that it has killed afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from allgrad.cli.mpirun import job_command, job_environment
from allgrad.cli.processes import FirstToEnd, alive, ancestors, end_processes, guarded, marked
from allgrad.errors import EXIT_STOPPED, NonFiniteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allgrad.comm import World

__all__ = ["OUTCOME", "Outcome", "forwarding", "report_outcome", "run_command", "run_job", "wait_for"]

OUTCOME = "ALLGRAD_OUTCOME"
"""The environment variable that names the file into which a training reports; it also marks the processes of the job."""

_ORPHANED = 5.0  # seconds for which a launcher may live without any rank on this machine
_DIED = (
    re.compile(r"PID (?P<pid>\d+) RUNNING AT (?P<host>\S+)"),  # MPICH
    re.compile(r"with PID (?P<pid>\d+) on node (?P<host>\S+)"),  # Open MPI
)
_SIGNAL = re.compile(r"EXIT CODE: (?P<signal>\d+)|exited on signal (?P<other>\d+)")

_MEANING: dict[int, str] = {signal.SIGALRM: ", after it had waited for the other ranks to start or to end"}


@dataclass(frozen=True)
class Outcome:
    """What a training has reported.

    Attributes:
        state: "running", "complete" or "stopped"; "" if nothing was reported.
        directory: the run's, or None.
        ranks: (rank, host, process) of each rank.
    """

    state: str = ""
    directory: str | None = None
    ranks: list[list[Any]] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Outcome:
        """What `report_outcome` wrote."""
        return cls(**json.loads(file.read_text())) if file.is_file() else cls()


def report_outcome(world: World, directory: Path, state: str) -> None:
    """Tell whoever started this job (`run_job`) where the run is and how it ended; all ranks call it together.

    Args:
        world: the ranks.
        directory: the run's.
        state: "running", "complete" or "stopped".
    """
    place = os.environ.get(OUTCOME)
    if place is None:
        return
    ranks = world.all_gather_json([world.rank, world.host, os.getpid()])
    if world.rank == 0:
        beside = Path(f"{place}.partial")
        beside.parent.mkdir(parents=True, exist_ok=True)  # on another host than the one that made it
        beside.write_text(json.dumps({"state": state, "directory": str(directory), "ranks": ranks}))
        beside.replace(place)


def run_job(ranks: int, *arguments: str, survive: bool = False) -> int:
    """Run `allgrad ARGUMENTS` on `ranks` ranks to its end; returns the exit code.

    Args:
        ranks: their number.
        arguments: of the command.
        survive: let the job outlive some of its ranks.

    Raises:
        AllgradError: there is no mpirun.
    """
    command = job_command(ranks, "allgrad", *arguments, survive=survive)
    print(f"allgrad: {' '.join(command)}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix=f"allgrad-job-{os.getpid()}-") as name:
        # A supervisor has chosen a file already, and reads it after this.
        file = Path(os.environ.get(OUTCOME) or Path(name) / "outcome.json")
        first = FirstToEnd()
        code, asked, died = run_command(command, job_environment(), file, first=first)
        outcome = Outcome.read(file)
        if asked and not outcome.state:
            print("allgrad: stopped before the run began; there was nothing to save", file=sys.stderr, flush=True)
            return EXIT_STOPPED
        if survive and code and outcome.state == "complete":
            # mpirun reports any process that died, also a rank that the others outlived or a replacement that came too late.
            print(
                "allgrad: the run is complete, whatever mpirun says of processes that died", file=sys.stderr, flush=True
            )
            return 0
        return _judge(code, outcome, _who_died(died, outcome.ranks, first.process), ranks)


def run_command(
    command: Sequence[str],
    environment: dict[str, str],
    file: Path,
    *,
    saves: bool = True,
    first: FirstToEnd | None = None,
) -> tuple[int, list[int], str]:
    """Run a launcher's command to its end, and see to it that nothing of it is left.

    Args:
        command: the launcher and what it starts.
        environment: of the job.
        file: where a training reports; its path marks the processes of the job.
        saves: whether the ranks save their state and end at SIGUSR1; otherwise the first signal ends the job at once.
        first: notices which rank ends first.

    Returns:
        The exit code, the signals that came for the job, and what the launcher said about processes that died.
    """
    with guarded(OUTCOME, str(file)) as guard:
        process = subprocess.Popen(
            command, env=environment | {OUTCOME: str(file)}, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        died: list[str] = []
        # MPICH's mpirun says on its standard output which process died, Open MPI's on its standard error.
        assert process.stdout is not None
        assert process.stderr is not None
        pairs = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        readers = [threading.Thread(target=_copy, args=(*pair, died), daemon=True) for pair in pairs]
        for reader in readers:
            reader.start()
        try:
            with forwarding(process, file, lambda: saves and bool(Outcome.read(file).state)) as asked:
                code = wait_for(process, file, first)
        finally:
            process.kill()  # it has ended, unless waiting for it failed
            process.wait()
            _end_orphans(str(file), process.pid, guard)
    shutil.rmtree(Path(tempfile.gettempdir()) / f"ompi.{process.pid}", ignore_errors=True)  # Open MPI's, after a death
    for reader in readers:
        reader.join()
    return code, asked, "".join(died)


def wait_for(process: subprocess.Popen[str], file: Path, first: FirstToEnd | None = None) -> int:
    """The launcher's exit code; it is ended if its ranks on this machine are all gone and it stays.

    Args:
        process: the launcher, which leads a session.
        file: where the job reports.
        first: notices which rank ends first.
    """
    gone_since = None
    with contextlib.closing(first or FirstToEnd()) as ends:
        ends.watch([process.pid])
        while (code := process.poll()) is None:
            local = [pid for _, host, pid in Outcome.read(file).ranks if host == os.uname().nodename]
            ends.watch(local)
            ends.look(1.0)
            if not local or any(map(alive, local)):
                gone_since = None
                continue
            gone_since = gone_since or time.monotonic()
            if time.monotonic() - gone_since > _ORPHANED:
                print("allgrad: the launcher has outlived its ranks; ending it", file=sys.stderr, flush=True)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return code


def _end_orphans(mark: str, *spared: int) -> None:
    """End what a launcher that is gone has left running here."""
    left = [process for process in marked(OUTCOME, mark) if process not in (*spared, *ancestors())]
    if left:
        print(f"allgrad: ending {len(left)} processes that the launcher left running", file=sys.stderr, flush=True)
        end_processes(left)


def _copy(stream: IO[str], target: IO[str], died: list[str]) -> None:
    """Pass on what the job writes, and note what the launcher says about processes that died."""
    with stream:
        for line in stream:
            target.write(line)
            target.flush()
            if any(pattern.search(line) for pattern in (*_DIED, _SIGNAL)):
                died.append(line)


def _judge(code: int, outcome: Outcome, who: str, ranks: int) -> int:
    """The exit code that is true, and last words where the run is not complete; `who`: of `_who_died`."""
    if outcome.state == "complete":
        if code:
            print(f"allgrad: {who}The run was complete before the job failed.", file=sys.stderr, flush=True)
        return 0
    if outcome.state == "stopped":
        return EXIT_STOPPED
    if (directory := outcome.directory) is not None:
        print(
            f"allgrad: {who}The run in {directory} is not complete. Continue it with `allgrad resume {directory} -n {ranks}`.",
            file=sys.stderr,
            flush=True,
        )
    return code if code in (1, UsageError.exit_code, NonFiniteError.exit_code) else 1


def _who_died(text: str, ranks: Sequence[Sequence[Any]], first: int | None = None) -> str:
    """The rank that died, in words; "" if the launcher knows of none.

    Args:
        text: what the launcher said.
        ranks: (rank, host, process) of each.
        first: the process that ended first on this machine, if that is known.
    """
    found = next((match for pattern in _DIED if (match := pattern.search(text))), None)
    if found is None:
        return ""
    processes = {process: (rank, host) for rank, host, process in ranks}
    if first in processes and first != int(found["pid"]):
        rank, host = processes[first]
        return f"Rank {rank} (process {first} on {host}) failed. "
    pid = int(found["pid"])
    rank = processes[pid][0] if pid in processes else "?"
    who = f"Rank {rank} (process {pid} on {found['host']})"
    reason = _SIGNAL.search(text)
    number = int(reason["signal"] or reason["other"]) if reason else 0
    with contextlib.suppress(ValueError):
        if number:
            return f"{who} died: {signal.Signals(number).name}{_MEANING.get(number, '')}. "
    return f"{who} failed. "


@contextlib.contextmanager
def forwarding(process: subprocess.Popen[str], file: Path, saves: Callable[[], bool]) -> Iterator[list[int]]:
    """Inside, signals to this process reach the job; see the top of this file.

    Args:
        process: the job's first process, which leads a session.
        file: where the job reports.
        saves: whether the job ends by itself at SIGUSR1 now; otherwise the first signal ends it at once.

    Returns:
        The signals that came so far, but for SIGUSR2.
    """
    asked: list[int] = []

    def pass_on(number: int, frame: Any) -> None:  # noqa: ARG001
        able = saves()
        again = bool(asked) and number in (signal.SIGINT, signal.SIGTERM)
        asked.append(number)
        with contextlib.suppress(ProcessLookupError):
            if again or not able:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.send_signal(signal.SIGUSR1)

    def trace(number: int, frame: Any) -> None:  # noqa: ARG001
        from allgrad.train.loggers.trace import ON_SIGNAL, ask_for_trace

        directory = Outcome.read(file).directory
        if directory is not None:
            with contextlib.suppress(OSError):
                ask_for_trace(Path(directory), ON_SIGNAL)

    here = threading.current_thread() is threading.main_thread()  # elsewhere, signals cannot be handled
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) if here else ()
    before = {number: signal.signal(number, pass_on) for number in numbers}
    if here:
        before[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, trace)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
