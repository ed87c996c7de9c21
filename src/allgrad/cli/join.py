"""Take the place of a rank that died. A job that was started with --survive starts this by itself; it is not for people."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from allgrad.cli.arguments import add_plugins
from allgrad.cli.train import run_to_the_end
from allgrad.comm import STALL_SECONDS
from allgrad.comm.time_limit import time_limit
from allgrad.comm.ulfm import prepare
from allgrad.errors import AllgradError, UsageError

if TYPE_CHECKING:
    import argparse

    from allgrad.train.trainer import Trainer

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad join`."""
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad join`."""
    prepare()
    with time_limit(STALL_SECONDS):  # the rank that starts this process may die meanwhile
        from mpi4py import MPI

    from allgrad.train.run.build import replacement
    from allgrad.train.survive import NotNeededError

    if MPI.Comm.Get_parent() == MPI.COMM_NULL:
        raise UsageError("allgrad join is started by a job that was started with --survive, and not by hand.")
    trainer: Trainer | None = None
    try:
        trainer, directory = replacement(arguments.plugin)
        return run_to_the_end(trainer, directory)
    except Exception as error:
        if trainer is not None and trainer.survivor is not None and trainer.survivor.outside is None:
            raise  # it has become a rank like any other
        if isinstance(error, AllgradError):
            print(f"allgrad: a process cannot take the place of a dead rank: {error}", file=sys.stderr)
        elif not isinstance(error, NotNeededError):
            traceback.print_exc()
        sys.stderr.flush()
        os.kill(
            os.getpid(), signal.SIGKILL
        )  # which the job survives; an exit code could end it, and MPI_Finalize wait for it
        raise
