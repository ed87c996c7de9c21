"""Writing so that a crash, at any moment, leaves the old content or the new, whole."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sync_folder", "write_atomic", "write_json_atomic", "write_synced"]


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk.

    Raises:
        OSError: when the disk is full, or there is no right to write.
    """
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)  # the system names none for an open file
        raise


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder (files made, renamed, removed) are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file's content in one step.

    Raises:
        OSError: as `write_synced`; the old content is then still there.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomic(Path(folder) / "a", b"new")
        ...     (Path(folder) / "a").read_bytes()
        b'new'
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write_synced(beside, content)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_folder(path.parent)


def write_json_atomic(path: Path, value: Any) -> None:
    """Replace a file by JSON, indented; NaN and infinities as texts (`json_safe`), because JSON has none."""
    write_atomic(path, (json.dumps(json_safe(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def json_safe(value: Any) -> Any:
    """The same with NaN and infinities as the texts "NaN", "Infinity", "-Infinity", which `float` reads.

    Example:
        >>> json_safe({"loss": float("nan"), "lr": [0.5]})
        {'loss': 'NaN', 'lr': [0.5]}
    """
    if isinstance(value, dict):
        return {key: json_safe(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(part) for part in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return json.dumps(value)
    return value
