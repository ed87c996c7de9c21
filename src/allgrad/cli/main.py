"""The command `allgrad`: finds the sub-command's module, parses, runs, and turns errors into words and exit codes.

A sub-command NAME is the module `allgrad.cli.NAME` with two functions:

    configure(parser: argparse.ArgumentParser) -> None    declares its arguments
    run(arguments: argparse.Namespace) -> int             does it; returns the exit code

Only the module that was asked for is imported: `allgrad --help` starts as fast as Python and NumPy do.

Exit codes: 0 done; 1 it could not be done; 2 the command line or the configuration is wrong; 130 interrupted. An
exception that is a message to the user (`allgrad.cli.errors`, or an operating system's error) is printed without its
traceback, unless `--traceback` is given. Every other exception is a bug of ours or of the user's code, and keeps it.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.errors import AllgradError, CollectiveError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

COMMANDS = {
    "train": "train what a configuration describes",
    "resume": "go on with a run, on any number of ranks",
    "eval": "evaluate a run's model on its held-out data",
    "sample": "let a run's language model write",
    "digest": "print the SHA-256 of a run's weights",
    "config": "print a configuration as a run would see it, or the schema",
    "sweep": "run a configuration at every combination of values",
    "ranks": "print how many ranks to start for a configuration here",
    "data": "find, fetch and verify the data sets that the examples use",
    "doctor": "one screen on this machine and its MPI, with remedies",
}

TOGETHER = ("train", "resume", "doctor")
"""Those whose processes, under mpirun, are the ranks of one job; of another command each is alone."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that one place decides how errors look."""

    def error(self, message: str) -> None:  # type: ignore[override]
        # Where arguments are mixed, argparse calls optional ones required.
        message = re.sub(", key=value$", "", message)
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")


def _top() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    parser = _Parser(
        prog="allgrad",
        description="Data-parallel training on clusters of ordinary CPUs.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items())
        + "\n\n`allgrad COMMAND --help` says more on each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help="one of those below")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="the command's own arguments")
    return parser


def _run(command: str, arguments: Sequence[str]) -> int:
    """Import the module of `command`, parse its `arguments`, run it."""
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"there is no command {command!r}.{hint} Known: {', '.join(COMMANDS)}")
    module = importlib.import_module(f"allgrad.cli.{command}")
    parser = _Parser(
        prog=f"allgrad {command}", description=module.__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    module.configure(parser)
    # Intermixed: `train CONFIG --debug key=value` is as good as `train CONFIG key=value --debug`.
    code: int = module.run(parser.parse_intermixed_args(arguments))
    return code


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error that is a message to the user; None for one that is not."""
    if isinstance(error, AllgradError):
        return error.exit_code
    return 1 if isinstance(error, OSError) else None


def _explain(error: Exception) -> str:
    """What an error says, in words that name the file where there is one."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _report(message: str, code: int, *, everywhere: bool, together: bool) -> None:
    """Print the error; in a job of many ranks (`together`), once, and see to it that all of them end.

    A mistake that every rank makes (`everywhere`) ends each of them by itself, with its exit code, and rank 0 speaks. A
    rank that fails alone would leave the others waiting for it (MPICH's mpirun does not mind): MPI's Abort ends them.
    """
    from allgrad.comm import failure, launcher
    from allgrad.comm.world import init

    try:
        with warnings.catch_warnings(action="ignore"):
            # A rank that joins the job for this waits for all others: they must be about to join it, too.
            joins = "mpi4py.MPI" in sys.modules or (together and launcher.detect(os.environ))
            world = init() if joins else None
    except (ImportError, RuntimeError):  # MPI does not start either: what went wrong first matters more
        world = None
    if world is not None and world.size > 1 and not everywhere:
        failure.end(world, f"error: {message}", code=code)
    elif world is None or world.rank == 0:
        print(f"allgrad: error: {message}", file=sys.stderr, flush=True)


def _plain_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of ours is a line for the user; others keep the place in the code that they are about."""
    if issubclass(category, RuntimeWarning) and Path(filename).is_relative_to(Path(__file__).parents[1]):
        return f"allgrad: warning: {message}\n"
    return _usual_format(message, category, filename, lineno, line)


_usual_format = warnings.formatwarning


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's) and return the exit code.

    >>> main(["--version"])  # doctest: +ELLIPSIS
    allgrad ...
    0
    """
    show_traceback, command = False, None
    warnings.formatwarning = _plain_warning
    try:
        top = _top()
        options = top.parse_args(argv)
        show_traceback, command = options.traceback, options.command
        if options.version:
            from importlib.metadata import version

            print(f"allgrad {version('allgrad')}")
            return 0
        if options.command is None:
            top.print_help()
            return 2
        return _run(options.command, options.arguments)
    except KeyboardInterrupt:
        print("allgrad: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `allgrad config FILE | head`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        code = _exit_code(error)
        if code is None or show_traceback:
            raise
        everywhere = isinstance(error, UsageError | CollectiveError)
        _report(_explain(error), code, everywhere=everywhere, together=command in TOGETHER)
        return code
    finally:
        warnings.formatwarning = _usual_format


if __name__ == "__main__":
    sys.exit(main())
