"""Writing checkpoints: a crash at any moment leaves each one whole or absent.

Contract.

- A checkpoint is written beside its final place (`.step-000120.partial`), every file and the directory are synced to the disk,
  then it is renamed, then the parent is synced. A crash at any moment, the machine's too, leaves it whole or absent.
- One process writes (rank 0).
- The `keep` newest stay, and the best one by the monitored metric. Removal renames first, so no reader meets a half. A
  checkpoint of a later step than the one just written (left from before a resume) is kept until it is written again. One
  that cannot be removed is a warning: the new one is safe on the disk.
- Asynchronous writing: `save` serialises into memory (one copy of the state: the bytes of the files; while it does so,
  a second copy of the larger file) and returns; a thread hashes, writes and syncs. At most one is under way: the next
  `save` waits for it. An error in the thread is raised by the next `save`, `check`, `wait` or `close`; the checkpoints
  on the disk are not touched by it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Self

from allgrad.train.atomic import sync_directory, write_synced
from allgrad.train.checkpoint.format import (
    MANIFEST,
    MODEL,
    STATE,
    TRAINING,
    CheckpointError,
    best_of,
    list_checkpoints,
    manifest_of,
    serialise,
    step_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["CheckpointWriter"]


class CheckpointWriter:
    """Writes checkpoints into a directory; one process at a time.

    Args:
        directory: `checkpoints/` of a run; created if it is missing.
        keep: how many of the newest stay.
        mode: whether a smaller or a larger metric is better.
        asynchronous: write in a thread.

    Raises:
        CheckpointError: the directory cannot be created or written to.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from allgrad.train.checkpoint.format import load_latest
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as run, CheckpointWriter(Path(run) / "checkpoints") as writer:
        ...     writer.save(120, model={"w": np.ones(2)}, training={}, state={"step": 120})
        ...     writer.wait()
        ...     found, refused = load_latest(Path(run) / "checkpoints")
        ...     found.step, found.model["w"].tolist(), refused
        (120, [1.0, 1.0], [])
    """

    def __init__(
        self, directory: Path, *, keep: int = 3, mode: Literal["min", "max"] = "min", asynchronous: bool = True
    ) -> None:
        if keep < 1:
            raise ValueError(f"The keep parameter of CheckpointWriter must be at least 1. Got {keep} instead.")
        self.directory = directory
        self._keep = keep
        self._mode: Literal["min", "max"] = mode
        self._thread = ThreadPoolExecutor(1, "allgrad-checkpoint") if asynchronous else None
        self._pending: Future[None] | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._clear_leftovers()
        except OSError as error:
            raise CheckpointError(f"Cannot write to {directory}: {error.strerror or error}.") from error

    def save(
        self,
        step: int,
        *,
        model: Mapping[str, NDArray[Any]],
        training: Mapping[str, NDArray[Any]],
        state: Mapping[str, Any],
        metric: float | None = None,
    ) -> None:
        """Write a checkpoint; arrays and state may be changed as soon as this returns.

        Raises:
            CheckpointError: the one before it, or (without a thread) this one, cannot be written.
            TypeError: an array's dtype or the state cannot be stored.
        """
        self.wait()
        files = {
            MODEL: serialise(model),
            TRAINING: serialise(training),
            STATE: json.dumps(state, indent=1).encode(),
        }
        if self._thread is None:
            self._write(step, files, metric)
        else:
            self._pending = self._thread.submit(self._write, step, files, metric)

    def check(self) -> None:
        """As `wait`, but only if that returns (or raises) at once."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Return once nothing is under way.

        Raises:
            CheckpointError: the one under way could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, and end the thread.

        Raises:
            CheckpointError: as `wait`.
        """
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, step: int, files: dict[str, bytes], metric: float | None) -> None:
        name = f"step-{step:06d}"
        beside = self.directory / f".{name}.partial"
        try:
            _remove(beside)
            beside.mkdir()
            for file, content in files.items():
                write_synced(beside / file, content)
            write_synced(beside / MANIFEST, manifest_of(step, files, metric))
            sync_directory(beside)
            self._put_in_place(beside, self.directory / name)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            left = next((path.name for path in list_checkpoints(self.directory)), "none")
            size = sum(map(len, files.values()))
            raise CheckpointError(
                f"Cannot write the checkpoint {self.directory / name} ({size} bytes): {error.strerror or error}. "
                f"The newest checkpoint there is {left}. Make room, or use another run.dir."
            ) from error
        self._prune(step)

    def _put_in_place(self, beside: Path, path: Path) -> None:
        """Rename; a checkpoint of the same step gives way, and can be found again if the machine stops in between."""
        replaced = self.directory / f".{path.name}.replaced"
        _remove(replaced)
        if path.exists() or path.is_symlink():
            path.rename(replaced)
        beside.rename(path)
        sync_directory(self.directory)
        with contextlib.suppress(OSError):  # it is cleared away at the next start
            _remove(replaced)

    def _prune(self, step: int) -> None:
        """Remove what is neither among the newest nor the best."""
        every = list_checkpoints(self.directory)
        written = [path for path in every if step_of(path) <= step]
        best = best_of(every, self._mode)
        for path in written[self._keep :]:
            if path == best:
                continue
            away = path.with_name(f".{path.name}.removed")
            try:
                _remove(away)
                path.rename(away)
                _remove(away)
            except OSError as error:
                warnings.warn(
                    f"Cannot remove the old checkpoint {path}: {error.strerror or error}. "
                    "The new one is saved; remove the old one by hand.",
                    RuntimeWarning,
                    stacklevel=2,
                )

    def _clear_leftovers(self) -> None:
        """What a killed writer left: halves are removed, a checkpoint that had given way comes back."""
        for path in self.directory.glob(".step-*"):
            original = self.directory / path.stem[1:]
            if path.suffix == ".replaced" and not original.exists():
                path.rename(original)
            elif path.suffix in (".partial", ".removed", ".replaced"):
                _remove(path)


def _remove(path: Path) -> None:
    """Remove a directory tree, a file, or a symbolic link (never what it points to), if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
