"""The MPI library's own all-reduce. It adds in an order of its own, so the bits depend on the number of ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.comm import Collective
from allgrad.parallel.exchanges.base import Exchange
from allgrad.parallel.exchanges.registry import register_exchange

if TYPE_CHECKING:
    from allgrad.comm import Lane, Transfer
    from allgrad.parallel.exchanges.base import BucketGradients


@register_exchange("mpi")
class MPIExchange(Exchange):
    """`MPI_Iallreduce` of what this rank's virtual workers add up to."""

    same_bits = False
    why = "the MPI library chooses the order of additions"

    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """Start the sum of a bucket."""
        if self.world.size == 1:
            return  # `out` holds the sum
        bucket, out = (
            gradients.bucket,
            gradients.out.view(),
        )  # views stay writable while the arrays themselves are guarded
        arrays = [array.view() for *_, array in gradients.nodes]

        def transfer(lane: Lane) -> Transfer:
            from mpi4py import MPI

            if not any(array.ctypes.data == out.ctypes.data for array in arrays):
                out.fill(0)
            for array in arrays:
                if array.ctypes.data != out.ctypes.data:
                    np.add(out, array, out=out)
            yield [lane.comm.Iallreduce(MPI.IN_PLACE, out, MPI.SUM)]

        what = {
            "collective": "all-reduce (mpi)",
            "bucket": bucket.label,
            "step": str(step),
            "elements": f"{out.size} {out.dtype.str}",
            "layout": gradients.layout,
            "virtual workers": str(self.virtual_workers),
        }
        guard = [*(array for *_, array in gradients.nodes), gradients.out, *gradients.views]
        self.handles.append(
            self.world.transport.submit(
                Collective(what, iter([transfer]), out.nbytes, label=bucket.label, step=step, ready=ready, guard=guard)
            )
        )

    def bytes_per_step(self) -> float:
        """What the best all-reduce sends."""
        return 2 * (self.world.size - 1) * sum(bucket.nbytes for bucket in self.buckets) / self.world.size
