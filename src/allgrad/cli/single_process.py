"""Commands that run in a single process, and must not be started as the ranks of a job."""

from __future__ import annotations

import os

from allgrad.comm import launcher
from allgrad.errors import UsageError

__all__ = ["refuse_ranks"]


def refuse_ranks(what: str) -> None:
    """Raise if mpirun or srun started several of this process: each would do everything, one over the other.

    Raises:
        UsageError: on every rank.
    """
    launch = launcher.detect(os.environ)
    if launch is not None and launch.size != 1:
        count = "several ranks" if launch.size is None else f"{launch.size} ranks"
        raise UsageError(
            f"{what} runs in a single process; start it without mpirun ({launch.launcher} launched {count})."
        )
