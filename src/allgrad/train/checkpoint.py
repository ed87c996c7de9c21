"""Checkpoints: everything that the next step depends on, on disk, whole or not at all.

Contract.

- A checkpoint is a folder `checkpoints/step-000120/` with `model.safetensors` (the weights and buffers, under
  PyTorch's names), `optimizer.safetensors` (moments, averages), `state.json` (step, position in the data, bucket
  order, ...) and `manifest.json`, which has the length and SHA-256 of each and of itself. Nothing in it depends on the
  number of ranks.
- It is written beside (`.step-000120.partial`), every file and the folder synced to the disk, then renamed, then the
  parent synced. A crash at any moment, the machine's too, leaves it whole or absent.
- It is read as bytes, the bytes are compared with the manifest, and those very bytes are parsed. One that was cut at
  any byte, or has one bit flipped, or lacks a file, is refused by name; `load_latest` then takes the one before it.
- One process writes (rank 0); any number may read meanwhile, and see whole checkpoints only.
- `keep` newest stay, and the best one by the monitored metric. Removal renames first, so that no reader meets a half.
  What lies ahead of the step just written (left from before a resume) is left alone until it is written again.
- Asynchronous writing: `save` serialises into memory (one copy of the state: the bytes of the files; while it does so,
  a second copy of the larger file) and returns; a thread hashes, writes and syncs. At most one is under way: the next
  `save` waits for it. An error in the thread is raised by the next `save`, `check`, `wait` or `close`; the checkpoints
  on the disk are not touched by it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from allgrad.train.files import sync_folder, write_synced

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "CheckpointWriter",
    "DamagedCheckpointError",
    "list_checkpoints",
    "load_best",
    "load_latest",
    "read_checkpoint",
    "weights_sha256",
]

FORMAT = 1
_NAME = re.compile(r"step-(\d{6,})")
_MODEL, _OPTIMIZER, _STATE, _MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message names it and says what is left."""

    exit_code = 1  # what the command line ends with


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose content is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read; arrays may be read-only.

    Attributes:
        step: after how many steps it was written.
        path: its folder.
        model, optimizer: arrays by name.
        state: JSON.
        metric: the monitored metric, or None.
    """

    step: int
    path: Path
    model: dict[str, NDArray[Any]]
    optimizer: dict[str, NDArray[Any]]
    state: dict[str, Any]
    metric: float | None


def weights_sha256(weights: Mapping[str, NDArray[Any]]) -> str:
    """The digest of a set of named arrays: equal if and only if names, dtypes, shapes and bits are.

    SHA-256 over the arrays in the order of their names (by code point); of each, first the line `["name", "dtype",
    [shape]]` as compact JSON in ASCII with a newline, then its entries in C order, little-endian.

    Example:
        >>> weights = {"w": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
        >>> weights_sha256(weights) == weights_sha256(dict(reversed(weights.items())))
        True
        >>> weights_sha256({"w": np.zeros(1)}) == weights_sha256({"w": np.zeros(1, np.float32)})
        False
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = _little_endian(weights[name])
        header = json.dumps([name, array.dtype.name, list(array.shape)], separators=(",", ":"))
        digest.update(header.encode() + b"\n")
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def list_checkpoints(folder: Path) -> list[Path]:
    """The folders in `checkpoints/` that are called like one, newest first; whether they are whole is not looked at."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=_step_of, reverse=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        DamagedCheckpointError: when anything in it is not what was written.
        CheckpointError: when there is none, or it cannot be read for want of rights.
    """
    from safetensors.numpy import load

    manifest = _read_manifest(path)
    content = {name: _verified(path / name, entry) for name, entry in manifest["files"].items()}
    return Checkpoint(
        step=manifest["step"],
        path=path,
        model=load(content[_MODEL]),
        optimizer=load(content[_OPTIMIZER]),
        state=json.loads(content[_STATE]),
        metric=manifest["metric"],
    )


def load_latest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint in `checkpoints/`, and why newer ones were refused.

    Returns:
        The checkpoint, or None when there is not a single one; and a message for each that was refused.

    Raises:
        CheckpointError: when there are checkpoints, but none is whole; it names each.
    """
    refused: list[str] = []
    for path in list_checkpoints(folder):
        try:
            return read_checkpoint(path), refused
        except CheckpointError as error:
            if not path.exists():  # removed by its writer between listing and reading
                continue
            refused.append(str(error))
    if refused:
        raise CheckpointError(f"{folder}: no whole checkpoint is left:\n" + "\n".join(refused))
    return None, []


def load_best(folder: Path, mode: Literal["min", "max"]) -> Checkpoint | None:
    """The checkpoint with the best metric; None when none has one.

    Raises:
        DamagedCheckpointError: when that checkpoint is damaged.
    """
    path = _best(list_checkpoints(folder), mode)
    return None if path is None else read_checkpoint(path)


class CheckpointWriter:
    """Writes checkpoints into a folder; one process at a time.

    Args:
        folder: `checkpoints/` of a run; made when it is missing.
        keep: how many of the newest stay.
        mode: whether a smaller or a larger metric is better.
        asynchronous: write in a thread.

    Raises:
        CheckpointError: when the folder cannot be made or written to.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as run, CheckpointWriter(Path(run) / "checkpoints") as writer:
        ...     writer.save(120, model={"w": np.ones(2)}, optimizer={}, state={"step": 120})
        ...     writer.wait()
        ...     found, refused = load_latest(Path(run) / "checkpoints")
        ...     found.step, found.model["w"].tolist(), refused
        (120, [1.0, 1.0], [])
    """

    def __init__(
        self, folder: Path, *, keep: int = 3, mode: Literal["min", "max"] = "min", asynchronous: bool = True
    ) -> None:
        if keep < 1:
            raise ValueError(f"checkpoints: keep must be at least 1. Got {keep} instead.")
        self.folder = folder
        self._keep = keep
        self._mode: Literal["min", "max"] = mode
        self._thread = ThreadPoolExecutor(1, "allgrad-checkpoint") if asynchronous else None
        self._pending: Future[None] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._clear_leftovers()
        except OSError as error:
            raise CheckpointError(f"{folder}: cannot be written to: {error.strerror}.") from error

    def save(
        self,
        step: int,
        *,
        model: Mapping[str, NDArray[Any]],
        optimizer: Mapping[str, NDArray[Any]],
        state: Mapping[str, Any],
        metric: float | None = None,
    ) -> None:
        """Write a checkpoint; arrays and state may be changed as soon as this returns.

        Raises:
            CheckpointError: when the one before it, or (without a thread) this one, cannot be written.
            TypeError: when an array's dtype or the state cannot be stored.
        """
        self.wait()
        files = {
            _MODEL: _serialise(model),
            _OPTIMIZER: _serialise(optimizer),
            _STATE: json.dumps(state, indent=1).encode(),
        }
        if self._thread is None:
            self._write(step, files, metric)
        else:
            self._pending = self._thread.submit(self._write, step, files, metric)

    def check(self) -> None:
        """As `wait`, but only where that returns (or raises) at once."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Return when nothing is under way.

        Raises:
            CheckpointError: when the one under way could not be written.
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
        beside = self.folder / f".{name}.partial"
        try:
            beside.mkdir()
            for file, content in files.items():
                write_synced(beside / file, content)
            write_synced(beside / _MANIFEST, _manifest(step, files, metric))
            sync_folder(beside)
            self._put_in_place(beside, self.folder / name)
            self._prune(step)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            left = next((path.name for path in list_checkpoints(self.folder)), "none")
            size = sum(map(len, files.values()))
            raise CheckpointError(
                f"{self.folder / name}: cannot be written ({size} bytes): {error.strerror}. "
                f"The newest checkpoint there is {left}. Make room, or give another run.dir."
            ) from error

    def _put_in_place(self, beside: Path, path: Path) -> None:
        """Rename; a checkpoint of the same step gives way, and can be found again if the machine stops in between."""
        replaced = self.folder / f".{path.name}.replaced"
        if path.exists():
            path.rename(replaced)
        beside.rename(path)
        sync_folder(self.folder)
        shutil.rmtree(replaced, ignore_errors=True)

    def _prune(self, step: int) -> None:
        """Remove what is neither among the newest nor the best."""
        every = list_checkpoints(self.folder)
        written = [path for path in every if _step_of(path) <= step]
        best = _best(every, self._mode)
        for path in written[self._keep :]:
            if path != best:
                away = path.with_name(f".{path.name}.removed")
                path.rename(away)
                shutil.rmtree(away)

    def _clear_leftovers(self) -> None:
        """What a writer left that was killed: halves are removed, a checkpoint that had given way comes back."""
        for path in self.folder.glob(".step-*"):
            original = self.folder / path.stem[1:]
            if path.suffix == ".replaced" and not original.exists():
                path.rename(original)
            elif path.suffix in (".partial", ".removed", ".replaced"):
                shutil.rmtree(path)


def _serialise(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    # safetensors reads an array's memory as it lies there: strided and big-endian ones must be laid out first.
    return save({name: _little_endian(array) for name, array in arrays.items()})


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    """The array in C order and little-endian: itself where it is, without adding an axis to a 0-d one."""
    if array.dtype.kind not in "biufc":
        raise TypeError(f"checkpoint: arrays must hold numbers. Got {array.dtype} instead.")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _manifest(step: int, files: Mapping[str, bytes], metric: float | None) -> bytes:
    entries = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    known = metric is not None and math.isfinite(metric)
    return _sealed({"files": entries, "format": FORMAT, "metric": metric if known else None, "step": step})


def _sealed(body: Mapping[str, Any]) -> bytes:
    """The manifest's bytes: one way to write it, with its own digest, so that any change shows."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({"manifest": body, "sha256": digest}, indent=1, sort_keys=True).encode()


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint.")
    raw = _read(path / _MANIFEST)
    try:
        body: dict[str, Any] = json.loads(raw)["manifest"]
        whole = _sealed(body) == raw
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise DamagedCheckpointError(f"{path}: damaged: {_MANIFEST} is not what was written.")
    if body["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {body['format']}; this allgrad reads format {FORMAT}.")
    if body["step"] != _step_of(path) or set(body["files"]) != {_MODEL, _OPTIMIZER, _STATE}:
        raise DamagedCheckpointError(f"{path}: damaged: its manifest is that of step {body['step']}.")
    return body


def _verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    content = _read(path)
    if len(content) != entry["bytes"]:
        raise DamagedCheckpointError(
            f"{path.parent}: damaged: {path.name} has {len(content)} bytes, {entry['bytes']} were written."
        )
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DamagedCheckpointError(f"{path.parent}: damaged: {path.name} has another SHA-256 than was written.")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{path.parent}: damaged: {path.name} is missing.") from error
    except OSError as error:
        raise CheckpointError(f"{path.parent}: {path.name} cannot be read: {error.strerror}.") from error


def _best(paths: list[Path], mode: Literal["min", "max"]) -> Path | None:
    """Of the checkpoints with a metric the best one, of equals the earliest."""
    scored: list[tuple[float, int, Path]] = []
    for path in paths:
        with contextlib.suppress(CheckpointError):
            metric = _read_manifest(path)["metric"]
            if metric is not None:
                scored.append((metric if mode == "min" else -metric, _step_of(path), path))
    return min(scored)[2] if scored else None


def _step_of(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path}: a checkpoint's folder is called like step-000120.")
    return int(match.group(1))
