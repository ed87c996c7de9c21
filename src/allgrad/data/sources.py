"""Finding, reading and splitting data files: `package:NAME` for files that come with allgrad, gzip detected by content."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib import resources
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from allgrad.data.errors import DataError
from allgrad.data.random import permutation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MAX_BYTES",
    "MAX_RATIO",
    "check_decompressed",
    "check_regular",
    "data_path",
    "read_bytes",
    "split_rows",
    "verify_sha256",
]

MAX_BYTES = 4 << 30
"""Bytes of one file, decompressed, that are read into memory at most."""

MAX_RATIO = 200
"""How many times larger than the file its decompressed content may be, beyond 64 MiB."""

_SMALL = 64 << 20
_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
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


def check_regular(path: Path) -> None:
    """Raise `DataError` unless the path is a regular file; a pipe or a device might never end."""
    if not path.is_file():
        kind = "a directory" if path.is_dir() else "a device, a pipe, or missing"
        raise DataError(f"{path}: expected a regular file. It is {kind}.")


def check_decompressed(what: str, size: int, compressed: int) -> None:
    """Raise `DataError` where compressed data take too much memory: more than `MAX_BYTES`, or out of all proportion.

    Text and numbers shrink to a third or a tenth. Data that shrink by more than `MAX_RATIO` and fill more than 64 MiB are
    most likely made to exhaust memory.
    """
    if size > MAX_BYTES:
        raise DataError(
            f"{what}: decompressed, it takes at least {size:,} bytes. At most {MAX_BYTES:,} are read into memory. "
            "Store large data uncompressed as .npy or .npz arrays, which are memory-mapped."
        )
    if size > _SMALL and size > MAX_RATIO * compressed:
        raise DataError(
            f"{what}: {compressed:,} compressed bytes become {size:,}, more than {MAX_RATIO} times as many. That is typical of a "
            "file made to exhaust memory. If you trust it, store it uncompressed."
        )


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, decompressed if it is gzip, whatever the file's name.

    Raises:
        DataError: when the file cannot be read, is damaged gzip, or is too large (see `check_decompressed`).
    """
    check_regular(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: the file has {size:,} bytes. At most {MAX_BYTES:,} are read into memory.")
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP
            file.seek(0)
            return _decompressed(file, str(path)) if compressed else file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error


def _decompressed(file: IO[bytes], what: str) -> bytes:
    blocks: list[bytes] = []
    total = 0
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            while block := stream.read(_BLOCK):
                blocks.append(block)
                total += len(block)
                check_decompressed(what, total, file.tell())  # what was read of the file so far
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{what}: damaged gzip file ({error}). Fetch it again.") from error
    return b"".join(blocks)


def verify_sha256(content: bytes, expected: str, what: str) -> None:
    """Raise `DataError` unless the content has this SHA-256."""
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise DataError(f"{what}: not the published content: expected sha256 {expected}, got {got}. Fetch it again.")


def split_rows(
    count: int, fraction: float, seed: int, *, what: str = "split"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers for training and for validation: `fraction` of a seeded shuffle (rounded) is held out; both in file order.

    Args:
        what: what messages call the data.

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
            f"{what}: holding out {fraction} of {count} rows leaves {count - held_out} to train on and {held_out} to "
            "evaluate on. Both need at least one row."
        )
    order = permutation(count, seed, epoch=0)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
