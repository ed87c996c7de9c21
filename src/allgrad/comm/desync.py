"""Ranks that post different collectives are found before the first byte of data moves.

Each job carries a few words on what it is (`Job.what`). Their hash, 8 bytes, is gathered from all ranks ahead of the
data; it costs one small message, sent as soon as the job is posted and hidden behind the jobs before it. Only where
hashes differ do the words themselves follow, and then every rank raises the same error.

The message has the same length for every job, whatever it is, so that it can be exchanged between ranks that disagree;
what the hash leaves free (`room`) carries the data of small jobs, which are then done in one exchange. They are looked
at only where all hashes agree.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.errors import CollectiveError

from .world import compare

if TYPE_CHECKING:
    from .collectives import Part
    from .jobs import Job

_DETAIL = 2048  # bytes in which a rank describes its job when hashes differ
_VALUE = 100  # characters of one fact
_HASH = 8
_GATHERED = 1 << 15  # bytes of all ranks' messages together, as long as each has 64 at least


def room(size: int) -> int:
    """How many bytes of its own data a rank can send along with the hash.

    >>> room(2), room(64), room(1000)
    (1016, 504, 56)
    """
    return max(64, min(1024, _GATHERED // size)) - _HASH


class DesyncError(CollectiveError):
    """The ranks posted different collectives."""


def agree(checks: Any, details: Any, size: int, job: Job) -> Part:
    """A part (see `collectives.py`) that ends where all ranks agree on `job`, and raises `DesyncError` on all otherwise.

    `checks` and `details` are communicators of its own: ranks may have posted more checks before they see a difference.
    """
    text = "\0".join((*job.what, *job.what.values(), str(job.number)))
    mine = np.zeros(_HASH + room(size), np.uint8)
    mine[:_HASH] = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=_HASH).digest(), np.uint8)
    length = 0
    if job.payload is not None:
        length = job.payload.size
        mine[_HASH : _HASH + length] = job.payload
    everyone = np.empty((size, mine.size), np.uint8)
    yield [checks.Iallgather(mine, everyone)]
    if (everyone[:, :_HASH] == mine[:_HASH]).all():
        if job.arrived is not None:
            job.arrived(everyone[:, _HASH : _HASH + length])
        return
    short = {key: value if len(value) <= _VALUE else value[: _VALUE - 3] + "..." for key, value in job.what.items()}
    detail = np.frombuffer(json.dumps(short).encode().ljust(_DETAIL), np.uint8)
    rows = np.empty((size, _DETAIL), np.uint8)
    yield [details.Iallgather(detail, rows)]
    differences = list(compare([json.loads(row.tobytes()) for row in rows]).values())
    raise DesyncError(
        f"The ranks of this job posted different collectives as number {job.number} (step {job.step}). Nothing of them has "
        "been added.\n" + "\n".join(differences or ["  They differ beyond the first characters of a name."])
    )
