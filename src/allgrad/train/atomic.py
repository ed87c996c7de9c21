"""Writing files so that a crash at any moment leaves either the old content or the new content, whole."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sync_directory", "write_atomic", "write_json_atomic", "write_synced"]


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk.

    Raises:
        OSError: the disk is full, or writing is not permitted.
    """
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)  # the system does not name an open file
        raise


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory (files created, renamed, removed) are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
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
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     write_atomic(Path(directory) / "a", b"new")
        ...     (Path(directory) / "a").read_bytes()
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
    sync_directory(path.parent)


def write_json_atomic(path: Path, value: Any) -> None:
    """Replace a file by indented JSON; NaN and infinities become strings (`json_safe`), because JSON has none."""
    write_atomic(path, (json.dumps(json_safe(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def json_safe(value: Any) -> Any:
    """The same value with NaN and infinities as the strings "NaN", "Infinity", "-Infinity", which `float` reads.

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
