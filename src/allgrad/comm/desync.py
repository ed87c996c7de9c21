"""Ranks that post different collectives are found before the first byte of data moves.

Each job carries a few words on what it is (`Job.what`). Their hash, 8 bytes, is gathered from all ranks ahead of the
data; it costs one small message, sent as soon as the job is posted and hidden behind the jobs before it. Only where
hashes differ do the words themselves follow, and then every rank raises the same error.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .failure import EverywhereError
from .world import compare

if TYPE_CHECKING:
    from .collectives import Part
    from .jobs import Job

_DETAIL = 2048  # bytes in which a rank describes its job when hashes differ
_VALUE = 100  # characters of one fact


class DesyncError(EverywhereError):
    """The ranks posted different collectives."""


def agree(checks: Any, details: Any, size: int, job: Job) -> Part:
    """A part (see `collectives.py`) that ends where all ranks agree on `job`, and raises `DesyncError` on all otherwise.

    `checks` and `details` are communicators of its own: ranks may have posted more checks before they see a difference.
    """
    text = json.dumps(job.what | {"number": str(job.number)})
    mine = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), np.uint64)
    everyone = np.empty(size, np.uint64)
    yield [checks.Iallgather(mine, everyone)]
    if (everyone == mine).all():
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
