"""Commands that are one process, and must not be started as the ranks of a job."""

from __future__ import annotations

import os

from allgrad.comm import launcher
from allgrad.errors import UsageError

__all__ = ["refuse_ranks"]


def refuse_ranks(what: str) -> None:
    """Raise where mpirun or srun started several of this process: each would do all of it, over the others.

    Raises:
        UsageError: on every rank.
    """
    launch = launcher.detect(os.environ)
    if launch is not None and launch.size != 1:
        count = "several" if launch.size is None else launch.size
        raise UsageError(f"{what} is one process, and {launch.launcher} started {count} of it. Start it without.")
