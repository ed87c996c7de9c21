"""Gradients as bfloat16: half the bytes of float32, and the same bits at any number of ranks.

bfloat16 is the upper half of a float32: its range, and eight bits of precision. Every node of the fixed tree is rounded to it:
the leaves, and each sum of two nodes, which is formed in float32. So a node is the same number whether one rank forms it or
several do, and a rank may send any node as two bytes per element. The error of the sum is at most about (1 + log2 V) 2^-9 of the
sum of the absolute values; an all-reduce in bfloat16 around a ring of R ranks makes up to R such roundings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import kernels
from allgrad.comm import tree_all_reduce
from allgrad.kernels.blocks import spans
from allgrad.parallel.exchanges.base import Exchange
from allgrad.parallel.exchanges.registry import register_exchange

if TYPE_CHECKING:
    from allgrad.comm import Times
    from allgrad.parallel.exchanges.base import BucketGradients

Array = np.ndarray[Any, np.dtype[Any]]


@register_exchange("bf16")
class BF16Exchange(Exchange):
    """Sends bfloat16 and adds in float32; float64 gradients are rounded alike."""

    same_bits = True
    one_by_one = "the exchange bf16 rounds every sum of two workers' gradients"
    why = "every sum of the fixed tree is rounded to bfloat16, on whatever rank it is formed"

    posted: list[tuple[BucketGradients, Array]]

    def add(self, left: Array, right: Array) -> None:
        """left = the rounded sum of both, rounded."""
        for span in spans(left.size):
            sums = encoded(left[span])
            kernels.active().bf16_decode(added(sums, encoded(right[span]), out=sums), left[span])

    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """Start the sum of a bucket."""
        if self.world.size == 1:
            kernels.active().bf16_decode(
                encoded(gradients.out), gradients.out
            )  # a sum is rounded, a single worker is not
            return
        nodes = [(level, place, encoded(array)) for level, place, array in gradients.nodes]
        out = nodes[0][2]
        handle = tree_all_reduce(
            self.world.transport,
            nodes,
            out,
            virtual_workers=self.virtual_workers,
            label=gradients.bucket.label,
            step=step,
            layout=f"{gradients.layout} bf16",
            ready=ready,
            guard=[*(array for *_, array in gradients.nodes), gradients.out, *gradients.views],
            add=lambda left, right, out: added(left, right, out=out),
        )
        self.handles.append(handle)
        self.posted.append((gradients, out))

    def finish(self) -> list[Times]:
        """Wait for the sums, and write them as the gradients' own dtype."""
        times = super().finish()
        posted, self.posted = self.posted, []
        for gradients, sums in posted:
            kernels.active().bf16_decode(sums, gradients.out)
        return times

    def bytes_per_step(self) -> float:
        """As the exact exchange, with two bytes for each element."""
        return sum(self.bytes_reduced(2 * (bucket.stop - bucket.start)) for bucket in self.buckets)


def encoded(values: Array) -> Array:
    """The nearest bfloat16 of each value (ties to even, NaN stays NaN), as uint16.

    >>> [hex(x) for x in encoded(np.float32([1.0, 1.00390625, 1.01171875, np.nan, -np.inf, 3.4e38]))]
    ['0x3f80', '0x3f80', '0x3f82', '0x7fc0', '0xff80', '0x7f80']
    """
    out = np.empty(values.shape, np.uint16)
    kernels.active().bf16_encode(values, out)
    return out


def decoded(bits: Array) -> Array:
    """The float32 values of bfloat16 numbers."""
    out = np.empty(bits.shape, np.float32)
    kernels.active().bf16_decode(bits, out)
    return out


def added(left: Array, right: Array, *, out: Array | None = None) -> Array:
    """The rounded sum of two arrays of bfloat16 numbers; `out` may be one of them."""
    out = np.empty_like(left) if out is None else out
    kernels.active().bf16_add(left, right, out)
    return out
