"""What killed jobs leave in the temporary directory, with the proof that whoever made it is gone.

- MPICH's launcher writes a description of the machine for the ranks that it starts (`hydra_hwloc_xmlfile_*`). The process that
  wrote it is not named. But it is older than the file, so the file is left behind if no such process is that old.
- Open MPI's launcher has a directory (`ompi.PID`), and so have the commands of allgrad that start jobs (`allgrad-job-PID-*` and
  so on). The number says whose it is.

Only this user's files count. The proof needs /proc, and holds for the processes of this machine, or of this container.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.cli.processes import alive

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["abandoned", "remove"]

_NUMBERED = re.compile(r"(?:ompi\.|allgrad-(?:job|supervised|launch)-)(\d+)(?:-\w+)?")
_DESCRIPTION = "hydra_hwloc_xmlfile_*"
_PROXY = "hydra_pmi_proxy"
_CLOCK = 60.0  # seconds by which the clock may have been set since a process started


def abandoned(place: Path | None = None, proc: Path = Path("/proc")) -> list[Path]:
    """Files and directories in the temporary directory that killed jobs of this user left.

    Args:
        place: the temporary directory.
        proc: where the system shows its processes.
    """
    place = Path(tempfile.gettempdir()) if place is None else place
    if not (proc / "self" / "stat").exists():
        return []
    files = list(place.glob(_DESCRIPTION))
    oldest = min(_starts(proc), default=time.time()) - _CLOCK if files else 0.0
    found = []
    for path in [*files, *place.iterdir()]:
        with contextlib.suppress(OSError):  # it went away
            status = path.lstat()
            number = _NUMBERED.fullmatch(path.name)
            gone = status.st_mtime < oldest if path in files else number and not alive(int(number[1]), proc)
            if gone and status.st_uid == os.getuid() and path not in found:
                found.append(path)
    return sorted(found)


def remove(path: Path) -> int:
    """Remove a file or a directory; its size in bytes."""
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    size = sum(one.lstat().st_size for one in files)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size


def _starts(proc: Path) -> Iterator[float]:
    """When the processes of MPICH's launcher that run now started."""
    booted = next(
        float(line.split()[1]) for line in (proc / "stat").read_text().splitlines() if line.startswith("btime")
    )
    for entry in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            if name == _PROXY:
                yield booted + int(rest.split()[19]) / os.sysconf("SC_CLK_TCK")
