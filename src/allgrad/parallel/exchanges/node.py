"""The exchange of `memory: node`: sums in memory that the ranks of a node share. The same bits as the exact exchange.

Each rank's workers collect their gradients in arenas that all ranks of the node see. Nothing is sent: when the gradients of all
ranks are final, each rank adds up its slice of every bucket, in the order of the fixed tree, and writes the sum into the one
arena that is everybody's `flat.grads`. That arena is also the first one of the node's first rank, so no memory is needed
for the sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from allgrad.comm import Node, Times, additions, block, plan_block
from allgrad.memory import Arena
from allgrad.parallel.exchanges.base import Exchange

if TYPE_CHECKING:
    from allgrad.comm import NodeMemory
    from allgrad.memory import FlatParameters
    from allgrad.parallel.exchanges.base import BucketGradients

    Array = np.ndarray[Any, np.dtype[Any]]

GRAIN = 4096
"""Elements below which a bucket is not cut further: its first ranks add it."""

_BLOCK = (
    1 << 15
)  # elements that are added at a time where there are several additions, so that partial sums stay in cache


class _Posted(NamedTuple):
    gradients: BucketGradients
    step: int
    ready: float
    posted: float
    guarded: list[Array]


class NodeExchange(Exchange):
    """Sums over the ranks of a node in shared memory.

    Args:
        memory: what the ranks of this node share.
    """

    same_bits: ClassVar[bool] = True

    def __init__(self, memory: NodeMemory) -> None:
        self.memory = memory
        self._posted: list[_Posted] = []
        self._additions: dict[int, list[tuple[Array, Array, Array]]] = {}

    def arenas(self, flat: FlatParameters, count: int, *, separate: bool) -> list[Arena]:
        """This rank's arenas, in shared memory."""
        world, v = self.world, self.virtual_workers
        first = world.rank - world.local_rank
        plans = [plan_block(block(first + i, world.size, v), v, separate) for i in range(world.local_size)]
        rows = sum(plan.arrays for plan in plans) - 1
        memory = {dtype: self.memory.rows(rows, flat.layout.length(dtype), dtype) for dtype in flat.layout.dtypes}
        taken = 0
        self._nodes: list[tuple[Node, dict[np.dtype[Any], Array]]] = []
        mine: list[Arena] = []
        for rank, plan in enumerate(plans):
            arenas = [flat.grads.flat] if rank == 0 else []
            while len(arenas) < plan.arrays:
                arenas.append({dtype: memory[dtype][taken] for dtype in memory})
                taken += 1
            self._nodes += [(node, arenas[slot]) for node, slot in zip(plan.nodes, plan.slots, strict=True)]
            if rank == world.local_rank:
                mine = [flat.grads if each is flat.grads.flat else _arena(flat, each) for each in arenas]
        self._additions.clear()
        assert len(mine) == count
        return mine

    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """This rank's part of a bucket is final: nobody writes it until `finish`."""
        arrays = [*gradients.views, *(array for *_, array in gradients.nodes)]
        guarded = [array for array in arrays if array.flags.writeable]
        for array in guarded:
            array.flags.writeable = False
        self._posted.append(_Posted(gradients, step, ready, self.world.clock(), guarded))

    def finish(self) -> list[Times]:
        """Add up this rank's slice of every bucket, and wait until the other ranks have added theirs."""
        if not self._posted:
            return []
        posted, self._posted = self._posted, []
        self.memory.barrier()
        began = self.world.clock()
        with np.errstate(all="ignore"):  # a sum that overflows is for the trainer to detect
            for each in posted:
                self._add_up(each.gradients)
        self.memory.barrier()
        for array in (array for each in posted for array in each.guarded):
            array.flags.writeable = True
        done = self.world.clock()
        return [
            Times(
                each.gradients.bucket.label, each.step, each.gradients.out.nbytes, each.ready, each.posted, began, done
            )
            for each in posted
        ]

    def drop(self) -> None:
        """Forget the buckets of a step that failed."""
        posted, self._posted = self._posted, []
        for array in (array for each in posted for array in each.guarded):
            array.flags.writeable = True

    def _add_up(self, gradients: BucketGradients) -> None:
        index = gradients.bucket.index
        if index not in self._additions:
            self._additions[index] = self._plan(gradients)
        steps = self._additions[index]
        size = steps[0][0].size if steps else 0
        block = size if len(steps) == 1 else _BLOCK
        for start in range(0, size, max(block, 1)):
            span = slice(start, start + block)
            for left, right, out in steps:
                np.add(left[span], right[span], out=out[span])

    def _plan(self, gradients: BucketGradients) -> list[tuple[Array, Array, Array]]:
        """The additions (left, right, result) for this rank's slice of a bucket."""
        bucket, out = gradients.bucket, gradients.out
        slices = max(1, min(self.memory.ranks, out.size // GRAIN))
        if self.memory.rank >= slices:
            return []
        step = 64 // out.itemsize
        start, stop = (i * out.size // slices // step * step for i in (self.memory.rank, self.memory.rank + 1))
        own = slice(start, out.size if self.memory.rank == slices - 1 else stop)
        arrays = [bucket.of(flat)[own] for _, flat in self._nodes]
        steps, _ = additions([node for node, _ in self._nodes], self.virtual_workers)
        planned = [(arrays[left], arrays[right], arrays[left]) for left, right in steps]
        planned[-1] = (*planned[-1][:2], out.view()[own])
        return planned


def _arena(flat: FlatParameters, arrays: dict[np.dtype[Any], Array]) -> Arena:
    return Arena(flat.layout, lambda length, dtype: arrays[dtype])  # noqa: ARG005
