"""MPI's user-level fault tolerance (ULFM), as far as it is used here: what it needs, what its errors mean, how to revoke.

A revoked communicator fails every operation on it, on all ranks, so that nobody waits on it any longer. `survival.py` says when
that is done.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["RankDiedError", "drain", "means_death", "prepare", "reason_against", "returning", "revoke", "revoking"]

_DRAIN = 5.0  # seconds that the requests of a revoked communicator may take to complete
_ENABLED = "OMPI_MCA_mpi_ft_enable"  # set by `mpirun --with-ft ulfm`

_abandoned: list[Any] = []  # requests that MPI did not complete: their arrays must live as long as the process


class RankDiedError(RuntimeError):
    """A rank of this job has died, so a collective cannot finish."""

    def __init__(self) -> None:
        super().__init__("A rank of this job has died.")


def reason_against() -> str:
    """Why the ranks of this job cannot survive the death of one, in words; "" if they can. MPI has been started."""
    from mpi4py import MPI

    library = " ".join(MPI.Get_library_version().split()[:3]).rstrip(",")
    if not library.startswith("Open MPI"):
        return f"{library} has no user-level fault tolerance (ULFM)"
    if not hasattr(MPI.Comm, "Shrink"):
        return "mpi4py is older than 4.1"
    if os.environ.get(_ENABLED, "0").lower() not in ("1", "true"):
        return "mpirun was started without `--with-ft ulfm`"
    if MPI.Query_thread() != MPI.THREAD_MULTIPLE:
        return "this MPI library does not grant MPI_THREAD_MULTIPLE"
    return ""


def prepare() -> None:
    """Before MPI starts: leave out Open MPI's hierarchical collectives.

    They ask which ranks share a node, and about a rank that has joined only the one that started it knows that: they crash.
    """
    os.environ.setdefault("OMPI_MCA_coll", "^han")


def means_death(error: BaseException) -> bool:
    """Whether this exception means that a rank has died."""
    if isinstance(error, RankDiedError):
        return True
    from mpi4py import MPI

    if not isinstance(error, MPI.Exception):
        return False
    codes = (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED, MPI.ERR_IN_STATUS)
    return error.Get_error_class() in codes


@contextmanager
def revoking(comms: Sequence[Any]) -> Iterator[None]:
    """Inside, a death revokes these communicators, which all ranks have, so that nobody waits on them.

    Raises:
        RankDiedError: in place of MPI's own error.
    """
    try:
        yield
    except Exception as error:
        if not means_death(error):
            raise
        revoke(comms)
        raise RankDiedError from error


def revoke(comms: Iterable[Any]) -> None:
    """Let every operation on these communicators fail, on all ranks."""
    for comm in comms:
        comm.Revoke()


def drain(requests: Iterable[Any]) -> None:
    """Complete requests of revoked communicators, with whatever error: MPI then no longer uses their arrays."""
    from mpi4py import MPI

    end = time.monotonic() + _DRAIN
    for request in requests:
        while request != MPI.REQUEST_NULL:
            try:
                if request.Test():
                    break
            except MPI.Exception:
                break
            if time.monotonic() > end:
                _abandoned.append(request)
                break


def returning(comm: Any) -> Any:
    """The communicator, whose errors are returned to Python instead of ending the job."""
    from mpi4py import MPI

    comm.Set_errhandler(MPI.ERRORS_RETURN)
    return comm
