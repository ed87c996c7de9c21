"""Who shares flat memory: one process alone, or the ranks of a node.

The contract of shared memory
-----------------------------
- All processes make the same arrays in the same order, by `allocate`, and see the same numbers in them.
- Each process owns a share of every array (`share_of`). An update writes the own share only, between two barriers: before
  the first one, everybody has finished reading the old numbers, and after the second one everybody sees the new ones.
- Outside an update nobody writes. The views that the tape sees are read-only.

Data parallelism hands in a `Sharing` of several ranks (`comm.NodeMemory`). This package knows neither MPI nor how the memory
is shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from allgrad.memory.allocator import ALIGNMENT, Array, aligned_zeros

if TYPE_CHECKING:
    from allgrad.memory.arena import Layout

Share = dict[np.dtype[Any], tuple[int, int]]
"""A part of an arena: dtype to the elements [start, stop) of its flat array."""


class Sharing(Protocol):
    """The processes that share memory.

    Attributes:
        rank, ranks: the number of this process, and how many there are.
    """

    rank: int
    ranks: int

    def allocate(self, length: int, dtype: np.dtype[Any]) -> Array:
        """One array of zeros, the same memory for all; see `allocator.py`. All processes call it together."""
        ...

    def add_up(self, values: Array) -> Array:
        """The sum over all processes of a few numbers, (n,) float64, of which all but one process have 0."""
        ...

    def barrier(self) -> None:
        """Return when all processes have called this. What each of them wrote before, the others see after."""
        ...


class Private:
    """Memory of this process alone."""

    rank = 0
    ranks = 1

    def allocate(self, length: int, dtype: np.dtype[Any]) -> Array:
        return aligned_zeros(length, dtype)

    def add_up(self, values: Array) -> Array:
        return values

    def barrier(self) -> None:
        """There is nobody to wait for."""


PRIVATE = Private()


def share_of(layout: Layout, rank: int, ranks: int, *, whole: bool) -> Share:
    """The part of an arena that process number `rank` updates. The parts of all ranks cover the arena.

    Args:
        layout: of the arena.
        rank, ranks: which process, and how many there are.
        whole: cut between parameters only, as optimizers need that work on whole parameters; otherwise at any cache line.

    >>> from allgrad.memory import Layout, ParameterSpec
    >>> f = np.dtype("float32")
    >>> layout = Layout.plan([ParameterSpec("w", (100,), f), ParameterSpec("b", (4,), f)])
    >>> [share_of(layout, rank, 2, whole=False)[f] for rank in (0, 1)]
    [(0, 64), (64, 128)]
    >>> [share_of(layout, rank, 2, whole=True)[f] for rank in (0, 1)]
    [(0, 16), (16, 128)]
    """
    return {dtype: _cut(layout, dtype, rank, ranks, whole) for dtype in layout.dtypes}


def _cut(layout: Layout, dtype: np.dtype[Any], rank: int, ranks: int, whole: bool) -> tuple[int, int]:
    length, grain = layout.length(dtype), ALIGNMENT // dtype.itemsize
    wanted = [number * length // ranks // grain * grain for number in (rank, rank + 1)]
    if whole:
        edges = np.array([slot.offset for slot in layout.in_memory_order(dtype)] + [length])
        wanted = [int(edges[np.abs(edges - place).argmin()]) for place in wanted]
    start, stop = wanted
    return (0 if rank == 0 else start), (length if rank == ranks - 1 else stop)
