"""Sums of small vectors over the workers (metrics, counts of loss terms, batch statistics), added in the fixed tree's order."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .tree import additions, block, rank_nodes, root_level

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
    rows = np.asarray(per_worker, np.float64)
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
    rows = add_levels(rows, plan.own) if plan.own else rows.copy()  # the caller may write its own array meanwhile
    if world.size == 1:
        return lambda: rows[0]
    packed = rows
    if len(rows) != plan.rows:
        packed = np.zeros((plan.rows, rows.shape[1]))
        packed[: len(rows)] = rows
    fetch = all_gather(packed)

    def value() -> Array:
        everyone = fetch().reshape(-1, rows.shape[1]).copy()
        for left, right in plan.all:
            everyone[left] += everyone[right]
        root: Array = everyone[plan.root]
        return root

    return value


class _Plan(NamedTuple):
    """The additions of a tree sum.

    Attributes:
        workers: how many this rank has.
        own: those of their rows (`levels_of`). The rows that are left are this rank's maximal nodes.
        rows: how many rows each rank sends.
        all: those of the rows of all ranks, as (left, right), made in place, into the left one.
        root: the row that holds the sum after that.
    """

    workers: int
    own: list[tuple[int, int]]
    rows: int
    all: list[tuple[int, int]]
    root: int


@cache
def _plan(rank: int, ranks: int, virtual_workers: int) -> _Plan:
    workers, table = block(rank, ranks, virtual_workers), rank_nodes(ranks, virtual_workers)
    rows = max(len(nodes) for nodes in table)
    sent = [(node, rank * rows + i) for rank, nodes in enumerate(table) for i, node in enumerate(nodes)]
    steps, ((_, root),) = additions([node for node, _ in sent], virtual_workers)
    places = [place for _, place in sent]
    own = levels_of(workers, virtual_workers)
    return _Plan(len(workers), own, rows, [(places[a], places[b]) for a, b in steps], places[root])


def levels_of(workers: range, virtual_workers: int) -> list[tuple[int, int]]:
    """The additions inside a block of workers, one row each, level by level: (first, last) of the rows that are added in pairs.

    >>> levels_of(range(1, 7), 7)  # worker 1 waits for worker 0; 2 and 3, 4 and 5 are siblings; then (4, 5) and 6
    [(1, 5), (2, 4)]
    """
    starts, levels = list(workers), []  # the first worker of each row
    for level in range(root_level(virtual_workers)):
        half, whole = 1 << level, 2 << level
        rights = [
            worker
            for worker in starts
            if worker % whole == half
            and worker - half in starts
            and min(worker + half, virtual_workers) <= workers.stop
        ]
        if rights:
            levels.append((starts.index(rights[0]) - 1, starts.index(rights[-1]) + 1))
            starts = [worker for worker in starts if worker not in rights]
    return levels


def add_levels(rows: Array, levels: list[tuple[int, int]]) -> Array:
    """`rows` after these additions (`levels_of`); not in place."""
    for first, last in levels:
        sums = rows[first:last:2] + rows[first + 1 : last : 2]
        rows = sums if last - first == len(rows) else np.concatenate((rows[:first], sums, rows[last:]))
    return rows
