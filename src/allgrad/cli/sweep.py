"""Run one configuration at every combination of values: `allgrad sweep CONFIG optimizer.lr=1e-3,3e-4 seed=1,2`.

Values are separated by commas; a value that contains commas is written in brackets, braces or quotes. The runs are started one
after another, each in a directory named after what varies. A finished run is skipped and a stopped one resumed, so the same
command continues a sweep that was stopped. A table of the results comes last. With --print, the commands are printed instead,
for mpirun here or for Slurm; with --points, only the overrides, one line per run, as launch/slurm.sbatch reads them (SWEEP=FILE).
With --submit slurm, all runs are submitted as one array job, each on one node; the same command prints the table when all are
finished.
"""

from __future__ import annotations

import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allgrad.cli.arguments import add_plugins, add_ranks, plugin_words, rank_count
from allgrad.cli.job import run_job
from allgrad.cli.mpirun import job_command
from allgrad.cli.ranks import fitting_here
from allgrad.cli.submit import CLUSTERS, parameters, submit
from allgrad.errors import AllgradError, UsageError
from allgrad.train.loggers.summary import read_summary

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

__all__ = ["configure", "points", "run", "table"]


@dataclass(frozen=True)
class Run:
    """One combination.

    Attributes:
        point: its overrides.
        varying: those of them that differ between the runs.
        directory: where it is written.
        ranks: how many ranks it gets.
        train, resume: arguments of `allgrad` that start and continue it.
        sbatch: the line that hands it to Slurm.
    """

    point: list[str]
    varying: list[str]
    directory: Path
    ranks: int
    train: list[str]
    resume: list[str]
    sbatch: str

    @property
    def finished(self) -> bool:
        return (self.directory / "summary.json").is_file()

    @property
    def started(self) -> bool:
        return (self.directory / "config.yaml").is_file()


# One value: bracketed or quoted parts whole, everything else up to the next comma.
_VALUE = re.compile(r"""(?:\[[^\]]*\]|\{[^}]*\}|"[^"]*"|'[^']*'|[^,\[{"'])+""")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad sweep`."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or package:NAME")
    parser.add_argument("overrides", metavar="key=value,...", nargs="+", help="changes to it, in all combinations")
    add_ranks(parser)
    add_plugins(parser)
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="the runs' parent directory (default: runs/sweep-CONFIG)"
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--print", dest="shown", choices=["mpirun", "sbatch"], help="print the commands, start nothing")
    shown.add_argument("--points", action="store_true", help="print the overrides of each run, start nothing")
    text = "submit the runs as an array job through submitit; local: all at once on this machine, to try it"
    shown.add_argument("--submit", choices=CLUSTERS, help=text)
    text = "a parameter of that job in submitit's words, such as slurm_partition=main, timeout_min=60, mem_gb=8; repeatable"
    parser.add_argument("--job", action="append", default=[], metavar="KEY=VALUE", help=text)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad sweep`: the first run that fails ends the sweep."""
    if arguments.submit and arguments.ranks in (None, "auto"):
        raise UsageError("--submit needs -n RANKS: the machines of the cluster are not this one.")
    if arguments.job and not arguments.submit:
        raise UsageError("--job is for --submit.")
    settings = parameters(arguments.job)
    todo = list(_runs(arguments))
    if len({one.directory for one in todo}) < len(todo):
        raise UsageError(
            "Two of the combinations are equal, or differ only in characters that no directory's name may have."
        )
    if arguments.points:
        print("\n".join(shlex.join(one.point) for one in todo))
    elif arguments.shown == "mpirun":
        print("\n".join(shlex.join(job_command(one.ranks, "allgrad", *one.train)) for one in todo))
    elif arguments.shown == "sbatch":
        print("\n".join(one.sbatch for one in todo))
    elif arguments.submit:
        _submit(todo, arguments.submit, settings)
    else:
        for number, one in enumerate(todo, 1):
            _train(one, f"{number} of {len(todo)}")
        print("\n" + table(todo))
    return 0


def _runs(arguments: argparse.Namespace) -> Iterator[Run]:
    """What there is to do, in order; every mistake is found here, before the first run.

    Raises:
        UsageError: a directory holds a run with another configuration, whose results would be taken for this one's.
    """
    from allgrad.train.config import default_name, resolve
    from allgrad.train.run.directory import config_differences

    parent = arguments.to or Path("runs") / f"sweep-{default_name(arguments.config)}"
    plugins = plugin_words(arguments.plugin)
    asked = None if arguments.ranks is None else rank_count(arguments.ranks)
    several = [override for override in arguments.overrides if len(_values(override)) > 1]
    keys = {override.partition("=")[0] for override in several or arguments.overrides}
    for point in points(arguments.overrides):
        varying = [part for part in point if part.partition("=")[0] in keys]
        directory = parent / name_of(varying)
        config = resolve(arguments.config, [*point, f"run.dir={directory}"], plugins=arguments.plugin)
        lines = config_differences(directory, config, arguments.plugin) if (directory / "config.yaml").is_file() else []
        if lines:
            raise UsageError(
                f"{directory} already holds a run with another configuration:\n"
                + "\n".join(lines)
                + "\nUse another directory (--to)."
            )
        ranks = asked or fitting_here(config)
        train = ["train", arguments.config, *point, f"run.dir={directory}", *plugins]
        sbatch = ["sbatch", f"--ntasks={ranks}", "launch/slurm.sbatch", arguments.config, *point, *plugins]
        yield Run(
            point, varying, directory, ranks, train, ["resume", str(directory), *plugins],
            f"RUN={shlex.quote(str(directory))} {shlex.join(sbatch)}",
        )  # fmt: skip


def points(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Every combination of the values of `key=a,b,...`, the last key changing fastest.

    Raises:
        UsageError: an override has no key or no values.

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
        raise UsageError(f"{override!r}: expected key=value,value,... with every bracket and quote closed.")
    return found


def name_of(point: Sequence[str]) -> str:
    """The name of a run's directory: its overrides, in characters that every file system takes.

    >>> name_of(["optimizer.lr=1e-3", "model.widths=[8,16]"])
    'optimizer.lr=1e-3,model.widths=_8_16_'
    """
    return ",".join(re.sub(r"[^\w.=+-]+", "_", part) for part in point)


def _train(one: Run, number: str) -> None:
    """Train one run to its end, unless it is finished.

    Raises:
        AllgradError: it failed, or stopped before its end.
    """
    if one.finished:
        print(f"{number}: {one.directory} is already finished", flush=True)
        return
    print(f"{number}: {' '.join(one.point)}", flush=True)
    code = run_job(one.ranks, *(one.resume if one.started else one.train))
    if code or not one.finished:
        raise AllgradError(
            f"The run in {one.directory} did not finish (exit code {code}). Call the same sweep again to continue with it and "
            "those that follow."
        )


def _submit(todo: Sequence[Run], cluster: str, settings: dict[str, Any]) -> None:
    """Submit the runs that are not finished; the table, if all are."""
    unfinished = [one for one in todo if not one.finished]
    if not unfinished:
        print(table(todo))
        return
    words = [[*one.train, "-n", str(one.ranks), "--continue"] for one in unfinished]
    runs = [(one.directory, one.ranks, given) for one, given in zip(unfinished, words, strict=True)]
    submit(runs, todo[0].directory.parent / "jobs", cluster, settings)


def table(runs: Sequence[Run]) -> str:
    """The values that vary, how long each run trained, and what it reached; one line per run."""
    rows = []
    for one in runs:
        summary = read_summary(one.directory / "summary.json")
        values = dict(part.split("=", 1) for part in one.varying)
        found = {key: summary.get(key) for key in ("steps", "seconds", "train_loss")} | summary.get("eval", {})
        rows.append(values | {key: f"{v:.5g}" if isinstance(v, float) else str(v) for key, v in found.items()})
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)
