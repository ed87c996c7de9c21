"""The interface of gradient exchanges.

The reducer posts each bucket as soon as this rank's part of it is final, and the exchange starts to sum it over all ranks. When
`finish` returns, the sums of all posted buckets are in place. The buckets and their order are the same on every rank, and the
reducer knows nothing of what an exchange does with them.

To write one: subclass `Exchange`, set `same_bits`, write `post`, and register the class by `register_exchange`. What an
exchange keeps between steps (error feedback, outer optimizers) belongs into `state_dict`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from allgrad.memory import Arena

if TYPE_CHECKING:
    import numpy as np

    from allgrad.comm import Handle, Times, World
    from allgrad.memory import FlatParameters
    from allgrad.parallel.buckets import Bucket

    Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class BucketGradients:
    """This rank's part of a bucket. It is the same object in every step; the arrays hold new gradients.

    Attributes:
        bucket: which parameters it holds, and where.
        nodes: this rank's partial sums, as (level, place, array): `array` is the sum over the virtual workers
            [place * 2**level, (place + 1) * 2**level), cut at their number; see `comm.tree`. Each array is (n,), of the
            bucket's dtype. An exchange may overwrite them.
        out: (n,), receives the sum over all virtual workers; it may be one of the arrays of `nodes`.
        views: the arrays through which the tape sees these gradients. They must be read-only until `finish`.
        layout: a digest of the parameters' names, shapes and places, the same on all ranks.
    """

    bucket: Bucket
    nodes: tuple[tuple[int, int, Array], ...]
    out: Array
    views: tuple[Array, ...]
    layout: str


class Exchange(ABC):
    """Sums buckets of gradients over the ranks.

    Attributes:
        same_bits: whether the sums have the same bits at any number of ranks.
        per_worker: whether the exchange needs each virtual worker's gradients and not only their sums: all `nodes` then have
            level 0, and each local worker costs the memory of one more gradient.
        in_shared_memory: whether `NodeExchange` computes the same where ranks share their memory, and may take its place.
        world, virtual_workers: set by `open`.
        handles: the collectives that `post` has started in this step.
    """

    same_bits: ClassVar[bool]
    per_worker: ClassVar[bool] = False
    in_shared_memory: ClassVar[bool] = False

    world: World
    virtual_workers: int
    handles: list[Handle]

    def open(self, world: World, virtual_workers: int) -> None:
        """Called once, before the first step. An exchange belongs to one model."""
        self.world, self.virtual_workers, self.handles = world, virtual_workers, []

    def arenas(self, flat: FlatParameters, count: int, *, separate: bool) -> list[Arena]:  # noqa: ARG002
        """The memory of this rank's gradients: `count` arenas. The first one is `flat.grads`, unless the ranks share that.

        `separate` is that of `comm.tree.plan_block`. All ranks call this together.
        """
        return [flat.grads, *(Arena(flat.layout) for _ in range(count - 1))]

    @abstractmethod
    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """Start the sum of a bucket and return at once.

        It is called in a job of one rank too. Unless the exchange is `per_worker`, `out` then holds the sum already.

        Args:
            gradients: the bucket.
            step: the number of the training step.
            ready: when these gradients became final, on `world.clock()`.
        """

    def finish(self) -> list[Times]:
        """Return when every posted bucket's `out` holds its sum, with the times of each, if the engine records them."""
        handles, self.handles = self.handles, []
        for handle in handles:
            handle.wait()
        return [handle.times for handle in handles if handle.times is not None]

    def begin(self) -> None:
        """Called before a step writes its first gradient. The buckets of an earlier step that failed are forgotten."""
        self.finish()

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on. Most exchanges keep nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - most exchanges keep nothing
        """Restore what `state_dict` returned."""
