"""Checkpoints: what one is, and how it is read: whole or not at all.

Contract.

- A checkpoint is a directory `checkpoints/step-000120/` with `model.safetensors` (weights and buffers, under PyTorch's
  names), `training.safetensors` (every other array: moments, averages), `state.json` (everything that is JSON) and
  `manifest.json`, which has the length and SHA-256 of each and of itself. Nothing in it depends on the number of ranks.
  What these hold is described in state.py; how one gets onto the disk, in writer.py.
- It is read as bytes, the bytes are compared with the manifest, and those very bytes are parsed. A checkpoint that was cut at
  any byte, has one bit flipped, or lacks a file, is refused by name; `load_latest` then takes the one before it.
- One process writes; any number may read meanwhile, and see whole checkpoints only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.errors import AllgradError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "DamagedCheckpointError",
    "best_of",
    "list_checkpoints",
    "load_best",
    "load_latest",
    "load_newest",
    "manifest_of",
    "read_checkpoint",
    "serialise",
    "step_of",
    "weights_sha256",
]

FORMAT = 2
_NAME = re.compile(r"step-(\d{6,})")
_LOOKS = 100  # at a directory whose only checkpoint is being replaced: a rename apart
_PAUSE = 0.02  # seconds between them
MODEL, TRAINING, STATE, MANIFEST = "model.safetensors", "training.safetensors", "state.json", "manifest.json"


class CheckpointError(AllgradError, RuntimeError):
    """A checkpoint cannot be written or read; the message names it and says what is left."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's content is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read; arrays may be read-only.

    Attributes:
        step: the number of steps done when it was written.
        path: its directory.
        model: weights and buffers by PyTorch's names.
        training: the other arrays, by the names that `state` refers to.
        state: JSON (state.py).
        metric: the monitored metric, or None.
    """

    step: int
    path: Path
    model: dict[str, NDArray[Any]]
    training: dict[str, NDArray[Any]]
    state: dict[str, Any]
    metric: float | None


def weights_sha256(weights: Mapping[str, NDArray[Any]]) -> str:
    """The digest of a set of named arrays: equal if and only if names, dtypes, shapes and bits are.

    SHA-256 over the arrays in the order of their names (by code point): for each, first the line `["name", "dtype",
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


def list_checkpoints(directory: Path) -> list[Path]:
    """The directories in `checkpoints/` that are named like a checkpoint, newest first; they are not opened."""
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        DamagedCheckpointError: anything in it is not what was written.
        CheckpointError: if there is no checkpoint, or no permission to read it.
    """
    from safetensors.numpy import load

    manifest = _read_manifest(path)
    content = {name: _verified(path / name, entry) for name, entry in manifest["files"].items()}
    return Checkpoint(
        step=manifest["step"],
        path=path,
        model=load(content[MODEL]),
        training=load(content[TRAINING]),
        state=json.loads(content[STATE]),
        metric=manifest["metric"],
    )


def load_latest(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint in `checkpoints/`, and why newer ones were refused.

    Returns:
        The checkpoint, or None if there is none at all; and a message for each one that was refused.

    Raises:
        CheckpointError: there are checkpoints, but none is whole; it names each.
    """
    for _ in range(_LOOKS):
        refused: list[str] = []
        for path in list_checkpoints(directory):
            with _open(path) as held:
                try:
                    return read_checkpoint(path), refused
                except CheckpointError as error:
                    if held is None or not _leads_to(path, held):
                        break  # its writer replaced or removed it meanwhile: look again
                    refused.append(str(error))
        else:
            if refused:
                raise CheckpointError(f"{directory}: no whole checkpoint is left:\n" + "\n".join(refused))
            # One was being replaced, or is right now. One listing shows the old or the new one under some name.
            names = os.listdir(directory) if directory.is_dir() else []
            if not any(_NAME.fullmatch(name) or name.endswith(".replaced") for name in names):
                break
            time.sleep(_PAUSE)
    return None, []


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int | None]:
    """A descriptor of what a path leads to now; None if there is nothing. While it is open, its inode is not used again."""
    try:
        descriptor = os.open(path, getattr(os, "O_PATH", os.O_RDONLY))  # O_PATH needs no permission to read it
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _leads_to(path: Path, descriptor: int) -> bool:
    """Whether a path leads to an open directory."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def load_newest(directory: Path) -> Checkpoint | None:
    """As `load_latest`, for whoever only looks at it.

    Warns:
        RuntimeWarning: for each checkpoint that was refused.
    """
    checkpoint, refused = load_latest(directory)
    for message in refused:
        warnings.warn(f"{message} Using the one before it.", RuntimeWarning, stacklevel=2)
    return checkpoint


def load_best(directory: Path, mode: Literal["min", "max"]) -> Checkpoint | None:
    """The checkpoint with the best metric; None if none has a metric.

    Raises:
        DamagedCheckpointError: that checkpoint is damaged.
    """
    path = best_of(list_checkpoints(directory), mode)
    return None if path is None else read_checkpoint(path)


def serialise(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Named arrays as the content of a safetensors file.

    Raises:
        TypeError: an array does not hold numbers.
    """
    from safetensors.numpy import save

    # safetensors copies raw memory, so strided and big-endian arrays must be brought into order first.
    return save({name: _little_endian(array) for name, array in arrays.items()})


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    """The array in C order and little-endian: itself where it is, without adding an axis to a 0-d one."""
    if array.dtype.kind not in "biufc":
        raise TypeError(f"A checkpoint's arrays must hold numbers. Got {array.dtype} instead.")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def manifest_of(step: int, files: Mapping[str, bytes], metric: float | None) -> bytes:
    """The content of `manifest.json` for these files; a metric that is not finite is left out."""
    entries = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    known = metric is not None and math.isfinite(metric)
    return _sealed({"files": entries, "format": FORMAT, "metric": metric if known else None, "step": step})


def _sealed(body: Mapping[str, Any]) -> bytes:
    """The manifest's bytes, with its own digest. There is one way to write it, so any change shows."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({"manifest": body, "sha256": digest}, indent=1, sort_keys=True).encode()


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise CheckpointError(f"There is no checkpoint {path}.")
    raw = _read(path / MANIFEST)
    try:
        body: dict[str, Any] = json.loads(raw)["manifest"]
        whole = _sealed(body) == raw
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise DamagedCheckpointError(f"{path} is damaged: {MANIFEST} is not what was written.")
    if body["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {body['format']}; this version of allgrad reads format {FORMAT}.")
    if body["step"] != step_of(path) or set(body["files"]) != {MODEL, TRAINING, STATE}:
        raise DamagedCheckpointError(
            f"{path} is damaged: its manifest belongs to step {body['step']} or to other files."
        )
    return body


def _verified(path: Path, entry: Mapping[str, Any]) -> bytes:
    content = _read(path)
    if len(content) != entry["bytes"]:
        raise DamagedCheckpointError(
            f"{path.parent} is damaged: {path.name} has {len(content)} bytes, but {entry['bytes']} were written."
        )
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DamagedCheckpointError(
            f"{path.parent} is damaged: {path.name} is not what was written (its SHA-256 differs)."
        )
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{path.parent} is damaged: {path.name} is missing.") from error
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from error


def best_of(paths: list[Path], mode: Literal["min", "max"]) -> Path | None:
    """The checkpoint with the best metric; of equal ones the earliest."""
    scored: list[tuple[float, int, Path]] = []
    for path in paths:
        with contextlib.suppress(CheckpointError):
            metric = _read_manifest(path)["metric"]
            if metric is not None:
                scored.append((metric if mode == "min" else -metric, step_of(path), path))
    return min(scored)[2] if scored else None


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint's directory.

    Raises:
        CheckpointError: it is not named like a checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path} is not a checkpoint: its directory would be named like step-000120.")
    return int(match.group(1))
