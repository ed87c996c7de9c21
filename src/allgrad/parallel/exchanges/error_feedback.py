"""Error feedback: what a sender leaves out of one step, it adds to its gradient in the next.

A lossy exchange sends a compressed form c of the corrected gradient p = g + e, and keeps the error e = p - (what c stands for).
So nothing is lost for good, only late, and training converges although single steps are far off (Karimireddy et al., "Error
Feedback Fixes SignSGD and other Gradient Compression Schemes", ICML 2019).

Who a sender is decides about bits:

- `per: worker`: each virtual worker compresses its own gradient and has its own error. What it sends does not depend on the
  rank that runs it, so the weights have the same bits at any number of ranks, and a checkpoint, which has the error of every
  worker, continues on any number of ranks. It costs one gradient and one error in memory for each local worker.
- `per: rank`: each rank compresses the sum over its workers. That costs one error per rank, and at times fewer bytes, but bits
  depend on the number of ranks, and a checkpoint continues on the same number only.

A step whose sums are not finite changes no error (`train.nonfinite: skip` goes on from there).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.comm import block
from allgrad.comm.gather import to_rank_0
from allgrad.errors import OptionError
from allgrad.memory import Arena
from allgrad.parallel.exchanges.base import Exchange
from allgrad.stateful import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allgrad.comm import World
    from allgrad.memory import FlatParameters, Slot
    from allgrad.parallel.buckets import Bucket
    from allgrad.parallel.exchanges.base import BucketGradients

Array = np.ndarray[Any, np.dtype[Any]]
Per = Literal["worker", "rank"]


class ErrorFeedbackExchange(Exchange):
    """What lossy exchanges have in common.

    Args:
        per: who compresses: each virtual worker or each rank.
        keep_errors: whether there is error feedback at all.

    Attributes:
        senders: this rank's senders: the numbers of its workers, or its own number.
        errors: sender -> its error.
    """

    def __init__(self, *, per: Per, keep_errors: bool = True) -> None:
        if per not in ("worker", "rank"):
            raise OptionError(f"per must be 'worker' or 'rank'. Got {per!r} instead.")
        self.per, self.keep_errors = per, keep_errors
        self.same_bits = self.per_worker = per == "worker"
        self.why = (
            "each virtual worker compresses its own gradient"
            if self.per_worker
            else "each rank compresses the sum over its virtual workers"
        )

    def open(self, world: World, virtual_workers: int, flat: FlatParameters, buckets: Sequence[Bucket]) -> None:
        """Called once, before the first step."""
        super().open(world, virtual_workers, flat, buckets)
        self.senders = self._senders_of(world.rank)
        self.errors = {sender: Arena(flat.layout) for sender in self.senders} if self.keep_errors else {}
        self._gathered: dict[int, dict[np.dtype[Any], Array]] = {}

    def _senders_of(self, rank: int) -> list[int]:
        return list(block(rank, self.world.size, self.virtual_workers)) if self.per_worker else [rank]

    @property
    def sender_count(self) -> int:
        """The number of senders of all ranks."""
        return self.virtual_workers if self.per_worker else self.world.size

    def corrected(self, gradients: BucketGradients) -> list[Array]:
        """Each local sender's gradient plus its error, in the memory of the gradient."""
        arrays = [array.view() for *_, array in gradients.nodes]  # views stay writable while the arrays are guarded
        if not self.per_worker:
            for other in arrays[1:]:
                arrays[0] += other
        arrays = arrays[: len(self.senders)]
        if self.keep_errors:
            for sender, array in zip(self.senders, arrays, strict=True):
                array += gradients.bucket.of(self.errors[sender].flat)
        return arrays

    def slots(self, bucket: Bucket) -> list[tuple[Slot, slice]]:
        """The parameters of a bucket, and their places in its arrays."""
        found = [self.flat.layout[name] for name in bucket.names]
        return [(slot, slice(slot.offset - bucket.start, slot.stop - bucket.start)) for slot in found if slot.size]

    # What a checkpoint stores.

    def gather_state(self) -> None:
        """Bring the errors of all senders to rank 0."""
        for rank in range(self.world.size if self.keep_errors else 0):
            for sender in self._senders_of(rank):
                flat = self.errors[sender if rank == self.world.rank else self.senders[0]].flat
                found = {dtype: to_rank_0(self.world, array, rank) for dtype, array in flat.items()}
                if self.world.rank == 0:
                    self._gathered[sender] = {dtype: array for dtype, array in found.items() if array is not None}

    def state_dict(self) -> dict[str, Any]:
        """The error of every sender, by parameter; of this rank's, unless `gather_state` was called before."""
        gathered, self._gathered = self._gathered, {}
        flats = gathered or {sender: arena.flat for sender, arena in self.errors.items()}
        return {
            "senders": f"{self.sender_count} {self.per}s",
            "errors": {str(sender): self._by_name(flat) for sender, flat in flats.items()},
        }

    def _by_name(self, flat: Mapping[np.dtype[Any], Array]) -> dict[str, Array]:
        slots = self.flat.layout.slots
        return {s.name: flat[s.dtype][s.offset : s.stop].reshape(s.shape).copy() for s in slots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give this rank's senders their errors.

        Raises:
            StateError: the state has other senders: another exchange, or errors of another number of ranks.
        """
        expected = f"{self.sender_count} {self.per}s"
        if state.get("senders") != expected:
            hint = " Resume on as many ranks as before." if self.per == "rank" else ""
            raise StateError(
                f"the errors that the exchange has kept are those of {state.get('senders', 'no senders')}, and cannot be "
                f"given to {expected}.{hint}"
            )
        for sender, arena in self.errors.items():
            for name, error in state["errors"][str(sender)].items():
                arena[name][...] = error
