"""Run one configuration at every combination of values: `allgrad sweep CONFIG optimizer.lr=1e-3,3e-4 seed=1,2`.

Values are separated by commas; one with commas of its own stands in brackets, braces or quotes. The runs are started one
after another, each in a folder named after its values; a finished one is skipped, so that the same command goes on with a
sweep that was stopped. With --list, the commands are printed instead; with --points, the overrides alone, one line a run,
as launch/slurm.sbatch reads them (SWEEP=FILE).
"""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.cli.errors import CommandError, UsageError
from allgrad.cli.ranks import here

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

__all__ = ["configure", "points", "run"]

# One value: bracketed or quoted parts whole, everything else up to the next comma.
_VALUE = re.compile(r"""(?:\[[^\]]*\]|\{[^}]*\}|"[^"]*"|'[^']*'|[^,\[{"'])+""")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad sweep`."""
    parser.add_argument("config", metavar="CONFIG", help="the configuration, a YAML file")
    parser.add_argument("overrides", metavar="key=value,...", nargs="+", help="what is changed in it, all combinations")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="Python file that registers parts"
    )
    parser.add_argument("-n", dest="ranks", type=int, metavar="RANKS", help="of each run (default: what fits here)")
    parser.add_argument("--to", type=Path, metavar="DIR", help="the runs' common folder (default: runs/sweep-CONFIG)")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--list", action="store_true", help="print the commands, start nothing")
    shown.add_argument("--points", action="store_true", help="print the overrides of each run, start nothing")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad sweep`: the exit code is that of the first run that fails, which ends the sweep."""
    from allgrad.train.config import resolve

    folder = arguments.to or Path("runs") / f"sweep-{Path(arguments.config).stem}"
    if arguments.ranks is not None and arguments.ranks < 1:
        raise UsageError(f"-n must be 1 or more, got {arguments.ranks}")
    todo = []
    for point in points(arguments.overrides):
        overrides = [*point, f"run.dir={folder / name_of(point)}"]
        config = resolve(arguments.config, overrides, plugins=arguments.plugin)  # all mistakes before the first run
        plugins = [part for plugin in arguments.plugin for part in ("--plugin", plugin)]
        train = [sys.executable, "-m", "allgrad.cli.main", "train", arguments.config, *overrides, *plugins]
        todo.append((folder / name_of(point), point, ["mpirun", "-n", str(arguments.ranks or here(config)), *train]))
    if len({place for place, _, _ in todo}) < len(todo):
        raise UsageError(
            "two of the combinations are the same, or differ only in characters that no folder's name takes"
        )
    for number, (place, point, command) in enumerate(todo, 1):
        if arguments.points:
            print(" ".join(point))
        elif arguments.list:
            print(shlex.join(command))
        elif (place / "summary.json").is_file():
            print(f"{number} of {len(todo)}: {place} is finished already", flush=True)
        else:
            print(f"{number} of {len(todo)}: {' '.join(point)}", flush=True)
            _start(command, place)
    return 0


def points(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Every combination of the values of `key=a,b,...`, the last key changing fastest.

    Raises:
        UsageError: an override without a key or without values.

    >>> list(points(["lr=1e-3,3e-4", "widths=[8,8],[16]"]))[1:3]
    [['lr=1e-3', 'widths=[16]'], ['lr=3e-4', 'widths=[8,8]']]
    """
    axes = []
    for override in overrides:
        key, equals, values = override.partition("=")
        found = _VALUE.findall(values)
        if not (key and equals and found) or ",".join(found) != values:
            raise UsageError(f"{override!r}: expected key=value,value,... with every bracket and quote closed")
        axes.append([f"{key}={value}" for value in found])
    return (list(point) for point in itertools.product(*axes))


def name_of(point: Sequence[str]) -> str:
    """The folder of a run: its overrides, in characters that every file system takes.

    >>> name_of(["optimizer.lr=1e-3", "model.widths=[8,16]"])
    'optimizer.lr=1e-3,model.widths=_8_16_'
    """
    return ",".join(re.sub(r"[^\w.=+-]+", "_", part) for part in point)


def _start(command: Sequence[str], place: Path) -> None:
    """Run one training to its end.

    Raises:
        CommandError: it failed, or stopped before its end.
    """
    try:
        code = subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise CommandError(
            "there is no mpirun on PATH: put the environment's bin folder there, or use --list"
        ) from None
    if code or not (place / "summary.json").is_file():
        raise CommandError(
            f"the run in {place} did not come to its end (exit code {code}): {shlex.join(command)}\n"
            "The same sweep goes on behind the finished ones when it is called again."
        )
