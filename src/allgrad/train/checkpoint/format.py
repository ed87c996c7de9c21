"""Checkpoints: what one is, and how it is read: whole or not at all.

Contract.

- A checkpoint is a folder `checkpoints/step-000120/` with `model.safetensors` (the weights and buffers, under
  PyTorch's names), `optimizer.safetensors` (moments, averages), `state.json` (step, position in the data, bucket
  order, ...) and `manifest.json`, which has the length and SHA-256 of each and of itself. Nothing in it depends on the
  number of ranks. How one comes onto the disk stands in checkpoint_writer.py.
- It is read as bytes, the bytes are compared with the manifest, and those very bytes are parsed. One that was cut at
  any byte, or has one bit flipped, or lacks a file, is refused by name; `load_latest` then takes the one before it.
- One process writes; any number may read meanwhile, and see whole checkpoints only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
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

FORMAT = 1
_NAME = re.compile(r"step-(\d{6,})")
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"


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
    return sorted(found, key=step_of, reverse=True)


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
        model=load(content[MODEL]),
        optimizer=load(content[OPTIMIZER]),
        state=json.loads(content[STATE]),
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


def load_newest(folder: Path) -> Checkpoint | None:
    """As `load_latest`, for whoever only looks at it.

    Warns:
        RuntimeWarning: for each that was refused.
    """
    checkpoint, refused = load_latest(folder)
    for message in refused:
        warnings.warn(f"{message} The one before it is used.", RuntimeWarning, stacklevel=2)
    return checkpoint


def load_best(folder: Path, mode: Literal["min", "max"]) -> Checkpoint | None:
    """The checkpoint with the best metric; None when none has one.

    Raises:
        DamagedCheckpointError: when that checkpoint is damaged.
    """
    path = best_of(list_checkpoints(folder), mode)
    return None if path is None else read_checkpoint(path)


def serialise(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Named arrays as the content of a safetensors file.

    Raises:
        TypeError: when an array does not hold numbers.
    """
    from safetensors.numpy import save

    # safetensors reads an array's memory as it lies there: strided and big-endian ones must be laid out first.
    return save({name: _little_endian(array) for name, array in arrays.items()})


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    """The array in C order and little-endian: itself where it is, without adding an axis to a 0-d one."""
    if array.dtype.kind not in "biufc":
        raise TypeError(f"checkpoint: arrays must hold numbers. Got {array.dtype} instead.")
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def manifest_of(step: int, files: Mapping[str, bytes], metric: float | None) -> bytes:
    """The content of `manifest.json` for these files; a metric that is no finite number counts as none."""
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
    raw = _read(path / MANIFEST)
    try:
        body: dict[str, Any] = json.loads(raw)["manifest"]
        whole = _sealed(body) == raw
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise DamagedCheckpointError(f"{path}: damaged: {MANIFEST} is not what was written.")
    if body["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {body['format']}; this allgrad reads format {FORMAT}.")
    if body["step"] != step_of(path) or set(body["files"]) != {MODEL, OPTIMIZER, STATE}:
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


def best_of(paths: list[Path], mode: Literal["min", "max"]) -> Path | None:
    """Of the checkpoints with a metric the best one, of equals the earliest."""
    scored: list[tuple[float, int, Path]] = []
    for path in paths:
        with contextlib.suppress(CheckpointError):
            metric = _read_manifest(path)["metric"]
            if metric is not None:
                scored.append((metric if mode == "min" else -metric, step_of(path), path))
    return min(scored)[2] if scored else None


def step_of(path: Path) -> int:
    """The step in the name of a checkpoint's folder.

    Raises:
        CheckpointError: when it is not called like one.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path}: a checkpoint's folder is called like step-000120.")
    return int(match.group(1))
