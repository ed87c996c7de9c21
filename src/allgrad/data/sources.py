"""Finding and reading files: `package:NAME` for what comes with allgrad, gzip by content, errors in words."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allgrad.data.random import permutation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DataError", "data_path", "read_bytes", "split_rows", "verify_sha256"]

_PACKAGE = "package:"


class DataError(ValueError):
    """Data that cannot be used: which file, where in it, what was expected and what came instead."""

    exit_code = 1  # what the command line ends with


def data_path(name: str) -> Path:
    """The file that `name` stands for: a path (`~` is understood), or `package:NAME` in allgrad's own files.

    Raises:
        DataError: when there is no such file.

    Example:
        >>> data_path("package:diamonds.csv.gz").name
        'diamonds.csv.gz'
    """
    if name.startswith(_PACKAGE):
        folder = Path(str(resources.files("allgrad.data") / "files"))
        path = folder / name[len(_PACKAGE) :]
        if not path.is_file():
            have = sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".gz") if folder.is_dir() else []
            raise DataError(f"{name}: allgrad has no such file. It has: {', '.join(have) or 'none'}.")
        return path
    path = Path(name).expanduser()
    if not path.exists():
        raise DataError(f"{name}: no such file (looked for {path.absolute()}). Give a path from the working directory.")
    return path


def read_bytes(path: Path) -> bytes:
    """The whole content, unpacked where it is gzip, whatever the name says.

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
    """Rows for training and for validation: a seeded shuffle, `fraction` of it (rounded) held out, each in file order.

    Raises:
        DataError: when either part would be empty.

    Example:
        >>> train, valid = split_rows(10, 0.2, seed=0)
        >>> len(train), len(valid), sorted([*train.tolist(), *valid.tolist()]) == list(range(10))
        (8, 2, True)
    """
    held_out = round(count * fraction)
    if not 0 < held_out < count:
        raise DataError(
            f"split: {fraction} of {count} rows leaves {count - held_out} to train on and {held_out} to test."
        )
    order = permutation(count, seed, epoch=0)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
