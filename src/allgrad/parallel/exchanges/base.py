"""The interface of gradient exchanges.

The reducer posts each bucket as soon as this rank's part of it is final, and the exchange starts to sum it over all ranks. When
`finish` returns, the sums of all posted buckets are in place. The buckets and their order are the same on every rank, and the
reducer knows nothing of what an exchange does with them.

To write one: subclass `Exchange`, set `same_bits`, write `post`, and register the class by `register_exchange`. What an
exchange keeps between steps (error feedback, outer optimizers) belongs into `state_dict`.

Most exchanges are synchronous: after `finish` every rank has the sums over all workers, and every rank makes the same update.
The others (sharded, local) decide in `update` what this rank's optimizer does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from allgrad.comm.all_reduce import bytes_sent
from allgrad.errors import CollectiveError
from allgrad.memory import Arena
from allgrad.optim import clip_norm, clip_value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from allgrad import nn
    from allgrad.comm import Handle, Times, World
    from allgrad.memory import FlatParameters
    from allgrad.optim import Optimizer
    from allgrad.parallel.buckets import Bucket
    from allgrad.stateful import Stateful

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


class ExchangeError(CollectiveError, ValueError):
    """An exchange cannot work with these options, this model, or this number of ranks."""

    exit_code = 2


@dataclass(frozen=True)
class Clipping:
    """The limits that gradients are clipped to before the optimizer's step; None: no limit."""

    norm: float | None = None
    value: float | None = None

    def apply(self, flat: FlatParameters, unused: Collection[str]) -> float | None:
        """Clip the gradients in `flat.grads`; returns their norm, if it has a limit."""
        norm = None if self.norm is None else clip_norm(flat, self.norm, unused=unused)
        if self.value is not None:
            clip_value(flat, self.value, unused=unused)
        return norm


class Exchange(ABC):
    """Sums buckets of gradients over the ranks.

    Attributes:
        same_bits: whether the weights have the same bits at any number of ranks.
        why: the reason for that, in one sentence, for reports.
        per_worker: whether the exchange needs each virtual worker's gradients and not only their sums: all `nodes` then have
            level 0, and each local worker costs the memory of one more gradient.
        in_shared_memory: whether an exchange of shared memory (`node.py`, `node_sharded.py`) computes the same and may take its
            place.
        synchronous: whether every rank has the sums over all workers after `finish`. If not, leaves show no gradient, and only
            `update` moves the weights.
        one_by_one: why a rank must run its workers one after another, and not as one batch (`batching.py`); "": it need not.
        accumulates: whether steps may add up gradients before they are exchanged (`DataParallel.no_sync`).
        world, virtual_workers, flat, buckets: set by `open`.
        optimizer: set by `attach`.
        handles: the collectives that `post` has started in this step.
        posted: what `post` notes for `finish`, forgotten if the step fails.
    """

    same_bits: bool
    why: str = ""
    per_worker: bool = False
    synchronous: ClassVar[bool] = True
    in_shared_memory: ClassVar[bool] = False
    one_by_one: ClassVar[str] = ""
    accumulates: ClassVar[bool] = True

    world: World
    virtual_workers: int
    flat: FlatParameters
    buckets: tuple[Bucket, ...]
    optimizer: Optimizer | None = None
    handles: list[Handle]
    posted: list[Any]

    def check(self, model: nn.Module, world: World, virtual_workers: int) -> None:  # noqa: B027 - most can do everything
        """Called before `open`: raise `ExchangeError`, the same on every rank, for what the exchange cannot do."""

    def open(self, world: World, virtual_workers: int, flat: FlatParameters, buckets: Sequence[Bucket]) -> None:
        """Called once, before the first step. An exchange belongs to one model, and `buckets` are all that it will be given."""
        self.world, self.virtual_workers, self.flat = world, virtual_workers, flat
        self.handles, self.posted = [], []
        self.buckets = tuple(buckets)

    def attach(self, optimizer: Optimizer) -> Stateful:
        """Called once the optimizer exists, before the first step. Returns what a checkpoint stores as the optimizer."""
        self.optimizer = optimizer
        return optimizer

    def enter(self, worker: int) -> None:  # noqa: B027 - most exchanges have one set of weights
        """Called before this rank runs a worker's forward: `flat.params` must hold the weights that it uses."""

    def leave(self) -> None:  # noqa: B027 - most exchanges have one set of weights
        """Called when all workers of this rank have run, or one has failed: `flat.params` must hold the model's weights."""

    @property
    def groups(self) -> int:
        """Into how many groups of neighbouring workers all are divided, each of which has weights of its own."""
        return 1

    def add(self, left: Array, right: Array) -> None:
        """One addition of the tree inside this rank: left += right."""
        np.add(left, right, out=left)

    def arenas(self, flat: FlatParameters, count: int, *, separate: bool) -> list[Arena]:  # noqa: ARG002
        """The memory of this rank's gradients: `count` arenas. The first one is `flat.grads`, unless the ranks share that.

        `separate` is that of `comm.tree.plan_block`. All ranks call this together.
        """
        return [flat.grads, *(Arena(flat.layout) for _ in range(count - 1))]

    @property
    def path(self) -> str:
        """How gradients get from rank to rank, in words, for reports."""
        return "by messages"

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
        return self._wait()

    def _wait(self) -> list[Times]:
        handles, self.handles = self.handles, []
        for handle in handles:
            handle.wait()
        return [handle.times for handle in handles if handle.times is not None]

    def begin(self) -> None:
        """Called before a step writes its first gradient.

        The buckets of an earlier step that failed arrive and are forgotten: they change nothing that the exchange keeps.
        """
        self._wait()
        self.posted.clear()

    def update(
        self,
        clipping: Clipping,
        *,
        unused: Collection[str],
        used_by: Callable[[Collection[int]], set[str]],  # noqa: ARG002 - for exchanges whose workers differ
    ) -> float | None:
        """Clip the gradients and take the optimizer's step.

        Args:
            clipping: the limits.
            unused: the parameters that no worker used.
            used_by: the parameters that some of the given local workers used.

        Returns:
            The norm of the gradients before clipping, if it has a limit.
        """
        assert self.optimizer is not None
        norm = clipping.apply(self.flat, unused)
        self.optimizer.step(unused)
        return norm

    def skip(self) -> None:  # noqa: B027 - most exchanges have nothing to do then
        """Called in place of `update` for a step whose gradients are not finite: no gradient may reach the weights."""

    def bytes_per_step(self) -> float | None:
        """What this rank will send in a step for gradients and weights, on average; None: the exchange cannot tell."""
        return None

    def bytes_reduced(self, nbytes: int) -> int:
        """What this rank sends in an all-reduce of an array of `nbytes` over the fixed tree."""
        return bytes_sent(nbytes, self.world.rank, self.world.size, self.virtual_workers)

    def gather_state(self) -> None:  # noqa: B027 - most exchanges keep nothing
        """Bring to rank 0 what other ranks hold of `state_dict`. All ranks call it before rank 0 calls `state_dict`."""

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on. Most exchanges keep nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - most exchanges keep nothing
        """Restore what `state_dict` returned."""
