"""Finding and reading data files: `package:NAME` for files that come with allgrad, gzip detected by content."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from importlib import resources
from pathlib import Path
from typing import IO

from allgrad.data.errors import DataError

__all__ = [
    "MAX_BYTES",
    "MAX_RATIO",
    "check_decompressed",
    "check_regular",
    "data_path",
    "read_bytes",
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
