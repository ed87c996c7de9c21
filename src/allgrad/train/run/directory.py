"""A run's folder: made by rank 0 alone, once, and never over another run.

config.yaml     the resolved configuration
metrics.jsonl   one line an entry (metrics.py)
checkpoints/    checkpoint.py
summary.json    when the run has ended
failure.txt     the first cause, when it has failed
logs/           of launchers, which may be there before the run
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.train.atomic import write_atomic
from allgrad.train.config import changed_keys, dump_yaml, resolve
from allgrad.train.config.errors import ConfigError
from allgrad.train.run.agreement import SharedError, on_rank_0

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allgrad.comm import World
    from allgrad.train.config.schema import RunConfig

__all__ = ["RunFolderError", "begin_again", "differences", "new_folder", "open_folder", "write_failure"]


class RunFolderError(SharedError):
    """A run's folder that cannot be made or used."""


def new_folder(config: RunConfig, world: World, name: str, *, plugins: Sequence[str | Path] = ()) -> Path:
    """Make the folder of a new run and write `config.yaml` into it; all ranks get its path.

    Args:
        name: for the folder, where the configuration names neither folder nor run.
        plugins: what is needed to read the configuration of a run that is there already.

    Raises:
        SharedError: on every rank, when it holds something already or cannot be made; nothing is overwritten.
    """

    def make() -> str:
        label = config.run.name or name
        path = Path(config.run.dir or f"runs/{label}-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            if config.run.dir is None:
                path = _make_free(path)
            elif _taken(path):
                raise RunFolderError(_whose(path, config, plugins))
            else:
                path.mkdir(parents=True, exist_ok=True)
            write_atomic(path / "config.yaml", dump_yaml(config).encode())
        except OSError as error:
            raise RunFolderError(f"{path}: cannot be written to: {error.strerror}. Give another run.dir.") from error
        return str(path)

    return Path(on_rank_0(world, make))


def open_folder(path: str | Path) -> Path:
    """The folder of a run that exists.

    Raises:
        RunFolderError: when it is none.
    """
    folder = Path(path)
    if not (folder / "config.yaml").is_file():
        raise RunFolderError(f"{folder}: is not the folder of a run: it has no config.yaml.")
    return folder


def begin_again(folder: Path, config: RunConfig, *, from_the_start: bool) -> None:
    """Make a folder ready for a run that goes on: its configuration is written anew, what told of an end is removed.

    Args:
        from_the_start: it goes on from no checkpoint, so that nothing it reported is kept.

    Raises:
        RunFolderError: when it cannot be written to.
    """
    outdated = ["summary.json", "failure.txt", *(["metrics.jsonl"] if from_the_start else [])]
    try:
        write_atomic(folder / "config.yaml", dump_yaml(config).encode())
        for name in outdated:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written to: {error.strerror}.") from error


def write_failure(folder: Path) -> Callable[[str], None]:
    """What writes the first cause of a failure into the folder; for `World.on_failure`."""

    def write(text: str) -> None:
        # A full disk may be that cause, which is told on the screen in any case.
        with contextlib.suppress(OSError):
            (folder / "failure.txt").write_text(text, encoding="utf-8")

    return write


def differences(folder: Path, config: RunConfig, plugins: Sequence[str | Path] = ()) -> list[str]:
    """Where the run in a folder was configured otherwise, in words, beside the folder's own name.

    Raises:
        ConfigError: what it was configured by cannot be read.
    """
    changed = changed_keys(resolve(folder / "config.yaml", plugins=plugins), config)
    return [f"  {key}: {old} there, {new} here" for key, (old, new) in changed.items() if key != "run.dir"]


def _taken(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(entry.name != "logs" for entry in path.iterdir()))


def _whose(path: Path, config: RunConfig, plugins: Sequence[str | Path]) -> str:
    """Why a folder is not written to: which run it belongs to, if it is one's."""
    if not (path / "config.yaml").is_file():
        return f"{path}: is there already, is not a run's folder, and is not overwritten. Give another run.dir."
    try:
        changed = differences(path, config, plugins)
    except ConfigError:
        changed = []
    whose = "holds a run of another configuration:\n" + "\n".join(changed) if changed else "holds this run already."
    return f"{path}: {whose}\nIt is not overwritten. Go on with it by `allgrad resume {path}`, or give another run.dir."


def _make_free(path: Path) -> Path:
    """Make a folder that is not there: runs that start in the same second, on any machine, get a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, free = 1, path
    while True:
        try:
            free.mkdir()
        except FileExistsError:
            number += 1
            free = path.with_name(f"{path.name}-{number}")
        else:
            return free
