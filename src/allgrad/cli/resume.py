"""Go on with a run from its newest whole checkpoint, on any number of ranks; it ends in the bits of a run that never stopped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from allgrad.cli.alone import refuse_ranks
from allgrad.cli.train import add_options, options_of, post_mortem, run_to_the_end
from allgrad.errors import AllgradError, UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad resume`."""
    parser.add_argument("folder", metavar="RUN", help="the run's folder")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="what is changed, such as train.steps=2000")
    parser.add_argument("-n", dest="ranks", type=int, metavar="N", help="start this many ranks with mpirun")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad resume`."""
    options = options_of(arguments)
    if arguments.ranks is not None:
        return _under_mpirun(arguments)
    from allgrad.train.run.build import resume_run

    def resume() -> int:
        trainer, folder, notes = resume_run(arguments.folder, arguments.overrides, options)
        for message in notes:
            print(f"allgrad: {message}", file=sys.stderr, flush=True)
        return run_to_the_end(trainer, folder)

    return post_mortem(resume) if arguments.debug else resume()


def _under_mpirun(arguments: argparse.Namespace) -> int:
    """Replace this process by mpirun with as many ranks of the same command."""
    import os
    import shutil
    from pathlib import Path

    if arguments.ranks < 1 or arguments.debug:
        raise UsageError("-n must be 1 or more, and does not go with --debug, which is one process")
    refuse_ranks("resume -n, which starts mpirun itself,")
    beside = Path(sys.executable).parent / "mpirun"
    mpirun = str(beside) if beside.exists() else shutil.which("mpirun")
    if mpirun is None:
        raise AllgradError("resume -n: there is no mpirun. Install allgrad[mpich], or start the ranks yourself.")
    command = [mpirun, "-n", str(arguments.ranks), sys.executable, "-m", "allgrad", "resume", arguments.folder]
    command += [*arguments.overrides, *(part for plugin in arguments.plugin for part in ("--plugin", plugin))]
    command += ["--anomaly"] if arguments.anomaly else []
    sys.stdout.flush()
    os.execv(mpirun, command)
