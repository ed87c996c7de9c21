"""A run's folder: made by rank 0 alone, once, and never over another run.

config.yaml     the resolved configuration
metrics.jsonl   one line an entry (metrics.py)
checkpoints/    checkpoint.py
summary.json    when the run has ended
failure.txt     the first cause, when it has failed
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.train.config import dump_yaml
from allgrad.train.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    from allgrad.comm import World
    from allgrad.train.schema import RunConfig

__all__ = ["RunFolderError", "new_folder", "on_rank_0", "open_folder", "write_failure"]


class RunFolderError(RuntimeError):
    """A run's folder that cannot be made or used."""

    exit_code = 2  # what the command line ends with


def new_folder(config: RunConfig, world: World, name: str) -> Path:
    """Make the folder of a new run and write `config.yaml` into it; all ranks get its path.

    Raises:
        RunFolderError: on every rank, when it holds something already or cannot be made; nothing is overwritten.
    """

    def make() -> str:
        label = config.run.name or name
        path = Path(config.run.dir or f"runs/{label}-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            if config.run.dir is None:
                path = _free(path)
            elif path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise RunFolderError(
                    f"{path}: is there already, and is not overwritten. Continue it with `allgrad resume {path}`, "
                    "or give another run.dir."
                )
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


def write_failure(folder: Path) -> Callable[[str], None]:
    """What writes the first cause of a failure into the folder; for `World.on_failure`."""

    def write(text: str) -> None:
        (folder / "failure.txt").write_text(text, encoding="utf-8")

    return write


def on_rank_0(world: World, function: Callable[[], str]) -> str:
    """`function()` of rank 0, on every rank; a `RunFolderError` there is raised everywhere."""
    outcome: list[str | None] = [None, None]
    if world.rank == 0:
        try:
            outcome[0] = function()
        except RunFolderError as error:
            outcome[1] = str(error)
    result, problem = world.broadcast_json(outcome)
    if problem is not None:
        raise RunFolderError(problem)
    return str(result)


def _free(path: Path) -> Path:
    """A path that is not taken: runs that start in the same second get a number."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
