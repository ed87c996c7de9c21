"""Starting a command of allgrad on several ranks: the one place that finds mpirun, calls it, and judges how the job ended.

Contract.

- mpirun is the one beside this Python (the wheel's), else the one on PATH. Ranks run `python -P -m allgrad ...`, so that no
  file in the working directory can take the place of a package.
- mpirun gets a session of its own, because at Ctrl-C MPICH's kills the ranks, and Open MPI's does so at SIGTERM. SIGINT, SIGTERM
  and SIGUSR1 to this process all reach the ranks as SIGUSR1, upon which a run saves its state and ends. A second SIGINT or
  SIGTERM ends the job at once.
- An exit code alone proves nothing: mpirun gives 0 when a rank calls `os._exit(0)`, and Open MPI's when a whole node dies. So a
  training reports its outcome in a file (`report_outcome`), and a job without one has failed.
- The last words of a job that failed name the process that died, if the launcher says which, and how to continue.
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
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from allgrad.errors import EXIT_STOPPED, AllgradError, NonFiniteError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from allgrad.comm import World

__all__ = ["find_mpirun", "job_command", "job_environment", "report_outcome", "run_job"]

_OUTCOME = "ALLGRAD_OUTCOME"
_DIED = (
    re.compile(r"PID (?P<pid>\d+) RUNNING AT (?P<host>\S+)"),  # MPICH
    re.compile(r"with PID (?P<pid>\d+) on node (?P<host>\S+)"),  # Open MPI
)
_SIGNAL = re.compile(r"EXIT CODE: (?P<signal>\d+)|exited on signal (?P<other>\d+)")


def find_mpirun() -> str:
    """The mpirun beside this Python, else the one on PATH.

    Raises:
        AllgradError: if there is no mpirun in either place.
    """
    found = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    if found is None:
        raise AllgradError(
            "There is no mpirun beside this Python or on PATH. Install an MPI library (`pip install allgrad[mpich]`), or, on a "
            "cluster, load its MPI module."
        )
    return found


def job_command(ranks: int, module: str, *arguments: str) -> list[str]:
    """The words that run a module of allgrad on `ranks` ranks.

    Raises:
        AllgradError: there is no mpirun.
    """
    mpirun = find_mpirun()
    words = [mpirun, *(["--oversubscribe", "--bind-to", "none"] if _is_open_mpi(mpirun) else []), "-n", str(ranks)]
    return [*words, sys.executable, "-P", "-m", module, *arguments]


def job_environment() -> dict[str, str]:
    """The environment of a job: this process's, with one BLAS thread per rank unless it says otherwise."""
    environment = dict(os.environ)
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        environment.setdefault(name, "1")
    with contextlib.suppress(AllgradError):
        if _is_open_mpi(find_mpirun()):
            environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
            environment.setdefault("HOME", str(Path.cwd()))  # Open MPI does not start without one
            environment.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    return environment


def _is_open_mpi(mpirun: str) -> bool:
    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
    return "Open MPI" in said or "PRRTE" in said


def run_job(ranks: int, *arguments: str) -> int:
    """Run `allgrad ARGUMENTS` on `ranks` ranks to its end; returns the exit code.

    Raises:
        AllgradError: there is no mpirun.
    """
    command = job_command(ranks, "allgrad", *arguments)
    print(f"allgrad: {' '.join(command)}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="allgrad-job-") as name:
        file = Path(name) / "outcome.json"
        environment = job_environment() | {_OUTCOME: str(file)}
        process = subprocess.Popen(
            command, env=environment, text=True, start_new_session=True,
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
        with _forwarding(process):
            code = process.wait()
        for reader in readers:
            reader.join()
        outcome = json.loads(file.read_text()) if file.is_file() else {}
    return _judge(code, outcome, died, ranks)


def _copy(stream: IO[str], target: IO[str], died: list[str]) -> None:
    """Pass on what the job writes, and note what the launcher says about processes that died."""
    with stream:
        for line in stream:
            target.write(line)
            target.flush()
            if any(pattern.search(line) for pattern in (*_DIED, _SIGNAL)):
                died.append(line)


def _judge(code: int, outcome: dict[str, Any], died: list[str], ranks: int) -> int:
    """The exit code that is true, and last words where the run is not complete."""
    state, directory = outcome.get("state"), outcome.get("directory")
    if state == "complete" and code == 0:
        return 0
    if state == "stopped":
        return EXIT_STOPPED
    if directory is not None:
        who = _who_died(died, outcome.get("ranks", []))
        print(
            f"allgrad: {who}The run in {directory} is not complete. Continue it with `allgrad resume {directory} -n {ranks}`.",
            file=sys.stderr,
            flush=True,
        )
    return code if code in (1, UsageError.exit_code, NonFiniteError.exit_code) else 1


def _who_died(lines: Sequence[str], ranks: Sequence[Sequence[Any]]) -> str:
    """The rank that died, in words; "" if nothing is known. `ranks`: (rank, host, process) of each."""
    text = "\n".join(lines)
    found = next((match for pattern in _DIED if (match := pattern.search(text))), None)
    if found is None:
        return ""
    pid = int(found["pid"])
    rank = next((rank for rank, _, process in ranks if process == pid), None)
    reason = _SIGNAL.search(text)
    number = int(reason["signal"] or reason["other"]) if reason else 0
    with contextlib.suppress(ValueError):
        if number:
            return (
                f"Rank {'?' if rank is None else rank} (process {pid} on {found['host']}) died: "
                f"{signal.Signals(number).name}. "
            )
    return f"Rank {'?' if rank is None else rank} (process {pid} on {found['host']}) failed. "


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[str]) -> Iterator[None]:
    """Inside, signals to this process reach the job; see the top of this file."""
    asked = False

    def pass_on(number: int, frame: Any) -> None:  # noqa: ARG001
        nonlocal asked
        if asked and number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return
        asked = True
        process.send_signal(signal.SIGUSR1)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report_outcome(world: World, directory: Path, state: str) -> None:
    """Tell whoever started this job (`run_job`) where the run is and how it ended; all ranks call it together.

    Args:
        world: the ranks.
        directory: the run's.
        state: "running", "complete" or "stopped".
    """
    place = os.environ.get(_OUTCOME)
    if place is None:
        return
    ranks = world.all_gather_json([world.rank, world.host, os.getpid()])
    if world.rank == 0:
        beside = Path(f"{place}.partial")
        beside.write_text(json.dumps({"state": state, "directory": str(directory), "ranks": ranks}))
        beside.replace(place)
