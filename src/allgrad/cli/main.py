"""The command `allgrad`: find the sub-command's module, parse, run, and turn errors into messages and exit codes.

A sub-command NAME is the module `allgrad.cli.NAME` with two functions:

    configure(parser: argparse.ArgumentParser) -> None    declares its arguments
    run(arguments: argparse.Namespace) -> int             runs it and returns the exit code

A command that runs another one (`WRAPPERS`) finds what follows `--` in `arguments.words`.

Only that module is imported: `allgrad --help` starts as fast as Python and NumPy do.

The exit codes are those of `allgrad/errors.py`. An `AllgradError`, or an error of the operating system, is a message to the user
and is printed without its traceback, unless `--traceback` is given. Every other exception is a bug, in allgrad or in the user's
code, and keeps its traceback.
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

from allgrad.autodiff.errors import TapeError
from allgrad.cli.single_process import refuse_ranks
from allgrad.errors import AllgradError, CollectiveError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

COMMANDS = {
    "train": "train what a configuration describes",
    "resume": "continue a run, on any number of ranks",
    "supervise": "run a command that trains, and start it again after failures",
    "predict": "use a run's model on new rows",
    "export": "write a run's model as an ONNX file",
    "eval": "evaluate a run's model on its held-out data",
    "sample": "let a run's language model write",
    "report": "write a page about runs: curves, timeline, predictions, how to repeat them",
    "trace": "record what every rank of a running job does in its next steps",
    "digest": "print the SHA-256 of a run's weights",
    "config": "print a configuration as a run would see it, or the reference",
    "sweep": "run a configuration at every combination of values",
    "ranks": "print how many ranks fit a configuration on this machine",
    "data": "find, fetch and verify the data sets that the examples use",
    "doctor": "check this machine and its MPI, and say what to do",
}

INTERNAL = ("join",)
"""Commands that jobs start, and not people."""

PARALLEL = ("train", "resume", "predict", "doctor", "join")
"""The commands whose processes, under mpirun, are the ranks of one job. The others run in a single process."""

WRAPPERS = ("supervise",)
"""The commands that run another one, which follows `--`."""


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that one place decides what errors look like."""

    def error(self, message: str) -> None:  # type: ignore[override]
        # With intermixed arguments, argparse calls optional ones required.
        message = re.sub(", key=value$", "", message)
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")


def _top() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    parser = _Parser(
        prog="allgrad",
        description="Data-parallel training on clusters of ordinary CPUs.",
        epilog="commands:\n"
        + "\n".join(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items())
        + "\n\n`allgrad COMMAND --help` describes each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help="one of those below")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="the command's own arguments")
    return parser


def _split(given: list[str]) -> tuple[list[str], list[str]]:
    """Our own words, and those of the command that a wrapper runs; argparse would drop a leading `--`."""
    place = given.index("--") if "--" in given else len(given)
    if set(WRAPPERS) & set(given[:place]):
        return given[:place], given[place + 1 :]
    return given, []


def _run(command: str, arguments: Sequence[str], words: Sequence[str]) -> int:
    """Import the module of `command`, parse its `arguments`, run it; a wrapper runs `words`."""
    if command not in (*COMMANDS, *INTERNAL):
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"There is no command {command!r}.{hint} The commands are {', '.join(COMMANDS)}.")
    if command not in PARALLEL and not {"-h", "--help"} & set(arguments):
        refuse_ranks(command)
    module = importlib.import_module(f"allgrad.cli.{command}")
    parser = _Parser(
        prog=f"allgrad {command}", description=module.__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    module.configure(parser)
    # Intermixed, so that `train CONFIG --debug key=value` works like `train CONFIG key=value --debug`.
    parsed = parser.parse_intermixed_args(arguments)
    parsed.words = words
    code: int = module.run(parsed)
    return code


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error that is a message to the user; None for a bug."""
    if isinstance(error, TapeError):
        return None  # a mistake in code that uses the tape, which the traceback shows
    if isinstance(error, AllgradError):
        return error.exit_code
    return 1 if isinstance(error, OSError) else None


def _explain(error: Exception) -> str:
    """An error's message, with the file that it is about if there is one."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _report(message: str, code: int, *, everywhere: bool, parallel: bool) -> None:
    """Print the error once, and make sure that all ranks of a parallel command end.

    A mistake that every rank makes (`everywhere`) ends each of them with its exit code, and rank 0 prints it. If only one rank
    fails, the others would wait for it (MPICH's mpirun lets them): MPI's Abort ends them.
    """
    from allgrad.comm import failure, launcher
    from allgrad.comm.world import init

    try:
        with warnings.catch_warnings(action="ignore"):
            # Joining the job waits for all ranks, so they must be about to join it too.
            joins = "mpi4py.MPI" in sys.modules or (parallel and launcher.detect(os.environ))
            world = init() if joins else None
    except (ImportError, RuntimeError):  # MPI does not start either; the first error matters more
        world = None
    if world is not None and world.size > 1 and not everywhere:
        failure.end(world, f"error: {message}", code=code)
    elif world is None or world.rank == 0:
        print(f"allgrad: error: {message}", file=sys.stderr, flush=True)


def _plain_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings are a line for the user; others keep their place in the code."""
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
        own, words = _split(list(sys.argv[1:] if argv is None else argv))
        options = top.parse_args(own)
        show_traceback, command = options.traceback, options.command
        if options.version:
            from importlib.metadata import version

            print(f"allgrad {version('allgrad')}")
            return 0
        if options.command is None:
            top.print_help()
            return 2
        return _run(options.command, options.arguments, words)
    except KeyboardInterrupt:
        print("allgrad: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `allgrad config FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        code = _exit_code(error)
        if code is None or show_traceback:
            raise
        everywhere = isinstance(error, UsageError | CollectiveError)
        _report(_explain(error), code, everywhere=everywhere, parallel=command in PARALLEL)
        return code
    finally:
        warnings.formatwarning = _usual_format


if __name__ == "__main__":
    sys.exit(main())
