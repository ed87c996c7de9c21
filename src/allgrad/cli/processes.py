"""The processes of a job, found by a mark in their environment, and ended if they outlive it.

A launcher that is killed leaves its ranks running, and they hold the run's lock. Every job gets an environment variable with a
value that no other job has, and all its processes on this machine inherit it, whatever sessions and groups they make. Reading
environments needs /proc; without it, no process is found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["alive", "end_processes", "marked"]

_PATIENCE = 5.0  # seconds in which a killed process disappears, unless the disk holds it


def marked(name: str, value: str, proc: Path = Path("/proc")) -> list[int]:
    """The processes of this user, other than this one, whose environment says NAME=VALUE.

    Example:
        >>> marked("ALLGRAD_OUTCOME", "/no/such/job")
        []
    """
    wanted = f"{name}={value}".encode()
    found = []
    for entry in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to somebody else
            if int(entry.name) != os.getpid() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return sorted(found)


def alive(process: int, proc: Path = Path("/proc")) -> bool:
    """Whether a process of this machine exists and is no zombie."""
    try:
        return (proc / str(process) / "stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def end_processes(processes: Iterable[int]) -> None:
    """Kill processes and return when they are gone, or after a few seconds."""
    left = list(processes)
    for process in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and any(map(alive, left)):
        time.sleep(0.01)
