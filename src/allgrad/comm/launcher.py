"""Is this process a rank of an MPI job? Read from the launcher's environment, without importing MPI.

Importing `mpi4py.MPI` initialises MPI. That aborts on some login nodes, and a single process does not need the dependency.
Every launcher tells its ranks their number through the environment, and that is enough to decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allgrad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

# The first variable marks a rank of this launcher; the second, if there is one, is the number of ranks.
_LAUNCHERS = (
    ("Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("a PMI launcher (MPICH's or Intel's mpirun, srun --mpi=pmi2)", "PMI_RANK", "PMI_SIZE"),
    ("PALS (mpiexec of HPE Cray)", "PALS_RANKID", None),
    ("MVAPICH's mpirun", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    ("a PMIx launcher", "PMIX_RANK", None),
)


class LaunchError(UsageError, RuntimeError):
    """The job was started in a way that cannot work; the message says how to start it."""


@dataclass(frozen=True)
class Launch:
    """What the environment says: the launcher's name, and the number of ranks (None: unknown)."""

    launcher: str
    size: int | None


def detect(environ: Mapping[str, str]) -> Launch | None:
    """The launcher that started this process, or None for an ordinary process.

    Raises `LaunchError` if `srun` started several tasks without telling them about each other.

    >>> detect({}) is None
    True
    >>> detect({"PMI_RANK": "1", "PMI_SIZE": "4"}).size
    4
    """
    tasks = _number(environ.get("SLURM_STEP_NUM_TASKS"))
    for name, marker, count in _LAUNCHERS:
        if marker in environ:
            size = _number(environ.get(count)) if count else None
            return Launch(name, size if size is not None else tasks)
    if tasks is not None and tasks > 1:
        raise LaunchError(
            f"srun started {tasks} tasks without an MPI plug-in, so each of them would train by itself. "
            "Start them with `srun --mpi=pmi2` or `srun --mpi=pmix` (`srun --mpi=list` says which this cluster has), "
            "or with the mpirun of the MPI library in an salloc/sbatch allocation."
        )
    return None


def check_size(launch: Launch, size: int, library: str) -> None:
    """Raise `LaunchError` if several ranks were started and each of them sees a world of its own."""
    if launch.size is not None and launch.size > 1 and size == 1:
        raise LaunchError(
            f"{launch.launcher} started {launch.size} ranks, but the MPI library sees 1: the launcher belongs to another MPI "
            f"library, so each rank would train by itself. The library is {library!r}. Start the job with the mpirun that "
            "belongs to it (for a wheel: the one in the environment's bin directory), or, under Slurm, with "
            "`srun --mpi=pmi2` for MPICH and `srun --mpi=pmix` for Open MPI."
        )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
