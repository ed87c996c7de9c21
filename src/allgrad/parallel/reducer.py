"""From final gradients to an exchange. This file is the heart of the product; its contract comes first.

**Who calls what, when, on which thread.** Everything here runs on the thread that computes; the exchange moves the bytes.

    with reducer.step(number):
        for position in range(len(reducer.plan.order)):       # this rank's virtual workers, in this order
            with reducer.worker(position):                    # every leaf collects into the arena of this worker
                ... forward ...
                with reducer.overlap():                       # for the last worker only
                    ... backward ...                          # the tape writes gradients there
            reducer.add(position)                             # unused leaves become zeros; tree siblings are added
        times = reducer.finish(used)                          # the main arena holds the sums, and leaves show them

With `reducer.batch()`, all workers' samples run as one batch instead (`nn/batched_workers.py`), with one backward pass:

    with reducer.batch():                                     # every leaf gives one gradient per worker
        ... forward ...
        with reducer.overlap():
            ... backward ...
    reducer.add_batch()                                       # unused leaves become zeros

After `finish`, the main gradient arena holds the sum over all virtual workers, the same on every rank. During the backward inside
`overlap`, each used leaf's final event is counted in its bucket. The other leaves are zeros, and `add` counts them, in the order
of the layout: a leaf that this backward did not reach may have been reached by an earlier one. When a bucket's last leaf has
been counted, its slice is final on this rank except for the last additions of the tree. These are made for the slice alone,
and then it is posted to the exchange. Earlier workers communicate nothing. If anything raises inside `step`, no gradient is
shown, and the next step begins clean.

**Order.** Buckets are posted in one agreed order, whatever the order in which they become ready here: a ready bucket waits
for those before it. So ranks whose graphs differ post alike. The order is that of the layout until the first step ends. From
then on it is the order in which worker 0's rank saw them become ready, broadcast once, and part of `state_dict`. It changes
when bytes move, and no bit.

**Memory.** `plan.arrays` gradient arenas: at most floor(log2 k) + 2 for k workers per rank up to V = 68 (`comm/tree.py`), and
one for one worker. If workers communicate in a layer, accumulate over several steps, or if the exchange needs them one by one
(`separate`), each has an arena of its own, and all additions are made at the end, bucket by bucket.

**In flight**, a bucket's arrays and the leaves' gradient views are read-only; writing one, or `zero_grad`, raises
`InFlightError`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff import FinalGradients, Tensor
from allgrad.comm.tree import block, plan_block
from allgrad.parallel.exchanges import BucketGradients
from allgrad.parallel.worker_gradients import WorkerGradients

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from allgrad.comm import Times, World
    from allgrad.memory import FlatParameters
    from allgrad.parallel.buckets import Bucket
    from allgrad.parallel.exchanges import Exchange


class Reducer:
    """Sums gradients over the virtual workers of all ranks; see the contract at the top of this file.

    Args:
        flat: the model's parameters and their main gradient arena, which receives the sums.
        world: the ranks.
        exchange: sums buckets over the ranks.
        virtual_workers: the number of virtual workers of all ranks.
        buckets: the plan, the same on all ranks.
        separate: each local worker gets an arena of its own.
    """

    def __init__(
        self,
        flat: FlatParameters,
        world: World,
        exchange: Exchange,
        *,
        virtual_workers: int,
        buckets: Sequence[Bucket],
        separate: bool = False,
    ) -> None:
        self.flat, self.world, self.exchange = flat, world, exchange
        self.virtual_workers, self.buckets = virtual_workers, tuple(buckets)
        self.order = list(range(len(self.buckets)))
        self.order_agreed = world.size == 1
        self.names = list(flat.leaves)
        self.leaves = list(flat.nodes.values())
        self._index = {id(tensor): i for i, tensor in enumerate(flat.leaves.values())}
        bucket_of = {name: bucket.index for bucket in self.buckets for name in bucket.names}
        self._bucket_of = [bucket_of[name] for name in self.names]
        self._final = FinalGradients(flat.leaves.values(), self._on_final)
        exchange.open(world, virtual_workers, flat, self.buckets)
        self._lay_out(separate=separate or exchange.per_worker)
        self._begin(0)

    def _lay_out(self, *, separate: bool) -> None:
        self.separate = separate
        workers = block(self.world.rank, self.world.size, self.virtual_workers)
        self.plan = plan_block(workers, self.virtual_workers, separate)
        self.arenas = self.exchange.arenas(self.flat, self.plan.arrays, separate=separate)
        self._views = [[arena[name] for name in self.names] for arena in self.arenas]
        self._results = [self._result(name) for name in self.names]
        self._filled = [[False] * len(self.names) for _ in self.plan.order]
        self._collectors = [
            WorkerGradients(views, self.plan, separate=separate, add=not self.exchange.per_worker)
            for views in zip(*self._views, strict=True)
        ]
        views, digest = self._views[self.plan.writes[-1]], self.flat.layout.digest()
        members = {name: i for i, name in enumerate(self.names)}
        self._gradients = [
            BucketGradients(
                bucket,
                tuple((*node, bucket.of(self.arenas[slot].flat)) for node, slot in self._nodes()),
                bucket.of(self.flat.grads.flat),
                tuple(views[members[name]] for name in bucket.names),
                digest,
            )
            for bucket in self.buckets
        ]

    def _result(self, name: str) -> Any:
        """What a leaf shows as its `.grad`. Read-only if the ranks of a node share it, or each of them might scale it."""
        view = self.flat.grads[name]
        if self.flat.sharing.ranks > 1:
            view = view.view()
            view.flags.writeable = False
        return view

    def _nodes(self) -> Iterator[tuple[Any, int]]:
        """The partial sums that this rank gives to the exchange, and the arenas in which they are."""
        if self.exchange.per_worker:
            return (((0, worker), slot) for worker, slot in sorted(zip(self.plan.order, self.plan.writes, strict=True)))
        return zip(self.plan.nodes, self.plan.slots, strict=True)

    def keep_separate(self) -> None:
        """Give each local worker an arena of its own, from the next step on."""
        if not self.separate:
            self._lay_out(separate=True)

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on: the agreed order of posting, and what the exchange keeps."""
        exchange = self.exchange.state_dict()
        state: dict[str, Any] = {"order": list(self.order), "agreed": self.order_agreed}
        return state | {"exchange": exchange} if exchange else state

    def gather_state(self) -> None:
        """Bring to rank 0 what other ranks hold of `state_dict`; all ranks call it together."""
        self.exchange.gather_state()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned. With other buckets than these, the order is found anew."""
        if sorted(state["order"]) == sorted(self.order) and (state["agreed"] or self.world.size == 1):
            self.order, self.order_agreed = list(state["order"]), True
        self.exchange.load_state_dict(state.get("exchange", {}))

    # One step, one worker.

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around all of a step. If it fails, none of its gradients, nor of those that it accumulates, is left."""
        self._begin(number)
        try:
            yield
        except BaseException:
            # Buckets that are under way stay guarded until the next step waits for them: if all ranks failed alike they
            # arrive, and if not, the engine finds that the ranks are out of step.
            self._filled = [[False] * len(self.names) for _ in self.plan.order]
            self.publish(())
            raise
        finally:
            self.exchange.leave()

    def _begin(self, number: int) -> None:
        self.exchange.begin()
        self._number = number
        self._pending = [len(bucket.names) for bucket in self.buckets]
        self._counted = [False] * len(self.names)
        self._began: set[int] = set()
        self._seen: list[int] = []
        self._fired = False
        self._ready: dict[int, float] = {}
        self._posted = 0
        self._batched = False

    @contextmanager
    def worker(self, position: int, *, accumulate: bool = False) -> Iterator[None]:
        """Around the forward and backward of local worker number `position`.

        A worker that another one interrupts (workers that communicate in a layer) comes back by another `with`.
        `accumulate`: add to the gradients that its arena holds from earlier steps (only with `separate`).
        """
        keep = accumulate or position in self._began
        self._began.add(position)
        self.exchange.enter(self.plan.order[position])
        views, before = self._views[self.plan.writes[position]], self._filled[position]
        for leaf, view, filled in zip(self.leaves, views, before, strict=True):
            leaf.redirect(view, filled and keep)
        yield
        self._filled[position] = [leaf.filled for leaf in self.leaves]

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Around the forward and backward of all local workers as one batch."""
        self._batched = True
        for leaf, collector in zip(self.leaves, self._collectors, strict=True):
            collector.begin()
            leaf.collect(collector)
        yield
        self._filled = [[leaf.filled for leaf in self.leaves]] * len(self.plan.order)

    def add_batch(self) -> None:
        """Called after `batch`, when no gradient will follow."""
        for i, filled in enumerate(self._filled[0]):
            if not filled:
                for views in self._views:
                    views[i][...] = 0
            if not self._counted[i]:
                self._collectors[i].complete()
                self._count(i)

    @contextmanager
    def overlap(self) -> Iterator[None]:
        """Around the last worker's backward: buckets are posted as their gradients become final."""
        self._final.arm()
        try:
            yield
        finally:
            self._final.disarm()

    def add(self, position: int) -> None:
        """Add the gradients of local worker number `position`; all workers before it have been added."""
        views = self._views[self.plan.writes[position]]
        last = position == len(self.plan.order) - 1
        for i, filled in enumerate(self._filled[position]):
            if not filled:
                views[i][...] = 0
            if last and not self._counted[i]:
                self._count(i)
        if not last:
            for left, right in self.plan.merges[position]:
                for dtype, array in self.arenas[left].flat.items():
                    self.exchange.add(array, self.arenas[right].flat[dtype])

    def used(self) -> list[bool]:
        """For each parameter, whether some worker of this rank used it, in this step or those that it adds to."""
        return self._filled[0] if self._batched else [any(column) for column in zip(*self._filled, strict=True)]

    def used_by(self, workers: Collection[int]) -> set[str]:
        """The parameters that some of these local workers used."""
        rows = [filled for worker, filled in zip(self.plan.order, self._filled, strict=True) if worker in workers]
        return {name for name, column in zip(self.names, zip(*rows, strict=True), strict=True) if any(column)}

    # The last worker: buckets become ready.

    def _on_final(self, tensor: Tensor, used: bool) -> None:
        i = self._index[id(tensor)]
        if used and self.leaves[i].filled:
            self._fired = True
            if self._batched:
                self._collectors[i].complete()
            self._count(i)
        if self.world.engine is not None:
            self.world.engine.poll()

    def _count(self, i: int) -> None:
        self._counted[i] = True
        index = self._bucket_of[i]
        self._pending[index] -= 1
        if self._pending[index] == 0:
            self._make_ready(self.buckets[index])

    def _make_ready(self, bucket: Bucket) -> None:
        if not self.exchange.per_worker and not self._batched:
            for left, right in self.plan.merges[-1]:
                array = bucket.of(self.arenas[left].flat)
                self.exchange.add(array, bucket.of(self.arenas[right].flat))
        self._seen.append(bucket.index)
        self._ready[bucket.index] = self.world.clock()
        while self._posted < len(self.order) and self.order[self._posted] in self._ready:
            index = self.order[self._posted]
            self._posted += 1
            self.exchange.post(self._gradients[index], step=self._number, ready=self._ready[index])

    # The end of a step.

    def finish(self, used: Collection[str]) -> list[Times]:
        """Return when the main gradient arena holds the sums, and each leaf shows its own as `.grad`.

        Args:
            used: the parameters that some worker used. The others show None, and optimizers skip them. Unless the exchange
                is synchronous, all show None.

        Returns:
            The times of each bucket, if the engine records them.
        """
        times = self.exchange.finish()
        if not self.order_agreed and not self.separate:
            found = self._seen if self._fired else [-1] * len(self.order)
            found = [int(i) for i in self.world.broadcast(np.array(found, np.int64))]
            if found[0] >= 0:  # rank 0 had something to run backward through
                self.order, self.order_agreed = found, True
        self.publish(used if self.exchange.synchronous else ())
        return times

    def publish(self, used: Collection[str]) -> None:
        """Let the leaves of these names show the main arena as `.grad`, and all others None."""
        shared = self.flat.sharing.ranks > 1
        for name, leaf, view in zip(self.names, self.leaves, self._results, strict=True):
            leaf.redirect(view, name in used, shared)
