"""A digest of the data that a run reads, so that ranks can compare it and a resumed run notices when the data changed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["content_digest", "settings_digest"]

_WHOLE = 1 << 30  # bytes: arrays up to this size are read completely
_BLOCK = 1 << 20
_SAMPLED_BLOCKS = 256


def content_digest(*contents: bytes | NDArray[Any]) -> str:
    """SHA-256 over files' contents and arrays, as 64 hexadecimal digits.

    Arrays count with their dtype, shape and bytes in memory order, so that a memory-mapped file is read once, block by block.
    Of an array of more than 1 GiB only the dtype, the shape and 256 evenly spaced blocks of 1 MiB count.

    Example:
        >>> content_digest(b"ab", b"c") == content_digest(b"a", b"bc")
        False
    """
    digest = hashlib.sha256()
    for content in contents:
        if isinstance(content, bytes):
            digest.update(f"bytes {len(content)}\n".encode())
            digest.update(content)
        else:
            _add_array(digest, content)
    return digest.hexdigest()


def settings_digest(settings: dict[str, Any]) -> str:
    """The digest of data that are computed from settings, which must be JSON."""
    return content_digest(json.dumps(settings, sort_keys=True).encode())


def _add_array(digest: Any, array: NDArray[Any]) -> None:
    digest.update(f"array {array.dtype.str} {array.shape}\n".encode())
    if not array.size:
        return
    ordered = array if array.flags.c_contiguous else array.T
    if not ordered.flags.c_contiguous:
        ordered = np.ascontiguousarray(array)
    data = ordered.reshape(-1).view(np.uint8)
    if data.size <= _WHOLE:
        starts = range(0, data.size, _BLOCK)
    else:
        starts = (np.linspace(0, data.size - _BLOCK, _SAMPLED_BLOCKS).astype(np.int64)).tolist()
    for start in starts:
        digest.update(data[start : start + _BLOCK])
