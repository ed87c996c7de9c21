"""The processes of a job, found by a mark in their environment, and ended if they outlive it.

A launcher that is killed leaves its ranks running, and they hold the run's lock. Every job gets an environment variable with a
value that no other job has, and all its processes on this machine inherit it, whatever sessions and groups they make. Reading
environments needs /proc; without it, no process is found.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FirstToEnd", "alive", "end_processes", "marked"]

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


class FirstToEnd:
    """Notices which of some processes of this machine ends first. Linux only; elsewhere it notices nothing.

    When one rank dies, the launcher kills the others within milliseconds, and may then take one of them for the one that died.

    Attributes:
        process: the first that ended; None if none has, or if several ended at once.
    """

    def __init__(self) -> None:
        self.process: int | None = None
        self._over = False
        self._processes: dict[int, int] = {}  # descriptor -> process
        self._poll = select.poll()

    def watch(self, processes: Iterable[int]) -> None:
        """Notice the ends of these processes, too."""
        for process in set(processes) - set(self._processes.values()):
            with contextlib.suppress(OSError, AttributeError):  # it is gone, or this system cannot do it
                descriptor = os.pidfd_open(process)
                self._processes[descriptor] = process
                self._poll.register(descriptor, select.POLLIN)

    def look(self, seconds: float) -> None:
        """Wait that long for an end."""
        ended = self._poll.poll(1000 * seconds)
        if ended and not self._over:
            self._over = True
            self.process = self._processes[ended[0][0]] if len(ended) == 1 else None
        for descriptor, _ in ended:
            self._poll.unregister(descriptor)

    def close(self) -> None:
        """Free the descriptors."""
        for descriptor in self._processes:
            os.close(descriptor)
