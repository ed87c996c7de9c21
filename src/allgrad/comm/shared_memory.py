"""MPI's shared memory: enough room for it before the start, and nothing left of it after any end.

MPICH passes messages between the ranks of a node through files in /dev/shm, about 1 MB per rank. Where they do not fit, its
ranks die of a segmentation fault without a word, so the room is checked first. It removes the files in MPI_Finalize, so a
job that is killed leaves them. A file that every rank has mapped needs no name any more: once all ranks of the node have
joined, their own segments are unlinked, and the kernel frees the memory with the last process, however that ends.
Open MPI's ranks map each other's segments when they first communicate, so there the names must stay. Its launcher removes them,
unless it is killed too. What jobs left that were killed before, the next start removes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from .launcher import LaunchError

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACE = Path("/dev/shm")
_ROOM = 32 << 20  # bytes that MPICH needs at its start, whatever the number of ranks: with 24 MB it crashed
_PER_RANK = 1 << 20
_FILES = 128  # open files that a rank needs, with a margin
_LOCAL_SIZES = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "PALS_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
_MPICH = "mpich_shm_"
_NAMES = (f"{_MPICH}*", "sm_segment.*", "vader_segment.*")  # MPICH, Open MPI 5, Open MPI 4


def check_limits(environ: Mapping[str, str], place: Path = PLACE) -> None:
    """Check that a rank can start here, and raise the limit of open files as far as this process may.

    Raises:
        LaunchError: /dev/shm is too small, or too few files may be open; says how to get more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if 0 <= hard < _FILES:
        raise LaunchError(
            f"A process may have only {hard} open files here; a rank needs {_FILES}. Raise the limit (`ulimit -n 1024`, or the "
            "hard limit in the system's limits.conf) before starting the job."
        )
    if not place.is_dir():
        return
    ranks = next((int(environ[name]) for name in _LOCAL_SIZES if environ.get(name, "").isdecimal()), 1)
    needed, free = _ROOM + ranks * _PER_RANK, shutil.disk_usage(place).free
    if free < needed and ranks > 1:
        raise LaunchError(
            f"Only {free / 2**20:.1f} MiB are free in {place}, through which the {ranks} ranks of this node exchange data; "
            f"MPI needs about {needed / 2**20:.0f} MiB. Give the container a larger one (docker run --shm-size=1g; "
            f"Kubernetes: an emptyDir with medium: Memory, mounted at {place}), or remove what earlier jobs left there."
        )


def unlink_segments(place: Path = PLACE, maps: Path = Path("/proc/self/maps")) -> list[str]:
    """Remove the names of the MPICH segments that this process has mapped; call it when all ranks of the node have joined.

    Returns:
        The names that were removed, for tests.
    """
    removed = []
    with contextlib.suppress(OSError):  # no /proc: the names stay, as without this
        for line in maps.read_text().splitlines():
            path = Path(line.rpartition(" ")[2])
            if path.parent == place and path.name.startswith(_MPICH):
                with contextlib.suppress(OSError):  # another rank of this node was first
                    path.unlink()
                    removed.append(path.name)
    return sorted(set(removed))


def left_behind(place: Path = PLACE) -> list[Path]:
    """Segments of this user that no process has open or mapped: what killed jobs left.

    The proof is the kernel's, and holds across containers: it grants a write lease on a file only if nobody else has it open,
    and a mapping counts as open.

    Example:
        >>> left_behind(Path("/nowhere"))
        []
    """
    return [path for path in sorted(path for name in _NAMES for path in place.glob(name)) if _abandoned(path)]


def remove_left_behind(place: Path = PLACE) -> list[Path]:
    """Remove what killed jobs left; called at the start of a job, by one rank per node. Returns what was removed."""
    found = left_behind(place)
    for path in found:
        with contextlib.suppress(OSError):  # another job that starts now was first
            path.unlink()
    return found


def _abandoned(path: Path) -> bool:
    try:
        if path.stat().st_uid != os.getuid():
            return False
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        finally:
            os.close(descriptor)
    except (OSError, AttributeError):  # somebody uses it, it is gone, or this system has no leases
        return False
    return True
