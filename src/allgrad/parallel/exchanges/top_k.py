"""Top-k sparsification: a sender sends the largest entries of its gradient, and keeps the others for later.

For each parameter of n elements, a sender picks the k = ceil(fraction n) entries of p = g + e with the largest absolute values;
of equal ones, those that come first. It sends their places and values, 4 bytes and the dtype's size for each, and keeps
e = p without them. Every rank receives the entries of all senders, and adds them up in the order of the senders.

Reference: Stich, Cordonnier & Jaggi, "Sparsified SGD with Memory" (NeurIPS 2018); Aji & Heafield, "Sparse Communication for
Distributed Gradient Descent" (EMNLP 2017). The choice is made for each parameter, as in Lin et al., "Deep Gradient
Compression" (ICLR 2018), so it does not depend on how parameters share buckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Gt, Le

from allgrad.comm import Collective, block
from allgrad.errors import OptionError
from allgrad.parallel.exchanges.error_feedback import ErrorFeedbackExchange, Per
from allgrad.parallel.exchanges.registry import register_exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.comm import Lane, Times, Transfer, World
    from allgrad.memory import FlatParameters
    from allgrad.parallel.buckets import Bucket
    from allgrad.parallel.exchanges.base import BucketGradients

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class _Posted:
    """A bucket under way: local senders' corrected gradients and places, and the memory for all ranks' messages."""

    gradients: BucketGradients
    corrected: list[Array]
    places: list[Array]
    everyone: Array


@register_exchange("top_k")
class TopKExchange(ErrorFeedbackExchange):
    """Sends the largest entries of each gradient.

    Args:
        fraction: the share of entries that is sent.
        error_feedback: whether entries that were not sent are added to the next gradient.
        per: who chooses and keeps errors: each virtual `worker` (same bits at any number of ranks) or each `rank` (less memory
            and fewer bytes).
    """

    posted: list[_Posted]

    def __init__(
        self, *, fraction: Annotated[float, Gt(0), Le(1)] = 0.01, error_feedback: bool = True, per: Per = "worker"
    ) -> None:
        if not 0 < fraction <= 1:
            raise OptionError(f"fraction must be more than 0 and at most 1. Got {fraction!r} instead.")
        super().__init__(per=per, keep_errors=error_feedback)
        self.fraction = fraction

    def open(self, world: World, virtual_workers: int, flat: FlatParameters, buckets: Sequence[Bucket]) -> None:
        """Called once, before the first step."""
        super().open(world, virtual_workers, flat, buckets)
        ranks = range(world.size)
        self._rows = [len(block(r, world.size, virtual_workers)) if self.per_worker else 1 for r in ranks]

    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """Choose the entries, and send them to all ranks."""
        corrected, slots = self.corrected(gradients), self.slots(gradients.bucket)
        places = [self._choose(array, slots) for array in corrected]
        dtype = gradients.out.dtype
        message = _message_type(places[0].size, dtype)
        mine = np.zeros(max(self._rows), message)
        for row, array, chosen in zip(mine, corrected, places, strict=False):
            row["places"], row["values"] = chosen, array[chosen]
        everyone = np.empty((self.world.size, mine.size), message)
        self.posted.append(_Posted(gradients, corrected, places, everyone))
        if self.world.size == 1:
            everyone[0] = mine
            return
        sent, received = mine.view(np.uint8), everyone.reshape(-1).view(np.uint8)

        def transfer(lane: Lane) -> Transfer:
            yield [lane.comm.Iallgather(sent, received)]

        what = {
            "collective": "all-gather (top_k)",
            "bucket": gradients.bucket.label,
            "step": str(step),
            "elements": f"{places[0].size} of {gradients.out.size} {dtype.str}",
            "layout": gradients.layout,
            "senders": f"{self.sender_count} {self.per}s",
        }
        guard = [*(array for *_, array in gradients.nodes), gradients.out, *gradients.views]
        collective = Collective(
            what, iter([transfer]), sent.nbytes, label=gradients.bucket.label, step=step, ready=ready, guard=guard
        )
        self.handles.append(self.world.transport.submit(collective))

    def _choose(self, values: Array, slots: list[tuple[Any, slice]]) -> Array:
        chosen = [largest(values[span], math.ceil(self.fraction * slot.size)) + span.start for slot, span in slots]
        return np.concatenate(chosen) if chosen else np.empty(0, np.int64)

    def finish(self) -> list[Times]:
        """Wait for all entries, keep what was not sent, and add up what was."""
        times = super().finish()
        posted, self.posted = self.posted, []
        if self.keep_errors and all(np.isfinite(each.everyone["values"]).all() for each in posted):
            for each in posted:
                for sender, array, places in zip(self.senders, each.corrected, each.places, strict=True):
                    error = each.gradients.bucket.of(self.errors[sender].flat)
                    error[:] = array
                    error[places] = 0
        for each in posted:
            out = each.gradients.out
            out[:] = 0
            for rows, count in zip(each.everyone, self._rows, strict=True):
                for row in rows[:count]:
                    out[row["places"]] += row["values"]  # no place occurs twice in a row
        return times

    def bytes_per_step(self) -> float:
        """Places and values, for each sender of the rank with the most, to every other rank."""
        entries = [
            (math.ceil(self.fraction * slot.size), slot.dtype)
            for bucket in self.buckets
            for slot, _ in self.slots(bucket)
        ]
        return (self.world.size - 1) * max(self._rows) * sum(k * (4 + dtype.itemsize) for k, dtype in entries)


def _message_type(entries: int, dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype([("places", np.uint32, (entries,)), ("values", dtype, (entries,))])


def largest(values: Array, k: int) -> Array:
    """The places of the k entries with the largest absolute values, ascending; of equal ones, those that come first.

    NaN counts as infinite: it must not get lost.

    >>> largest(np.array([1.0, -3.0, 2.0, 3.0, -2.0]), 3).tolist()
    [1, 2, 3]
    """
    sizes = np.abs(values)
    if k >= sizes.size:
        return np.arange(sizes.size)
    if np.isnan(sizes).any():
        sizes[np.isnan(sizes)] = np.inf
    limit = np.partition(sizes, sizes.size - k)[sizes.size - k]
    above = np.flatnonzero(sizes > limit)
    equal = np.flatnonzero(sizes == limit)[: k - above.size]
    return np.sort(np.concatenate([above, equal]))
