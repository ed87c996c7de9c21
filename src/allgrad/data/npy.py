"""Arrays from `.npy` and `.npz` files, memory-mapped, so that the ranks on one node share one copy in the page cache.

NumPy itself maps `.npy` files only. A `.npz` file that `numpy.savez` wrote is an uncompressed zip archive of `.npy` files, whose
members can be mapped as well. Compressed members are read into memory.

A header is believed only if it agrees with the size of the file. So a damaged or hostile file is refused before memory is
allocated for what it claims to hold.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from allgrad.data.errors import DataError, listed
from allgrad.data.sources import check_decompressed, check_regular

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["open_array", "open_arrays"]

_LOCAL_HEADER = 30  # bytes of a zip member's local header before its name and extra field
_MAX_AXES = 32
_READ = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class _Header(NamedTuple):
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype[Any]
    length: int  # of the header itself, in bytes

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def open_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays in a `.npz` file or in a directory of `.npy` files, by name; read-only.

    Args:
        names: which arrays to open; all by default.

    Raises:
        DataError: when the path is neither, an array is missing, or a file is damaged or holds something else than numbers.
    """
    if path.is_dir():
        files = {file.stem: file for file in sorted(path.glob("*.npy"))}
        return {name: open_array(files[name]) for name in _chosen(path, files, names)}
    if path.suffix != ".npz":
        raise DataError(f"{path}: expected a .npz file, or a directory of .npy files.")
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                member.filename[:-4]: member for member in archive.infolist() if member.filename.endswith(".npy")
            }
            chosen = _chosen(path, members, names)
            for name in chosen:
                check_decompressed(f"{path}, {name!r}", members[name].file_size, members[name].compress_size)
            return {name: _open_member(path, archive, members[name], name) for name in chosen}
    except DataError:
        raise
    except Exception as error:  # zipfile and the decompressors raise many kinds for a damaged archive
        raise DataError(f"{path}: not readable as a .npz file, perhaps damaged: {_reason(error)}.") from error


def open_array(path: Path) -> NDArray[Any]:
    """The array in a `.npy` file, memory-mapped, read-only.

    Raises:
        DataError: when the file cannot be read, is damaged, or holds something else than numbers.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            header = _read_header(file, str(path))
        present = path.stat().st_size - header.length
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
    _check_size(str(path), header, present)
    return _mapped(path, header, header.length)


def _chosen(path: Path, present: Collection[str], names: Collection[str] | None) -> Collection[str]:
    for name in names or ():
        if name not in present:
            raise DataError(f"{path}: there is no array named {name!r}. The arrays are: {listed(sorted(present))}.")
    return present if names is None else names


def _open_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    what = f"{path}, {name!r}"
    with archive.open(member) as stream:
        header = _read_header(stream, what)
        _check_size(what, header, member.file_size - header.length)
        if member.compress_type != zipfile.ZIP_STORED:
            data = stream.read(header.size)
            return np.frombuffer(data, header.dtype).reshape(header.shape, order=header.order)
    with path.open("rb") as file:
        file.seek(member.header_offset)
        local = file.read(_LOCAL_HEADER)
    start = member.header_offset + _LOCAL_HEADER + _u16(local, 26) + _u16(local, 28)
    return _mapped(path, header, start + header.length)


def _read_header(stream: IO[bytes], what: str) -> _Header:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # about a header that NumPy had to repair
            version = np.lib.format.read_magic(stream)
            if version not in _READ:
                raise ValueError(f"format version {version} is unknown")
            shape, fortran, dtype = _READ[version](stream)
    except Exception as error:  # NumPy raises many kinds for a damaged header
        raise DataError(f"{what}: not a .npy file, or its header is damaged: {_reason(error)}.") from error
    if len(shape) > _MAX_AXES or any(type(length) is not int or length < 0 for length in shape):
        raise DataError(f"{what}: its header claims the shape {shape}, which is not possible.")
    if dtype.kind not in "biufc":
        raise DataError(f"{what}: expected an array of numbers. Got dtype {dtype}. Convert it to a numeric dtype.")
    return _Header(shape, "F" if fortran else "C", dtype, stream.tell())


def _check_size(what: str, header: _Header, present: int) -> None:
    if header.size != present:
        raise DataError(
            f"{what}: its header claims {header.dtype} {header.shape}, which takes {header.size:,} bytes. "
            f"Got {present:,} bytes. The file is damaged or incomplete."
        )


def _mapped(path: Path, header: _Header, offset: int) -> NDArray[Any]:
    if not header.size:
        return np.zeros(header.shape, header.dtype)
    return np.memmap(path, header.dtype, "r", offset=offset, shape=header.shape, order=header.order)


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".")[:200] if text else type(error).__name__


def _u16(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")
