"""Sums of small vectors over the workers (metrics, counts of loss terms, batch statistics), added in the fixed tree's order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .collectives import assemble
from .tree import Assembly, Node, block, rank_nodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import Array
    from .world import World


def tree_sum(world: World, per_worker: Array, *, virtual_workers: int | None = None) -> Array:
    """The sum over all virtual workers of a vector that each of them has; the same bits at any rank count.

    All ranks call it, with the same n.

    Args:
        per_worker: (k, n) float64, this rank's k workers in order.
        virtual_workers: the number of virtual workers of all ranks; if it is None, one more exchange counts them.

    Returns:
        (n,) float64, on every rank.

    Raises:
        ValueError: k is not the number of workers of this rank; on every rank if `virtual_workers` is None.

    >>> from allgrad.comm import World
    >>> tree_sum(World(), np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([4., 6.])
    """
    return _tree_sum(world, per_worker, virtual_workers, lambda packed: partial(world.all_gather, packed))()


def tree_sum_later(world: World, per_worker: Array, *, virtual_workers: int | None = None) -> Callable[[], Array]:
    """Start a `tree_sum`; call the result to get the value. Ranks must start in the same order, and may fetch in any."""
    return _tree_sum(world, per_worker, virtual_workers, world.all_gather_later)


def _tree_sum(
    world: World,
    per_worker: Array,
    virtual_workers: int | None,
    all_gather: Callable[[Array], Callable[[], Array]],
) -> Callable[[], Array]:
    rows = np.array(per_worker, np.float64, order="C")  # a copy: the tree adds in place
    if rows.ndim != 2:
        raise ValueError(
            f"The per_worker parameter of tree_sum must be (workers, values). Got shape {rows.shape} instead."
        )
    if virtual_workers is None:
        counts = world.all_gather(np.array([len(rows)])).reshape(-1)
        virtual_workers = int(counts.sum())
        expected = [len(block(rank, world.size, virtual_workers)) for rank in range(world.size)]
        if counts.tolist() != expected:
            raise ValueError(
                f"The ranks gave tree_sum {counts.tolist()} rows; {virtual_workers} workers on {world.size} ranks are {expected}."
            )
    workers = block(world.rank, world.size, virtual_workers)
    if len(rows) != len(workers):
        raise ValueError(
            f"The per_worker parameter of tree_sum must have a row for each of rank {world.rank}'s {len(workers)} workers "
            f"({virtual_workers} in all). Got {len(rows)} rows instead."
        )
    mine = Assembly(virtual_workers)
    for worker, row in zip(workers, rows, strict=True):
        mine.add(Node(0, worker), row)
    root = mine.root
    if root is not None:
        return lambda: root
    table = rank_nodes(world.size, virtual_workers)
    packed = np.zeros((max(len(nodes) for nodes in table), rows.shape[1]))
    for row, node in zip(packed, table[world.rank], strict=False):
        row[:] = mine.pending[node]
    fetch = all_gather(packed)

    def value() -> Array:
        out = np.empty(rows.shape[1])
        assemble(fetch(), out, virtual_workers=virtual_workers)
        return out

    return value
