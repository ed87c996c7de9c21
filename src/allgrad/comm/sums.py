"""Sums of small vectors over the workers (metrics, counts of loss terms, batch statistics), added in the fixed tree's order."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .tree import Node, additions, block, rank_nodes, root_level

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
    plan = _plan(world.rank, world.size, virtual_workers)
    if len(rows) != plan.workers:
        raise ValueError(
            f"The per_worker parameter of tree_sum must have a row for each of rank {world.rank}'s {plan.workers} workers "
            f"({virtual_workers} in all). Got {len(rows)} rows instead."
        )
    for level, right in plan.own:
        left = rows[level]
        np.add(left, rows[right], out=left)
    if world.size == 1:
        return lambda: rows[plan.nodes[0]]
    packed = rows[: plan.rows]
    if plan.nodes != list(range(plan.rows)):
        packed = np.zeros((plan.rows, rows.shape[1]))
        packed[: len(plan.nodes)] = rows[plan.nodes]
    fetch = all_gather(packed)

    def value() -> Array:
        everyone = fetch().reshape(-1, rows.shape[1]).copy()
        for left, right in plan.all:
            everyone[left] += everyone[right]
        root: Array = everyone[plan.root]
        return root

    return value


class _Plan(NamedTuple):
    """The additions of a tree sum, as (left, right); each is made in place, into the left one.

    Attributes:
        workers: how many this rank has.
        own: the additions of their rows: all of one level of the tree at once.
        nodes: the rows that hold this rank's maximal nodes after that.
        rows: how many rows each rank sends.
        all: the additions of the rows of all ranks, one row to another.
        root: the row that holds the sum after that.
    """

    workers: int
    own: list[tuple[slice, slice]]
    nodes: list[int]
    rows: int
    all: list[tuple[int, int]]
    root: int


@cache
def _plan(rank: int, ranks: int, virtual_workers: int) -> _Plan:
    workers, table = block(rank, ranks, virtual_workers), rank_nodes(ranks, virtual_workers)
    _, left = additions([Node(0, worker) for worker in workers], virtual_workers)
    rows = max(len(nodes) for nodes in table)
    sent = [(node, rank * rows + i) for rank, nodes in enumerate(table) for i, node in enumerate(nodes)]
    steps, ((_, root),) = additions([node for node, _ in sent], virtual_workers)
    places = [place for _, place in sent]
    return _Plan(
        len(workers), _by_level(workers, virtual_workers), [place for _, place in left], rows,
        [(places[a], places[b]) for a, b in steps], places[root],
    )  # fmt: skip


def _by_level(workers: range, virtual_workers: int) -> list[tuple[slice, slice]]:
    """The additions of the nodes inside a block of workers, level by level; a node's row is that of its first worker.

    >>> _by_level(range(1, 7), 7)
    [(slice(1, 4, 2), slice(2, 5, 2)), (slice(3, 4, 4), slice(5, 6, 4))]
    """
    levels = []
    for level in range(root_level(virtual_workers)):
        half, whole = 1 << level, 2 << level
        first = -(-workers.start // whole) * whole
        lefts = [
            left - workers.start
            for left in range(first, workers.stop - half, whole)
            if min(left + whole, virtual_workers) <= workers.stop
        ]
        if lefts:
            start, stop = lefts[0], lefts[-1] + 1
            levels.append((slice(start, stop, whole), slice(start + half, stop + half, whole)))
    return levels
