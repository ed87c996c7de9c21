"""A run's directory: created by rank 0, once, owned by one job at a time, and never over another run.

config.yaml      the resolved configuration, under a line with its digest (config/seal.py)
provenance.json  versions, machine, plugins and digest of the data (provenance.py)
metrics.jsonl    one line per report (loggers/jsonl.py)
checkpoints/     see checkpoint/format.py
summary.json     once the run is complete
failure.txt      the first cause, if it failed
logs/            of launchers, which may be there before the run
.lock            held by the process that writes here, with a lock of the kernel's that a dead process does not keep
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.errors import UsageError
from allgrad.train.atomic import write_atomic
from allgrad.train.config import ConfigError, changed_keys, dump_yaml, resolve
from allgrad.train.config.seal import sealed
from allgrad.train.run.agreement import on_rank_0

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allgrad.comm import World
    from allgrad.train.config.schema import RunConfig

__all__ = [
    "RunCompleteError",
    "RunDirectoryError",
    "config_differences",
    "create_run_directory",
    "failure_writer",
    "lock_run",
    "open_run_directory",
    "owner_of",
    "prepare_resume",
    "recorded_plugins",
    "unlock_run",
]

_LOCK = ".lock"
_held: dict[Path, int] = {}  # the run directories that this process owns, and the open lock file of each


class RunDirectoryError(UsageError):
    """A run's directory cannot be created or used."""


class RunCompleteError(RunDirectoryError):
    """A run has nothing left to do."""


def create_run_directory(config: RunConfig, world: World, name: str, *, plugins: Sequence[str | Path] = ()) -> Path:
    """Create the directory of a new run and write `config.yaml` into it; every rank gets its path.

    Args:
        config: its `run` section says where.
        world: the ranks; rank 0 does the work.
        name: for the directory, if the configuration names neither directory nor run.
        plugins: what is needed to read the configuration of a run that is already there.

    Raises:
        CollectiveError: on every rank, if the directory holds something already, is in use by another job, or cannot be
            created. Nothing is overwritten.
    """

    def create() -> str:
        label = config.run.name or name
        path = Path(config.run.dir or f"runs/{label}-{time.strftime('%Y%m%d-%H%M%S')}")
        try:
            if config.run.dir is None:
                path = _create_unused(path)
            elif _occupied(path):
                raise RunDirectoryError(_describe_occupant(path, config, plugins))
            else:
                path.mkdir(parents=True, exist_ok=True)
            lock_run(path)
            write_atomic(path / "config.yaml", sealed(dump_yaml(config)).encode())
        except OSError as error:
            raise RunDirectoryError(f"Cannot write to {path}: {error.strerror}. Use another run.dir.") from error
        return str(path)

    return Path(on_rank_0(world, create))


def open_run_directory(path: str | Path) -> Path:
    """The directory of an existing run.

    Raises:
        RunDirectoryError: it is not one.
    """
    directory = Path(path)
    if not directory.is_dir():
        if directory.exists():
            raise RunDirectoryError(f"{directory} is a file, not the directory of a run.")
        raise RunDirectoryError(f"There is no directory {directory}.")
    if not (directory / "config.yaml").is_file():
        raise RunDirectoryError(f"{directory} is not a run's directory: it has no config.yaml.")
    return directory


def prepare_resume(directory: Path, config: RunConfig, *, from_the_start: bool) -> None:
    """Take ownership of a run's directory, store the configuration, and remove what reported an earlier end.

    Args:
        directory: the run's.
        config: what the run continues with.
        from_the_start: there is no checkpoint, so nothing that was reported is kept.

    Raises:
        RunDirectoryError: another job owns it, or it cannot be written to.
    """
    outdated = ["summary.json", "failure.txt", *(["metrics.jsonl"] if from_the_start else [])]
    lock_run(directory)
    try:
        write_atomic(directory / "config.yaml", sealed(dump_yaml(config)).encode())
        for name in outdated:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"Cannot write to {directory}: {error.strerror}.") from error


def lock_run(directory: Path) -> None:
    """Make this process the only one that writes to a run's directory, until `unlock_run` or its end.

    Raises:
        RunDirectoryError: another process owns it.
    """
    key = directory.resolve()
    if key in _held:
        return
    # The file stays open on purpose: the kernel frees the lock when this process ends, however it ends.
    try:
        file = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise RunDirectoryError(f"Cannot write to {directory}: {error.strerror}.") from error
    try:
        _lock_exclusively(file)
    except BlockingIOError as error:
        owner = os.read(file, 200).decode(errors="replace").strip() or "another process"
        os.close(file)
        raise RunDirectoryError(
            f"{directory} is in use by {owner}. Wait until that job has ended, stop it, or use another run.dir."
        ) from error
    except OSError:
        os.close(file)  # a file system without locks; nothing better is available there
        return
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {platform.node()}\n".encode())
    _held[key] = file


def _lock_exclusively(file: int) -> None:
    """Take the lock. Somebody who only looks whether it is free (`owner_of`) has it for an instant, which is waited for."""
    for _ in range(5):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.01)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock_run(directory: Path) -> None:
    """Give up the ownership of a run's directory, if this process has it."""
    file = _held.pop(directory.resolve(), None)
    if file is not None:
        os.close(file)


def owner_of(directory: Path) -> str:
    """The process that owns a run's directory, in words; "" if none does, or the file system has no locks."""
    try:
        file = os.open(directory / _LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(file, 200).decode(errors="replace").strip() or "another process"
    except OSError:
        pass
    finally:
        os.close(file)  # which also gives the lock back
    return ""


def failure_writer(directory: Path) -> Callable[[str], None]:
    """A function that writes the first cause of a failure into the directory; for `World.on_failure`."""

    def write(text: str) -> None:
        # A full disk may be the very cause, which the screen shows in any case.
        with contextlib.suppress(OSError):
            (directory / "failure.txt").write_text(text, encoding="utf-8")

    return write


def config_differences(directory: Path, config: RunConfig, plugins: Sequence[str | Path] = ()) -> list[str]:
    """A line for each key that the run in a directory has configured otherwise; its directory's own name is left out.

    Raises:
        ConfigError: its stored configuration cannot be read.
    """
    changed = changed_keys(resolve(directory / "config.yaml", plugins=plugins), config)
    return [f"  {key}: {old} there, {new} here" for key, (old, new) in changed.items() if key != "run.dir"]


def recorded_plugins(directory: Path) -> dict[str, str]:
    """The plugins that a run was made with: name -> digest. Empty if none are on record."""
    try:
        found = json.loads((directory / "provenance.json").read_text())["plugins"]
        return {str(name): str(digest) for name, digest in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _occupied(path: Path) -> bool:
    return path.exists() and (not path.is_dir() or any(entry.name not in ("logs", _LOCK) for entry in path.iterdir()))


def _describe_occupant(path: Path, config: RunConfig, plugins: Sequence[str | Path]) -> str:
    """Why a directory is not written to: what it holds, and what to do."""
    if not (path / "config.yaml").is_file():
        return f"{path} already exists and is not a run's directory. Use another run.dir."
    try:
        changed = config_differences(path, config, plugins)
    except ConfigError:
        changed = []
    what = "a run with another configuration:\n" + "\n".join(changed) if changed else "this run."
    return f"{path} already holds {what}\nContinue it with `allgrad resume {path}`, or use another run.dir."


def _create_unused(path: Path) -> Path:
    """Create a directory that does not exist: runs that start in the same second, on any machine, get a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, unused = 1, path
    while True:
        try:
            unused.mkdir()
        except FileExistsError:
            number += 1
            unused = path.with_name(f"{path.name}-{number}")
        else:
            return unused
