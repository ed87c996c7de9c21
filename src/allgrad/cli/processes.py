"""The processes of a job, found by a mark in their environment, and ended if they outlive it or the process that started it.

A launcher that is killed leaves its ranks running, and they hold the run's lock. Every job gets an environment variable with a
value that no other job has, and all its processes on this machine inherit it, whatever sessions and groups they make. Reading
environments needs /proc; without it, no process is found.

The process that starts a job can be killed as well, by SIGKILL, and then cannot clean up. So it first starts a guard: this file,
run as a program of its own, which waits at a pipe whose other end only the starter has. The kernel closes that end when the
starter ends, in whatever way. If the starter has not said before that the job is over, the guard ends the processes of the
job. It imports nothing but the standard library, which takes about 30 ms once per job.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

__all__ = ["FirstToEnd", "alive", "ancestors", "end_processes", "guarded", "marked"]

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


def ancestors() -> Iterator[int]:
    """The processes that started this one, which may carry the same mark as its job: a supervisor has marked its command."""
    process = os.getppid()
    while process > 1:
        yield process
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return


@contextlib.contextmanager
def guarded(name: str, value: str) -> Iterator[int]:
    """Inside, a guard ends the processes whose environment says NAME=VALUE should this process be killed.

    Returns:
        The guard's process, which may carry the mark, too.
    """
    reading, writing = os.pipe()
    command = [sys.executable, "-I", "-S", __file__, name, value, *map(str, ancestors())]
    guard = subprocess.Popen(command, stdin=reading, stdout=subprocess.DEVNULL, start_new_session=True)
    os.close(reading)
    try:
        yield guard.pid
    finally:
        with contextlib.suppress(BrokenPipeError):  # somebody has killed the guard
            os.write(writing, b"the job is over")
        os.close(writing)
        guard.wait()


def _guard(name: str, value: str, spared: Container[int]) -> None:
    """What the guard does."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the starter answers those, and may need a while
    if sys.stdin.buffer.read():
        return
    until = time.monotonic() + _PATIENCE
    while (left := [one for one in marked(name, value) if one not in spared]) and time.monotonic() < until:
        with contextlib.suppress(OSError):  # nobody reads it any more
            text = f"allgrad: what started this job was killed; ending {len(left)} of its processes\n"
            os.write(2, text.encode())
        end_processes(left)


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


if __name__ == "__main__":
    _guard(sys.argv[1], sys.argv[2], {int(word) for word in sys.argv[3:]})
