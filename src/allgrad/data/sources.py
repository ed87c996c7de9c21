"""Finding, reading and splitting data files: `package:NAME` for files that come with allgrad, gzip detected by content."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allgrad.data.errors import DataError
from allgrad.data.random import permutation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["data_path", "read_bytes", "split_rows", "verify_sha256"]

_PACKAGE = "package:"


def data_path(name: str, base: Path | None = None) -> Path:
    """The file or directory that `name` means.

    Args:
        name: a path (`~` is expanded), or `package:NAME` for one of allgrad's own files.
        base: the directory that a relative path starts from; by default the working directory.

    Raises:
        DataError: when there is no such file.

    Example:
        >>> data_path("package:diamonds.csv.gz").name
        'diamonds.csv.gz'
    """
    if name.startswith(_PACKAGE):
        directory = Path(str(resources.files("allgrad.data") / "files"))
        path = directory / name[len(_PACKAGE) :]
        if not path.is_file():
            have = sorted(entry.name for entry in directory.glob("*.gz"))
            raise DataError(f"{name}: allgrad has no such file. It has: {', '.join(have) or 'none'}.")
        return path
    path = (base or Path()) / Path(name).expanduser()
    if not path.exists():
        start = "the working directory" if base is None else str(base)
        raise DataError(f"{name}: no such file (looked for {path.absolute()}). Relative paths start at {start}.")
    return path


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, decompressed if it is gzip, whatever the file's name.

    Raises:
        DataError: when the file cannot be read, or is damaged gzip.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}). Fetch it again.") from error


def verify_sha256(content: bytes, expected: str, what: str) -> None:
    """Raise `DataError` unless the content has this SHA-256."""
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise DataError(f"{what}: not the published content: expected sha256 {expected}, got {got}. Fetch it again.")


def split_rows(count: int, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers for training and for validation: `fraction` of a seeded shuffle (rounded) is held out; both in file order.

    Raises:
        DataError: when either would be empty.

    Example:
        >>> train, valid = split_rows(10, 0.2, seed=0)
        >>> len(train), len(valid), sorted([*train.tolist(), *valid.tolist()]) == list(range(10))
        (8, 2, True)
    """
    held_out = round(count * fraction)
    if not 0 < held_out < count:
        raise DataError(
            f"split: holding out {fraction} of {count} rows leaves {count - held_out} to train on and {held_out} to "
            "evaluate on. Both need at least one row."
        )
    order = permutation(count, seed, epoch=0)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
