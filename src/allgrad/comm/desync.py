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
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.errors import CollectiveError

from .agreement import compare
from .board import KEY, NO_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .board import Board
    from .transport import Collective, Transfer

_DETAIL = 2048  # bytes in which a rank describes its collective when hashes differ
_VALUE = 100  # characters of one property
_HASH = KEY
_MESSAGE = 1024  # bytes of a check's message
_GATHERED = 1 << 15  # bytes of all ranks' messages together, as long as each has at least 64


class DesyncError(CollectiveError):
    """The ranks posted different collectives."""


class Kind:
    """What a small collective is, with its hash, for collectives that come again and again.

    Attributes:
        what: as in `Collective`.
        key: the `fingerprint` of that.
    """

    __slots__ = ("key", "what")

    def __init__(self, what: dict[str, str]) -> None:
        self.what, self.key = what, fingerprint(what)


def room(size: int) -> int:
    """How many bytes of its own data a rank can send along with the hash, by messages (on a board: `Board.room`).

    >>> room(2), room(64), room(1000)
    (1016, 504, 56)
    """
    return max(64, min(_MESSAGE, _GATHERED // size)) - _HASH


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
    mine = np.zeros(_HASH + room(size), np.uint8)
    mine[:_HASH] = np.array([fingerprint(collective.what, str(number))]).view(np.uint8)
    stop = _HASH
    small = collective.payload is not None and collective.payload.size <= room(size)
    if small and collective.payload is not None:
        stop += collective.payload.size
        mine[_HASH:stop] = collective.payload
    everyone = np.empty((size, mine.size), np.uint8)
    yield [checks.Iallgather(mine, everyone)]
    if (everyone[:, :_HASH] == mine[:_HASH]).all():
        if collective.arrived is not None and small:
            collective.arrived(everyone[:, _HASH:stop])
        return
    yield from _say_what_differs(details, size, collective, number)


def post(board: Board, collective: Collective) -> int:
    """Post on the board what `agree_on_board` looks at; returns the number of the message."""
    small = collective.payload is not None and collective.payload.size <= board.room
    return board.post(
        fingerprint(collective.what), collective.payload if small and collective.payload is not None else NO_BYTES
    )


def agree_on_board(
    board: Board, message: int, details: Any, size: int, collective: Collective, number: int
) -> Transfer:
    """As `agree`, for ranks that share a notice board, on which `post` has posted `message`."""
    while not board.arrived(message):
        yield None
    payload = collective.payload if collective.payload is not None and collective.payload.size <= board.room else None
    keys, payloads = board.read(message, 0 if payload is None else payload.size)
    same = bool((keys == keys[0]).all())
    if same and payload is not None and collective.arrived is not None:
        collective.arrived(payloads)
    board.done(message)
    if not same:
        yield from _say_what_differs(details, size, collective, number)


def fingerprint(what: Mapping[str, str], *more: str) -> int:
    """A hash of what a collective is: 64 bits, signed."""
    return _fingerprint("\0".join((*what, *what.values(), *more)))


@lru_cache(maxsize=256)
def _fingerprint(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=_HASH).digest(), "little", signed=True)


def _say_what_differs(details: Any, size: int, collective: Collective, number: int) -> Transfer:
    """Exchange the words, and raise on every rank."""
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
