"""Arrays from `.npy` and `.npz` files, memory-mapped, so that the ranks on one node share one copy in the page cache.

NumPy maps `.npy` files only. A `.npz` file that `numpy.savez` wrote is an uncompressed zip archive of `.npy` files, whose members
can be mapped as well. Compressed members are read into memory.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.data.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["open_arrays"]

_LOCAL_HEADER = 30  # bytes of a zip member's local header before its name and extra field


def open_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a `.npz` file, or of a directory of `.npy` files, by name; read-only.

    Raises:
        DataError: when the path is neither, or a file is damaged or holds Python objects.
    """
    try:
        if path.is_dir():
            return {file.stem: _load(file) for file in sorted(path.glob("*.npy"))}
        if path.suffix == ".npz":
            return _open_archive(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not readable as arrays: {error}.") from error
    raise DataError(f"{path}: expected a .npz file, or a directory of .npy files. Got {path.name} instead.")


def _load(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _open_archive(path: Path) -> dict[str, NDArray[Any]]:
    out: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                shape, fortran, dtype = _header(stream)
                begin = stream.tell()
                if member.compress_type != zipfile.ZIP_STORED or dtype.hasobject or 0 in shape:
                    stream.seek(0)
                    out[member.filename[:-4]] = np.lib.format.read_array(stream, allow_pickle=False)
                    continue
            file.seek(member.header_offset)
            local = file.read(_LOCAL_HEADER)
            start = member.header_offset + _LOCAL_HEADER + _u16(local, 26) + _u16(local, 28)
            order: Literal["F", "C"] = "F" if fortran else "C"
            out[member.filename[:-4]] = np.memmap(path, dtype, "r", offset=start + begin, shape=shape, order=order)
    return out


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _u16(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "little")
