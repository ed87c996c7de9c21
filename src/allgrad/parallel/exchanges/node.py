"""The exchange of `memory: node`: sums in memory that the ranks of a node share. The same bits as the exact exchange.

Each rank's workers collect their gradients in arenas that all ranks of the node see. When the gradients of all ranks are final,
each rank adds up its slice of every bucket, in the order of the fixed tree, and writes the sum into the one arena that is
everybody's `flat.grads`. That arena is also the first one of the node's first rank, so no memory is needed for the sums.

On one node, nothing is sent: all additions are made in `finish`, between two barriers. (Ranks have a core each, so there
is nobody who could add during the backward pass without taking time from it.)

Between nodes, the owner of a slice adds what its own node has, and exchanges the partial sums with the owners of the same
slice on the other nodes. All owners do this at once, each over a communicator of its own, bucket by bucket during the backward
pass. The slices are cut for the node with the fewest ranks; other ranks of larger nodes own none. The tree is the same,
because workers are numbered in (node, local rank) order: a node's ranks run neighbouring workers.

When may an owner read what another rank of its node has written? After the check that precedes each collective
(`comm/desync.py`), or the barrier: a rank takes part in these when its gradients are final, and both order memory.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.comm import Collective, Kind, Node, Times, additions, block, collectives, plan_block
from allgrad.comm.all_reduce import CHUNK_BYTES
from allgrad.comm.tree import maximal_nodes
from allgrad.memory import Arena
from allgrad.parallel.exchanges.base import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allgrad.comm import Lane, NodeMemory, Transfer, World
    from allgrad.memory import FlatParameters
    from allgrad.parallel.buckets import Bucket
    from allgrad.parallel.exchanges.base import BucketGradients

    Array = np.ndarray[Any, np.dtype[Any]]

GRAIN = 4096
"""Elements below which a bucket is not cut further: its first ranks add it."""

# Elements that are added at a time where there are several additions, so that partial sums stay in cache.
_BLOCK = 1 << 15
_LINE = 64


class _Sums(NamedTuple):
    """The additions (left, right, result) for a slice, and the nodes of the tree that they leave, with their arrays."""

    own: slice
    steps: list[tuple[Array, Array, Array]]
    left: list[tuple[Node, Array]]

    def add_up(self, part: slice | None = None) -> None:
        """Make the additions, or those for a part of the slice."""
        for left, right, out in self.blocks(part):
            np.add(left, right, out=out)

    def blocks(self, part: slice | None = None) -> Iterator[tuple[Array, Array, Array]]:
        """The additions of `add_up`, in pieces whose partial sums stay in cache."""
        size = self.steps[0][0].size if self.steps else 0
        first, stop, _ = (part or slice(0, size)).indices(size)
        length = size if len(self.steps) == 1 else _BLOCK
        for start in range(first, stop, max(length, 1)):
            span = slice(start, min(start + length, stop))
            for left, right, out in self.steps:
                yield left[span], right[span], out[span]


class NodeExchange(Exchange):
    """Sums over the ranks of a node in shared memory, and over nodes by messages.

    Args:
        memory: what the ranks of this node share.

    Attributes:
        slices: into how many parts the buckets are cut; each is added by one rank of each node.
        firsts: the first rank of each node.
        table: the nodes of the tree that each node's ranks add up.
    """

    same_bits = True
    why = "gradients are summed over the fixed tree of virtual workers"

    def __init__(self, memory: NodeMemory) -> None:
        self.memory = memory
        self._posted: list[tuple[BucketGradients, int, float]] = []  # with the step, and when they became final
        self._guarded: list[Array] = []
        self._sums: dict[tuple[int, int], _Sums | None] = {}
        self._planned: dict[tuple[int, ...], tuple[Kind, Array]] = {}
        self._owners: Any = None  # the communicator of this slice's owners

    def open(self, world: World, virtual_workers: int, flat: FlatParameters, buckets: Sequence[Bucket]) -> None:
        """Find out who owns which slices, and connect the owners."""
        super().open(world, virtual_workers, flat, buckets)
        self.slices = min(world.node_sizes)
        edges = np.cumsum([0, *world.node_sizes]).tolist()
        self.firsts = edges[:-1]
        blocks = [block(rank, world.size, virtual_workers) for rank in range(world.size)]
        spans = [range(blocks[a].start, blocks[b - 1].stop) for a, b in itertools.pairwise(edges)]
        self.table = [maximal_nodes(workers, virtual_workers) for workers in spans]
        if world.nodes > 1:
            owner = world.local_rank < self.slices
            self._owners = world.counted(world.comm.Split(world.local_rank if owner else self.slices, world.node))

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
        self._out = flat.grads.flat
        self._sums.clear()
        self._planned.clear()
        assert len(mine) == count
        return mine

    @property
    def path(self) -> str:
        """In words."""
        inside = "in the memory that the ranks of a node share"
        return inside if self.world.nodes == 1 else f"{inside}, and by messages between nodes"

    def bytes_per_step(self) -> float | None:
        """Nothing inside a node; between nodes, what an all-reduce of the own slices sends."""
        nodes = self.world.nodes
        if nodes == 1 or self.memory.rank >= self.slices:
            return 0
        owned = 0
        for bucket in self.buckets:
            own = self._own(bucket, 0, 1)
            owned += 0 if own is None else (own.stop - own.start) * bucket.dtype.itemsize
        return owned * (len(self.table[self.world.node]) + 1) * (nodes - 1) / nodes

    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """This rank's part of a bucket is final: nobody writes it until `finish`."""
        if self.world.nodes > 1:
            self._send(gradients, step, ready)
            return
        for array in gradients.views:
            if array.flags.writeable:
                array.setflags(write=False)
                self._guarded.append(array)
        self._posted.append((gradients, step, ready))

    def finish(self) -> list[Times]:
        """Return when all ranks of this node have the sums of all buckets."""
        if self.handles:
            times = super().finish()
            self.memory.barrier()
            return times
        if not (posted := self._posted):
            return []
        try:
            began, done = self.world.sum_in_memory(*self._plan_for([gradients.bucket for gradients, _, _ in posted]))
        finally:
            self._release()
        return [
            Times(gradients.bucket.label, step, gradients.bucket.nbytes, ready, began, began, done)
            for gradients, step, ready in posted
        ]

    def begin(self) -> None:
        """Forget the buckets of a step that failed, and wait until nobody reads the sums of the last step any more."""
        super().finish()
        self._release()
        self.memory.barrier()

    def _release(self) -> None:
        """Forget what was posted; its arrays can be written again."""
        for array in self._guarded:
            array.setflags(write=True)
        self._posted, self._guarded = [], []

    # Slices of buckets.

    def _plan_for(self, buckets: list[Bucket]) -> tuple[Kind, Array]:
        """What this rank adds when these buckets have been posted on a single node, for `World.sum_in_memory`."""
        order = tuple([bucket.index for bucket in buckets])
        if order not in self._planned:
            from allgrad.kernels import shared_sums  # numba is imported when it is needed

            what = {
                "collective": "all-reduce (node)",
                "buckets": ", ".join(bucket.label for bucket in buckets),
                "layout": self.flat.layout.digest(),
                "virtual workers": str(self.virtual_workers),
            }
            own = [sums for bucket in buckets if (sums := self._summed(bucket, 0, 1)) is not None]
            rows = [shared_sums.row(*addition) for sums in own for addition in sums.blocks()]
            self._planned[order] = Kind(what), np.array(rows, np.int64).reshape(-1)
        return self._planned[order]

    def _own(self, bucket: Bucket, chunk: int, chunks: int) -> slice | None:
        """The elements of a bucket, counted from its start, that this rank adds up, or one chunk of them."""
        size, grain = bucket.stop - bucket.start, _LINE // bucket.dtype.itemsize
        slices = max(1, min(self.slices, size // GRAIN))
        rank = self.memory.rank
        if rank >= slices:
            return None
        cuts = (rank * chunks + chunk, rank * chunks + chunk + 1)
        start, stop = (cut * size // (slices * chunks) // grain * grain for cut in cuts)
        return slice(start, size if cuts[1] == slices * chunks else stop)

    def _whole(self, bucket: Bucket) -> _Sums:
        """The additions for all of a bucket, to be made part by part."""
        found = self._sums.get((bucket.index, -1))
        if found is None:
            found = self._sums[bucket.index, -1] = self._plan(bucket, slice(0, bucket.stop - bucket.start))
        return found

    def _summed(self, bucket: Bucket, chunk: int, chunks: int) -> _Sums | None:
        """The additions for one chunk of this rank's slice of a bucket; None if it has no slice."""
        if (bucket.index, chunk) not in self._sums:
            own = self._own(bucket, chunk, chunks)
            self._sums[bucket.index, chunk] = None if own is None else self._plan(bucket, own)
        return self._sums[bucket.index, chunk]

    def _plan(self, bucket: Bucket, own: slice) -> _Sums:
        arrays = [bucket.of(flat)[own] for _, flat in self._nodes]
        order, left = additions([node for node, _ in self._nodes], self.virtual_workers)
        steps = [(arrays[a], arrays[b], arrays[a]) for a, b in order]
        if self.world.nodes == 1:  # the last addition gives the sum; its first operand may be anywhere
            steps[-1] = (*steps[-1][:2], bucket.of(self._out)[own])
        return _Sums(own, steps, [(node, arrays[at]) for node, at in left])

    # Between nodes.

    def _send(self, gradients: BucketGradients, step: int, ready: float) -> None:
        bucket, out = gradients.bucket, gradients.out.view()
        chunks = max(1, -(-bucket.nbytes // (self.slices * CHUNK_BYTES)))

        def transfers() -> Iterator[Callable[[Lane], Transfer]]:
            return (partial(self._transfer, bucket, out, chunk, chunks) for chunk in range(chunks))

        what = {
            "collective": "all-reduce (node)",
            "bucket": bucket.label,
            "step": str(step),
            "elements": f"{out.size} {out.dtype.str}",
            "layout": gradients.layout,
            "virtual workers": str(self.virtual_workers),
        }
        collective = Collective(
            what, transfers(), bucket.nbytes, label=bucket.label, step=step, ready=ready, guard=gradients.views
        )
        self.handles.append(self.world.transport.submit(collective))

    def _transfer(self, bucket: Bucket, out: Array, chunk: int, chunks: int, lane: Lane) -> Transfer:
        """One chunk of this rank's slice: add up what the node has, then exchange it with the other nodes."""
        sums = self._summed(bucket, chunk, chunks)
        if sums is None:
            return
        sums.add_up()
        yield from collectives.owners(
            self._owners, self.world.node, self.world.nodes, sums.left, out[sums.own],
            virtual_workers=self.virtual_workers, tag=lane.tag, scratch=lane.scratch, table=self.table,
        )  # fmt: skip


def _arena(flat: FlatParameters, arrays: dict[np.dtype[Any], Array]) -> Arena:
    return Arena(flat.layout, lambda length, dtype: arrays[dtype])  # noqa: ARG005
