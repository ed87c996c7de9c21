"""IDX files, the format of MNIST (Y. LeCun).

An IDX file has two zero bytes, a type code, the number of axes, the length of each axis as a big-endian 32-bit number, and then
the data, big-endian, row by row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.errors import DataError
from allgrad.data.sources import data_path, read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["parse_idx", "read_idx"]

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_AXES = 8


def read_idx(path: str) -> NDArray[Any]:
    """The array in an IDX file (gzip or not), in the machine's byte order, read-only.

    Raises:
        DataError: when the file is missing, is not an IDX file, or has another length than its header says.
    """
    return parse_idx(read_bytes(data_path(path)), path)


def parse_idx(content: bytes, what: str) -> NDArray[Any]:
    """Like `read_idx`, from bytes; messages call them `what`.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "two bytes").tolist()
        [7, 9]
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise DataError(f"{what}: not an IDX file; its first bytes are {content[:4].hex(' ') or 'missing'}.")
    axes, dtype = content[3], np.dtype(_TYPES[content[2]])
    start = 4 + 4 * axes
    if len(content) < start:
        raise DataError(f"{what}: the file is cut short inside its header, after {len(content)} bytes.")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=axes, offset=4))
    expected = start + math.prod(shape) * dtype.itemsize
    if axes > _MAX_AXES:
        raise DataError(f"{what}: its header claims {axes} axes. At most {_MAX_AXES} are supported.")
    if len(content) != expected:
        raise DataError(
            f"{what}: its header claims {dtype.name} {shape}, which takes {expected:,} bytes with the header. "
            f"Got {len(content):,} bytes. The file is damaged or incomplete."
        )
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
