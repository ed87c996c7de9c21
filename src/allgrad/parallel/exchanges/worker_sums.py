"""The sum over all virtual workers of what each of them has, for exchanges that are `per_worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.comm import Node, block, tree_all_reduce
from allgrad.comm.tree import Assembly, maximal_nodes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.comm import Group, Handle, World

    Array = np.ndarray[Any, np.dtype[Any]]


def sum_over_workers(
    world: World,
    virtual_workers: int,
    arrays: Sequence[Array],
    out: Array,
    *,
    label: str,
    step: int,
    layout: str = "",
    ready: float | None = None,
    guard: Sequence[Array] = (),
    group: Group | None = None,
) -> Handle | None:
    """Start the sum over the fixed tree; None if there is nothing to wait for.

    Args:
        world: the ranks.
        virtual_workers: the number of virtual workers of all ranks.
        arrays: one for each worker of this rank, in their order; flat, contiguous, of one dtype and length. Overwritten.
        out: receives the sum; it may be one of `arrays`.
        label, step, layout, ready, guard, group: see `tree_all_reduce`.
    """
    among = world if group is None else group
    workers = block(among.rank, among.size, virtual_workers)
    mine = Assembly(virtual_workers)
    for worker, array in zip(workers, arrays, strict=True):
        mine.add(Node(0, worker), array.view())
    if mine.root is not None:
        if mine.root.ctypes.data != out.ctypes.data:
            np.copyto(out, mine.root)
        return None
    nodes = maximal_nodes(workers, virtual_workers)
    return tree_all_reduce(
        world.transport,
        [(*node, mine.pending[node]) for node in nodes],
        out.view(),  # the array itself may be the owner of a node's memory, and an owner is guarded after its views
        virtual_workers=virtual_workers,
        label=label,
        step=step,
        layout=layout,
        ready=ready,
        guard=guard,
        group=group,
    )
