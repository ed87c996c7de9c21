"""Arrays from one rank to rank 0, for state that ranks hold apart and that a checkpoint wants whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .transport import Collective

if TYPE_CHECKING:
    from .transport import Lane, Transfer
    from .tree import Array
    from .world import World

_PIECE = 1 << 26  # bytes of a message


def to_rank_0(world: World, array: Array, owner: int) -> Array | None:
    """`owner`'s array on rank 0; None on the others. All ranks call it together, with arrays of one shape and dtype.

    Args:
        world: the ranks.
        array: C-contiguous; read on `owner` alone.
        owner: a rank.

    >>> from allgrad.comm import World
    >>> to_rank_0(World(), np.ones(2), 0)
    array([1., 1.])
    """
    if owner == 0:
        return array.copy() if world.rank == 0 else None
    result = np.empty_like(array) if world.rank == 0 else None
    memory = array if result is None else result
    mine = memory.reshape(-1).view(np.uint8)

    def transfer(lane: Lane) -> Transfer:
        pieces = [mine[start : start + _PIECE] for start in range(0, mine.size, _PIECE)]
        if world.rank == 0:
            yield [lane.comm.Irecv(piece, owner, lane.tag) for piece in pieces]
        elif world.rank == owner:
            yield [lane.comm.Isend(piece, 0, lane.tag) for piece in pieces]
        else:
            yield []

    what = {"collective": "to rank 0", "owner": str(owner), "elements": f"{array.size} {array.dtype.str}"}
    world.transport.submit(Collective(what, iter([transfer]), array.nbytes, label="state")).wait()
    return result
