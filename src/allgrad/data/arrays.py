"""Arrays from `.npy` and `.npz` files, memory-mapped: ranks on one node share one copy in the page cache.

NumPy maps `.npy` only. A `.npz` that `numpy.savez` wrote is an uncompressed zip of `.npy` files, so that each member
lies in it as a whole and can be mapped as well; compressed members are read into memory.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.data.datasets import ArrayDataset, DataInfo, DataSource, Subset
from allgrad.data.sources import DataError, data_path, split_rows

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from allgrad.data.datasets import Dataset

__all__ = ["arrays_source", "open_arrays"]

_LOCAL_HEADER = 30  # bytes of a zip member's local header before its name and extra field


def open_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a `.npz` file, or of a folder of `.npy` files, by name; read-only.

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
    raise DataError(f"{path}: expected a .npz file, or a folder of .npy files. Got {path.name} instead.")


def arrays_source(
    train: str,
    valid: str | None,
    *,
    task: Literal["classes", "values"],
    inputs: str,
    targets: str,
    valid_fraction: float,
    split_seed: int,
) -> DataSource:
    """Training and validation data from array files.

    Args:
        train: file or folder (see `open_arrays`).
        valid: the same for validation; without it, `valid_fraction` of the training rows is held out.
        task: whether targets are class numbers (integers) or values.
        inputs, targets: names of the two arrays in the files.
    """
    rows = _pair(train, inputs, targets, task)
    if valid is None:
        kept, held_out = split_rows(len(rows), valid_fraction, split_seed)
        parts: tuple[Dataset, Dataset] = (Subset(rows, kept), Subset(rows, held_out))
        labels = rows.arrays["targets"]
    else:
        other = _pair(valid, inputs, targets, task)
        for key in ("inputs", "targets"):
            if rows.arrays[key].shape[1:] != other.arrays[key].shape[1:]:
                raise DataError(
                    f"{valid}: {key} have shape {other.arrays[key].shape[1:]} a sample, "
                    f"those of {train} {rows.arrays[key].shape[1:]}."
                )
        parts = (rows, other)
        labels = np.concatenate([rows.arrays["targets"], other.arrays["targets"]])
    shape = rows.arrays["inputs"].shape[1:]
    outputs = int(labels.max()) + 1 if task == "classes" else int(np.prod(labels.shape[1:]))
    return DataSource(*parts, DataInfo(task, shape, outputs))


def _pair(path: str, inputs: str, targets: str, task: str) -> ArrayDataset:
    arrays = open_arrays(data_path(path))
    for name in (inputs, targets):
        if name not in arrays:
            raise DataError(f"{path}: no array named {name!r}. It has: {', '.join(sorted(arrays)) or 'none'}.")
    x, y = arrays[inputs], arrays[targets]
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
        raise DataError(f"{path}: expected as many inputs as targets, at least one. Got {x.shape} and {y.shape}.")
    if task == "classes" and (y.ndim != 1 or y.dtype.kind not in "iu" or int(y.min()) < 0):
        raise DataError(f"{path}: class targets must be a vector of integers from 0. Got {y.dtype} {y.shape}.")
    return ArrayDataset({"inputs": x, "targets": y})


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
