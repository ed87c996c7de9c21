"""Go on with a run from its newest whole checkpoint, on any number of ranks; it ends in the bits of a run that never stopped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad resume`."""
    parser.add_argument("folder", metavar="RUN", help="the run's folder")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="what is changed, such as train.steps=2000")
    parser.add_argument("-n", dest="ranks", type=int, metavar="N", help="start this many ranks with mpirun")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="Python file that registers parts"
    )
    parser.add_argument("--debug", action="store_true", help="all virtual workers in this process, without MPI")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad resume`."""
    if arguments.ranks is not None:
        return _under_mpirun(arguments)
    from allgrad.cli.train import run_to_the_end
    from allgrad.train.launch import resume_run

    trainer, refused = resume_run(
        arguments.folder, arguments.overrides, plugins=arguments.plugin, single=arguments.debug
    )
    for message in refused:
        print(f"allgrad: {message} The one before it is used.", file=sys.stderr)
    return run_to_the_end(trainer)


def _under_mpirun(arguments: argparse.Namespace) -> int:
    """Replace this process by mpirun with as many ranks of the same command."""
    import os
    import shutil
    from pathlib import Path

    from allgrad.cli.errors import CommandError

    beside = Path(sys.executable).parent / "mpirun"
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
    if mpirun is None:
        raise CommandError("resume -n: there is no mpirun. Install allgrad[mpich], or start the ranks yourself.")
    command = [mpirun, "-n", str(arguments.ranks), sys.executable, "-m", "allgrad", "resume", arguments.folder]
    command += [*arguments.overrides, *(part for plugin in arguments.plugin for part in ("--plugin", plugin))]
    sys.stdout.flush()
    os.execv(mpirun, command)
