"""Which ranks of this machine are missing if a job does not start: a program of its own, beside a rank that joins.

    python -I -S join_report.py SECONDS TURN

A rank that waits in MPI_Init runs no Python (time_limit.py). So the first two ranks of each machine, of which one may be the
missing one, start this program before they join, and close its standard input when they have joined. If that does not
happen in time, it says which ranks are missing, as far as this machine shows it, and ends its rank, with which the launcher ends
the job. It needs Linux's /proc, and imports nothing but the standard library, since it must not delay the start.

The ranks of this machine are found by what launchers leave in the environment: they are the processes that have the number of a
rank there and the same launcher, which is the first of their ancestors that has none. A rank has joined as far as it can if
it has the MPI library in its memory.
"""

from __future__ import annotations

import os
import platform
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RANKS", "missing", "report"]

RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PALS_RANKID", "MV2_COMM_WORLD_RANK")
"""Variables of which launchers give a rank its number in one."""
_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_SIZES = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "PALS_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
_DOING = {"R": "it computes", "D": "it waits for a disk or a network file system", "S": "it sleeps or waits"}


def missing(process: int, environ: Mapping[str, str], proc: Path = Path("/proc")) -> list[str]:
    """The ranks of this machine that have not joined, in words.

    Args:
        process: a rank that waits.
        environ: its environment.
        proc: where the system shows its processes.
    """
    launcher = _launcher(process, proc)
    ranks: dict[int, tuple[bool, int]] = {}
    for number in sorted(int(entry.name) for entry in proc.glob("[0-9]*")):
        rank = _rank(number, proc)
        # A rank may be a shell that has started the program: what counts is the process with MPI, or the youngest.
        if rank is not None and _launcher(number, proc) == launcher:
            ranks[rank] = max(ranks.get(rank, (False, 0)), (_has_mpi(number, proc), number))
    found = []
    for rank, (has_mpi, number) in sorted(ranks.items()):
        state = _status(number, proc)[0]
        if state in ("T", "t"):
            found.append(f"rank {rank} (process {number}) is stopped")
        elif not has_mpi:
            found.append(f"rank {rank} (process {number}) has not started MPI yet; {_DOING.get(state, 'it ends')}")
    here, size = (_number(environ, names) for names in (_LOCAL_SIZES, _SIZES))
    if here is not None and here == size:
        found += [f"rank {rank} has no process any more" for rank in range(size) if rank not in ranks]
    elif here is not None and here > len(ranks):
        found.append(f"{here - len(ranks)} of the {here} ranks of this machine have no process any more")
    return found


def report(found: list[str], seconds: float) -> str:
    """The message.

    >>> print(report(["rank 1 (process 77) is stopped"], 20.0))
    The job has not started within 20 s.
    Missing: rank 1 (process 77) is stopped.
    If a rank may take longer, raise parallel.startup_seconds (in Python: stall_seconds of comm.init).
    """
    lines = [f"The job has not started within {seconds:g} s."]
    lines += [f"Missing: {one}." for one in found]
    if not found:
        lines.append(
            "All ranks of this machine have started MPI; those of another machine or the MPI library are late."
        )
    lines.append("If a rank may take longer, raise parallel.startup_seconds (in Python: stall_seconds of comm.init).")
    return "\n".join(lines)


def _number(environ: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    return next((int(environ[name]) for name in names if environ.get(name, "").isdecimal()), None)


def _rank(process: int, proc: Path) -> int | None:
    """The number of the rank that a process belongs to."""
    try:
        text = os.fsdecode((proc / str(process) / "environ").read_bytes())
    except OSError:  # it has ended, or belongs to somebody else, as Slurm's daemon does
        return None
    return _number(dict(part.partition("=")[::2] for part in text.split("\0")), RANKS)


def _launcher(process: int, proc: Path) -> int:
    while process > 1 and _rank(process, proc) is not None:
        process = _status(process, proc)[1]
    return process


def _status(process: int, proc: Path) -> tuple[str, int]:
    """(state, parent) of a process."""
    with suppress(OSError):
        state, parent = (proc / str(process) / "stat").read_text().rpartition(")")[2].split()[:2]
        return state, int(parent)
    return "", 0


def _has_mpi(process: int, proc: Path) -> bool:
    with suppress(OSError):
        return "/libmpi" in (proc / str(process) / "maps").read_text()
    return False


def main(seconds: float, turn: float) -> None:
    """Wait until the rank has joined or ended, or report, `turn` seconds after the limit: another rank's may come first."""
    rank = os.getppid()
    if select.select([sys.stdin], [], [], seconds + turn)[0]:
        return
    if found := missing(rank, os.environ):
        found[0] += f", on {platform.node()}"
    os.write(2, f"allgrad: {report(found, seconds)}\n".encode())
    if os.getppid() == rank:
        os.kill(rank, signal.SIGALRM)


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
