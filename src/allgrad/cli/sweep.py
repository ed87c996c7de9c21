"""Run one configuration at every combination of values: `allgrad sweep CONFIG optimizer.lr=1e-3,3e-4 seed=1,2`.

Values are separated by commas; one with commas of its own stands in brackets, braces or quotes. The runs are started one
after another, each in a folder named after what varies; a finished one is skipped and a stopped one resumed, so that the
same command goes on with a sweep that was stopped. A table of the results comes last. With --print, the commands are
printed instead, for mpirun here or for Slurm; with --points, the overrides alone, one line a run, as launch/slurm.sbatch
reads them (SWEEP=FILE).
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.cli.alone import refuse_ranks
from allgrad.cli.ranks import here
from allgrad.errors import AllgradError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

__all__ = ["configure", "points", "run", "table"]


@dataclass(frozen=True)
class Run:
    """One combination: its overrides and those that vary, its folder, the commands that train it, go on with it, and hand it
    to Slurm.
    """

    point: list[str]
    varying: list[str]
    folder: Path
    train: list[str]
    resume: list[str]
    sbatch: str

    @property
    def finished(self) -> bool:
        return (self.folder / "summary.json").is_file()

    @property
    def begun(self) -> bool:
        return (self.folder / "config.yaml").is_file()


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
    shown.add_argument("--print", dest="shown", choices=["mpirun", "sbatch"], help="print the commands, start nothing")
    shown.add_argument("--points", action="store_true", help="print the overrides of each run, start nothing")


def run(arguments: argparse.Namespace) -> int:
    """`allgrad sweep`: the exit code is that of the first run that fails, which ends the sweep."""
    if arguments.ranks is not None and arguments.ranks < 1:
        raise UsageError(f"-n must be 1 or more, got {arguments.ranks}")
    refuse_ranks("sweep")
    todo = list(_runs(arguments))
    if len({one.folder for one in todo}) < len(todo):
        raise UsageError(
            "two of the combinations are the same, or differ only in characters that no folder's name takes"
        )
    if arguments.points:
        print("\n".join(" ".join(one.point) for one in todo))
    elif arguments.shown:
        print("\n".join(shlex.join(one.train) if arguments.shown == "mpirun" else one.sbatch for one in todo))
    else:
        for number, one in enumerate(todo, 1):
            _train(one, f"{number} of {len(todo)}")
        print("\n" + table(todo))
    return 0


def _runs(arguments: argparse.Namespace) -> Iterator[Run]:
    """What there is to do, in order; every mistake is found here, before the first run.

    Raises:
        UsageError: a folder holds a run of another configuration: its results would stand for this one's.
    """
    from allgrad.train.config import resolve
    from allgrad.train.run.directory import config_differences

    common = arguments.to or Path("runs") / f"sweep-{Path(arguments.config).stem}"
    plugins = [part for plugin in arguments.plugin for part in ("--plugin", plugin)]
    several = [override for override in arguments.overrides if len(_values(override)) > 1]
    keys = {override.partition("=")[0] for override in several or arguments.overrides}
    for point in points(arguments.overrides):
        varying = [part for part in point if part.partition("=")[0] in keys]
        folder = common / name_of(varying)
        config = resolve(arguments.config, [*point, f"run.dir={folder}"], plugins=arguments.plugin)
        if (folder / "config.yaml").is_file() and (lines := config_differences(folder, config, arguments.plugin)):
            raise UsageError(
                f"{folder}: holds a run of another configuration:\n"
                + "\n".join(lines)
                + "\nGive another folder by --to."
            )
        allgrad = ["mpirun", "-n", str(arguments.ranks or here(config)), sys.executable, "-m", "allgrad"]
        train = [*allgrad, "train", arguments.config, *point, f"run.dir={folder}", *plugins]
        resume = [*allgrad, "resume", str(folder), *plugins]
        sbatch = ["sbatch", "launch/slurm.sbatch", arguments.config, *point, *plugins]
        yield Run(point, varying, folder, train, resume, f"RUN={shlex.quote(str(folder))} {shlex.join(sbatch)}")


def points(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Every combination of the values of `key=a,b,...`, the last key changing fastest.

    Raises:
        UsageError: an override without a key or without values.

    >>> list(points(["lr=1e-3,3e-4", "widths=[8,8],[16]"]))[1:3]
    [['lr=1e-3', 'widths=[16]'], ['lr=3e-4', 'widths=[8,8]']]
    """
    axes = []
    for override in overrides:
        key = override.partition("=")[0]
        axes.append([f"{key}={value}" for value in _values(override)])
    return (list(point) for point in itertools.product(*axes))


def _values(override: str) -> list[str]:
    """The values of `key=a,b,...`."""
    key, equals, values = override.partition("=")
    found = _VALUE.findall(values)
    if not (key and equals and found) or ",".join(found) != values:
        raise UsageError(f"{override!r}: expected key=value,value,... with every bracket and quote closed")
    return found


def name_of(point: Sequence[str]) -> str:
    """The folder of a run: its overrides, in characters that every file system takes.

    >>> name_of(["optimizer.lr=1e-3", "model.widths=[8,16]"])
    'optimizer.lr=1e-3,model.widths=_8_16_'
    """
    return ",".join(re.sub(r"[^\w.=+-]+", "_", part) for part in point)


def _train(one: Run, number: str) -> None:
    """One training to its end, unless it has come there.

    Raises:
        AllgradError: it failed, or stopped before its end.
    """
    if one.finished:
        print(f"{number}: {one.folder} is finished already", flush=True)
        return
    print(f"{number}: {' '.join(one.point)}", flush=True)
    command = one.resume if one.begun else one.train
    try:
        code = subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise AllgradError(
            "there is no mpirun on PATH: put the environment's bin folder there, or use --print"
        ) from None
    if code or not one.finished:
        raise AllgradError(
            f"the run in {one.folder} did not come to its end (exit code {code}): {shlex.join(command)}\n"
            "The same sweep goes on with it, and with those behind it, when it is called again."
        )


def table(runs: Sequence[Run]) -> str:
    """The values that vary, how long each run trained, and what they reached; one line each."""
    rows = []
    for one in runs:
        summary = json.loads((one.folder / "summary.json").read_text())
        values = dict(part.split("=", 1) for part in one.varying)
        found = {key: summary.get(key) for key in ("steps", "seconds", "train_loss")} | summary.get("eval", {})
        rows.append(values | {key: f"{v:.5g}" if isinstance(v, float) else str(v) for key, v in found.items()})
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)
