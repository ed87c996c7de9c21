"""From final gradients to collectives. This file is the heart of the product: its contract first.

**Who calls what, when, on which thread.** Everything here runs on the thread that computes; the engine's thread moves the bytes.
In a step, for each of this rank's virtual workers, in the order of `plan.order`:

    reducer.begin(position)      every leaf collects into the arena of this worker
    ... forward ...
    reducer.arm()                before the last worker's backward only
    ... backward ...             the tape writes gradients there
    reducer.pause(position)      what this worker has used is remembered
    reducer.end(position)        leaves that the worker did not use are zeros; finished siblings of the tree are added

and then `reducer.wait()`, after which the main gradient arena holds the sum over all V workers, the same bits on every rank,
and `publish`, which shows it. During the *last* worker's backward (`arm` arms `FinalGradients` for this one pass) each used
leaf's final event is noted in its bucket; the others are zeros, and are noted by `end`, in the order of the layout: a leaf
that a walk did not reach may have been reached by an earlier one. With a bucket's last leaf its slice is final on this rank
but for the last merges of the tree, which are made for the slice alone; then it is posted. Earlier workers communicate
nothing. If anything raises in between, `abandon` is called, and the next step begins clean.

**Order.** Buckets are posted in one agreed order, whatever the order in which they become ready here: a ready bucket waits
for those before it. So ranks whose graphs differ post alike. The order is that of the layout until the first step ends; from
then on it is the order in which worker 0's rank saw them ready, broadcast once, and part of `state` for checkpoints. It changes
when bytes move, and no bit.

**Memory.** `plan.arrays` gradient arenas, at most floor(log2 k) + 2 for k workers a rank up to V = 68 (`comm/tree.py`); one for
one worker. Where workers meet in a layer, or accumulate over several passes (`separate`), each has an arena of its own, and
all merges are made at the end, bucket by bucket.

**In flight** a bucket's arrays and the leaves' gradient views are read-only; writing one, or `zero_grad`, raises `InFlightError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.autodiff import FinalGradients, Tensor
from allgrad.autodiff.node import Leaf
from allgrad.comm.tree import block, plan_block
from allgrad.memory import Arena

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from allgrad.comm import Engine, Handle, Times, World
    from allgrad.memory import FlatParameters
    from allgrad.parallel.buckets import Bucket


class Reducer:
    """Sums gradients over the virtual workers of all ranks; the contract stands on top of this file.

    Args:
        flat: the model's parameters and their main gradient arena, which receives the sums.
        world, engine: the ranks, and what moves bytes between them; engine None for a world of one.
        virtual_workers: V, the number of virtual workers.
        buckets: the plan, the same on all ranks.
        reduction: "exact", or "mpi" for MPI's own all-reduce.
    """

    def __init__(
        self,
        flat: FlatParameters,
        world: World,
        engine: Engine | None,
        *,
        virtual_workers: int,
        buckets: Sequence[Bucket],
        reduction: Literal["exact", "mpi"] = "exact",
    ) -> None:
        self.flat, self.world, self.engine = flat, world, engine
        self.virtual_workers, self.buckets, self.reduction = virtual_workers, tuple(buckets), reduction
        self.order = list(range(len(self.buckets)))
        self.order_agreed = world.size == 1
        self.digest = flat.layout.digest()
        self.names = list(flat.leaves)
        self._leaves = [_leaf(tensor) for tensor in flat.leaves.values()]
        self._index = {id(tensor): i for i, tensor in enumerate(flat.leaves.values())}
        bucket_of = {name: bucket.index for bucket in self.buckets for name in bucket.names}
        self._bucket_of = [bucket_of[name] for name in self.names]
        members = {name: i for i, name in enumerate(self.names)}
        self._members = [[members[name] for name in bucket.names] for bucket in self.buckets]
        self._final = FinalGradients(flat.leaves.values(), self._on_final)
        self._handles: list[Handle] = []
        self._lay_out(separate=False)
        self.begin_step(0)

    def _lay_out(self, *, separate: bool) -> None:
        self.separate = separate
        self.plan = plan_block(
            block(self.world.rank, self.world.size, self.virtual_workers), self.virtual_workers, separate
        )
        self.arenas = [self.flat.grads, *(Arena(self.flat.layout) for _ in range(self.plan.arrays - 1))]
        self._views = [[arena[name] for name in self.names] for arena in self.arenas]
        self._filled = [[False] * len(self.names) for _ in self.plan.order]

    def keep_separate(self) -> None:
        """Give each local worker an arena of its own, from the next step on."""
        if not self.separate:
            self._lay_out(separate=True)

    def state(self) -> dict[str, Any]:
        """What the next step depends on, JSON-able: the agreed order of posting."""
        return {"order": list(self.order), "agreed": self.order_agreed}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the order of another run, if it has the same buckets; it is found anew otherwise."""
        if sorted(state["order"]) == sorted(self.order) and (state["agreed"] or self.world.size == 1):
            self.order, self.order_agreed = list(state["order"]), True

    # One worker.

    def begin_step(self, step: int) -> None:
        """Before the first worker of a step."""
        self._collect()  # of a step that was abandoned
        self.step = step
        self._pending = [len(bucket.names) for bucket in self.buckets]
        self._counted = [False] * len(self.names)
        self._seen: list[int] = []
        self._fired = False
        self._ready: dict[int, float] = {}
        self._posted = 0

    def begin(self, position: int, *, keep: bool = False) -> None:
        """Before the forward of local worker number `position`; `keep` adds to what its arena holds (`separate` only)."""
        views = self._views[self.plan.writes[position]]
        before = self._filled[position]
        for leaf, view, filled in zip(self._leaves, views, before, strict=True):
            leaf.redirect(view, filled and keep)

    def arm(self) -> None:
        """The next `.backward()` is the last worker's: buckets are posted as their gradients become final."""
        self._final.arm()

    def pause(self, position: int) -> None:
        """After a worker, or where another one takes over in the middle of it (workers that meet in a layer)."""
        self._filled[position] = [leaf.filled for leaf in self._leaves]

    def end(self, position: int) -> None:
        """After the backward of local worker number `position`; all workers before it have ended."""
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
                    np.add(array, self.arenas[right].flat[dtype], out=array)

    def used(self) -> list[bool]:
        """For each parameter whether some worker of this rank used it, in this step or those that it adds to."""
        return [any(column) for column in zip(*self._filled, strict=True)]

    # The last worker: buckets become ready.

    def _on_final(self, tensor: Tensor, used: bool) -> None:
        i = self._index[id(tensor)]
        if used and self._leaves[i].filled:
            self._fired = True
            self._count(i)
        if self.engine is not None:
            self.engine.poll()

    def _count(self, i: int) -> None:
        self._counted[i] = True
        index = self._bucket_of[i]
        self._pending[index] -= 1
        if self._pending[index] == 0:
            self._make_ready(self.buckets[index])

    def _make_ready(self, bucket: Bucket) -> None:
        for left, right in self.plan.merges[-1]:
            array = bucket.of(self.arenas[left].flat)
            np.add(array, bucket.of(self.arenas[right].flat), out=array)
        self._seen.append(bucket.index)
        if self.engine is None:
            return
        self._ready[bucket.index] = self.engine.clock()
        while self._posted < len(self.order) and self.order[self._posted] in self._ready:
            self._post(self.buckets[self.order[self._posted]], self.engine)
            self._posted += 1

    def _post(self, bucket: Bucket, engine: Engine) -> None:
        nodes = [
            (node.level, node.place, bucket.of(self.arenas[slot].flat))
            for node, slot in zip(self.plan.nodes, self.plan.slots, strict=True)
        ]
        views = self._views[self.plan.writes[-1]]
        handle = engine.post(
            nodes,
            bucket.of(self.flat.grads.flat),
            virtual_workers=self.virtual_workers,
            label=bucket.label,
            step=self.step,
            layout=self.digest,
            reduction=self.reduction,
            ready=self._ready[bucket.index],
            guard=[views[i] for i in self._members[bucket.index]],
        )
        self._handles.append(handle)

    # The end of a step.

    def wait(self) -> list[Times]:
        """Return when the main gradient arena holds the sums; what each bucket took, if the engine records it."""
        handles = self._handles
        self._collect()
        if not self.order_agreed and not self.separate:
            found = self._seen if self._fired else [-1] * len(self.order)
            found = [int(i) for i in self.world.broadcast(np.array(found, np.int64))]
            if found[0] >= 0:  # rank 0 had something to run backward through
                self.order, self.order_agreed = found, True
        return [handle.times for handle in handles if handle.times is not None]

    def publish(self, used: Collection[str]) -> None:
        """Let every leaf show its sum as `.grad`; those that no worker used show None, and optimizers skip them."""
        for name, leaf, view in zip(self.names, self._leaves, self._views[0], strict=True):
            leaf.redirect(view, name in used)

    def abandon(self) -> None:
        """A step has failed in the middle: nothing of it may be left behind.

        No gradient is shown. Buckets that are under way stay guarded until the next step waits for them: where all ranks
        failed alike they arrive, and where they did not the engine finds that the ranks are no longer in step.
        """
        self._final.disarm()
        self._filled = [[False] * len(self.names) for _ in self.plan.order]
        self.publish(())

    def _collect(self) -> None:
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.wait()


def _leaf(tensor: Tensor) -> Leaf:
    assert isinstance(tensor.node, Leaf)
    return tensor.node
