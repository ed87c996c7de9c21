"""`memory: node` with `shard: optimizer` on several nodes: one model per node, and a part of the optimizer's state on each.

Inside a node nothing changes: gradients are added in shared memory, and there is one copy of the parameters. Between nodes it is
ZeRO-1 (`sharded.py`): the ranks with the same number on their nodes are peers. A rank adds what its node has of the spans that it
and its peers own, sends each peer the sums of the peer's spans, updates its own spans, and gets those of its peers. So all ranks
of a node send at once, each its part. On a node that has more ranks than the smallest one, the others own nothing.

The optimizer's arenas are shared by the node. They take address space for the whole model, and memory for the spans that ranks
of this node own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.parallel.exchanges.node import NodeExchange
from allgrad.parallel.exchanges.sharded import SpanUpdates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.comm import Handle, World
    from allgrad.memory import FlatParameters
    from allgrad.parallel.buckets import Bucket
    from allgrad.parallel.exchanges.base import BucketGradients


class NodeShardedExchange(SpanUpdates, NodeExchange):
    """Sums over the ranks of a node in shared memory, and over nodes to the owners of spans, which update them."""

    def open(self, world: World, virtual_workers: int, flat: FlatParameters, buckets: Sequence[Bucket]) -> None:
        """Find this rank's peers."""
        super().open(world, virtual_workers, flat, buckets)
        self.peers = {first + world.local_rank: nodes for first, nodes in zip(self.firsts, self.table, strict=True)}
        if world.local_rank >= self.slices:
            self.peers = {world.rank: ()}
        self.memory.reserve = False  # what the optimizer allocates from now on

    def owners(self) -> list[int]:
        """The first ranks of each node, as many as the smallest node has."""
        return [first + number for first in self.firsts for number in range(self.slices)]

    def _send(self, gradients: BucketGradients, step: int, ready: float) -> None:
        sums = self._whole(gradients.bucket)
        nodes = [(*node, array.view()) for node, array in sums.left]  # views: these are read-only until they are summed
        self.reduce_scatter(gradients, step, ready, nodes=nodes, prepare=sums.add_up)

    def complete(self, gathers: list[tuple[Bucket, Handle]]) -> None:
        """The parameters of a node are complete when all its ranks have got theirs, so all wait for that now."""
        for _, handle in gathers:
            handle.wait()
        self.memory.barrier()
