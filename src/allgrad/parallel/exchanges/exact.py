"""The exact exchange, the default: sums over the fixed tree, the same bits at any number of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allgrad.comm import tree_all_reduce
from allgrad.parallel.exchanges.base import Exchange
from allgrad.parallel.exchanges.registry import register_exchange

if TYPE_CHECKING:
    from allgrad.parallel.exchanges.base import BucketGradients


@register_exchange("exact")
class ExactExchange(Exchange):
    """Adds the virtual workers' gradients in one fixed order; see `comm.tree`."""

    same_bits = True
    why = "gradients are summed over the fixed tree of virtual workers"
    in_shared_memory = True

    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """Start the sum of a bucket."""
        if self.world.size == 1:
            return  # its one node is the root of the tree
        handle = tree_all_reduce(
            self.world.transport,
            gradients.nodes,
            gradients.out,
            virtual_workers=self.virtual_workers,
            label=gradients.bucket.label,
            step=step,
            layout=gradients.layout,
            ready=ready,
            guard=gradients.views,
        )
        self.handles.append(handle)

    def bytes_per_step(self) -> float:
        """Twice the gradients, less this rank's share of them."""
        return sum(self.bytes_reduced(bucket.nbytes) for bucket in self.buckets)
