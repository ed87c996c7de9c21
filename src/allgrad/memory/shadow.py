"""A shadow of memory that processes share, so that the death of one in the middle of an update destroys nothing.

The contract
------------
- Before the processes write into the arenas of a `FlatParameters` (an update, a swap with averages, a load), they call `save`.
  Each of them copies its share of every arena into the shadow, which is shared as well, and then marks it with the number of
  this `save`. They call it when all of them have left the write before this one, and write when all have called it (the first
  barrier of `FlatParameters.updating`).
- If a process dies, one that is left may call `restore`: every share that is marked with the number of the caller's own last
  `save` is copied back. A share without that mark was not written since: its owner died before all of them had called `save`.
- So after `restore` the arenas hold what they held at the caller's last `save`, whatever was written since, and whoever died in
  the middle of it. The caller must know whether it wants that: if the write was finished anywhere, every process had made its
  part of it, and what the arenas hold is whole. `restore` may be interrupted by a death and called again, by any process whose
  last `save` is the same.

A mark is removed before the shadow is overwritten, so a share that was copied only in part has none.

It costs a second copy of parameters, moments and averages, and a copy of them in each step: as much memory traffic as the update.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.memory.allocator import ALIGNMENT
from allgrad.memory.sharing import share_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allgrad.memory.allocator import Array
    from allgrad.memory.flat import FlatParameters

_LINE = ALIGNMENT // 8  # marks of different processes are on different cache lines


class Shadow:
    """The shadow of shared flat memory; see the top of this file. All processes make it together.

    Args:
        flat: its memory as it is now, and the arenas that it has now.

    Attributes:
        sharing: the processes. After `FlatParameters.move` there are others, and the shadow is of no use.
        saves: how often this process has called `save`.
    """

    def __init__(self, flat: FlatParameters) -> None:
        self.sharing, self.saves = flat.sharing, 0
        self._pairs = [(arena.layout, arena.flat, arena.new_arrays(self.sharing.allocate)) for arena in flat.arenas]
        self._marks = self.sharing.allocate(self.sharing.ranks * _LINE, np.dtype(np.int64))[::_LINE]
        self._own = list(self._shares(self.sharing.rank))

    def save(self) -> None:
        """Copy this process's share into the shadow."""
        self.saves += 1
        self._marks[self.sharing.rank] = 0
        for values, shadow in self._own:
            np.copyto(shadow, values)
        self._marks[self.sharing.rank] = self.saves

    def restore(self) -> None:
        """Copy the shares of all processes back that were saved when this process called `save` last."""
        for rank in np.flatnonzero(self._marks == self.saves).tolist():
            for values, shadow in self._shares(rank):
                np.copyto(values, shadow)

    def _shares(self, rank: int) -> Iterator[tuple[Array, Array]]:
        """What process number `rank` copies: its share of each array, and of its shadow."""
        for layout, values, shadow in self._pairs:
            for dtype, (start, stop) in share_of(layout, rank, self.sharing.ranks, whole=False).items():
                yield values[dtype][start:stop], shadow[dtype][start:stop]
