"""Ranks that post different collectives are found before the first byte of data moves.

Each collective carries a few words about what it is (`Collective.what`). Their hash, 8 bytes, is gathered from all ranks
ahead of the data. That costs one small message, which is sent as soon as the collective is posted and hides behind earlier
ones. Only if the hashes differ do the words themselves follow, and then every rank raises the same error.

The message has the same length for every collective, so that even ranks that disagree can exchange it. The space that the
hash leaves free (`room`) carries the data of small collectives, which need no other exchange. These data are used only if
all hashes agree.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.errors import CollectiveError

from .agreement import compare

if TYPE_CHECKING:
    from .transport import Collective, Transfer

_DETAIL = 2048  # bytes in which a rank describes its collective when hashes differ
_VALUE = 100  # characters of one property
_HASH = 8
_GATHERED = 1 << 15  # bytes of all ranks' messages together, as long as each has at least 64


class DesyncError(CollectiveError):
    """The ranks posted different collectives."""


def room(size: int) -> int:
    """How many bytes of its own data a rank can send along with the hash.

    >>> room(2), room(64), room(1000)
    (1016, 504, 56)
    """
    return max(64, min(1024, _GATHERED // size)) - _HASH


def describe(collective: Collective, number: int) -> str:
    """The collective in words, for a report; `number` counts the collectives of this job."""
    if collective.step < 0:
        return f"{collective.what['collective']} (collective number {number})"
    bucket = f"bucket {collective.label!r}, step {collective.step}"
    return f"{collective.what['collective']} of {bucket} (collective number {number})"


def agree(checks: Any, details: Any, size: int, collective: Collective, number: int) -> Transfer:
    """A transfer that ends when all ranks agree on `collective`, and raises `DesyncError` on all of them otherwise.

    `checks` and `details` are communicators of its own: ranks may have posted more checks before they see a difference.
    """
    text = "\0".join((*collective.what, *collective.what.values(), str(number)))
    mine = np.zeros(_HASH + room(size), np.uint8)
    mine[:_HASH] = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=_HASH).digest(), np.uint8)
    stop = _HASH
    if collective.payload is not None and fits_into_check(collective, size):
        stop += collective.payload.size
        mine[_HASH:stop] = collective.payload
    everyone = np.empty((size, mine.size), np.uint8)
    yield [checks.Iallgather(mine, everyone)]
    if (everyone[:, :_HASH] == mine[:_HASH]).all():
        if collective.arrived is not None and fits_into_check(collective, size):
            collective.arrived(everyone[:, _HASH:stop])
        return
    short = {
        key: value if len(value) <= _VALUE else value[: _VALUE - 3] + "..." for key, value in collective.what.items()
    }
    detail = np.frombuffer(json.dumps(short).encode().ljust(_DETAIL), np.uint8)
    rows = np.empty((size, _DETAIL), np.uint8)
    yield [details.Iallgather(detail, rows)]
    differences = list(compare([json.loads(row.tobytes()) for row in rows]).values())
    raise DesyncError(
        f"The ranks of this job posted different collectives as number {number} (step {collective.step}). No data have been "
        "exchanged.\n" + "\n".join(differences or ["  They differ beyond the first characters of a name."])
    )


def fits_into_check(collective: Collective, size: int) -> bool:
    """Whether the data of a collective travel in the message that carries its hash."""
    return collective.payload is not None and collective.payload.size <= room(size)
