"""From final gradients to collectives. This file is the heart of the product: its contract first.

**Who calls what, when, on which thread.** Everything here runs on the thread that computes; the engine's thread moves the bytes.
In a step, for each of this rank's virtual workers, in the order of `plan.order`:

    reducer.begin(position)      every leaf collects into the arena of this worker
    ... forward, backward ...    the tape writes gradients there
    reducer.end(position)        leaves that the worker did not use are zeros; finished siblings of the tree are added

and then `reducer.wait()`, after which the main gradient arena holds the sum over all V workers, the same bits on every rank.
During the *last* worker's backward (`begin` arms `FinalGradients`), each leaf's final event, used or not, is noted in its
bucket. With a bucket's last one its slice is final on this rank but for the last merges of the tree, which are made for
the slice alone; then it is posted. Earlier workers communicate nothing.

**Order.** Buckets are posted in one agreed order, whatever the order in which they become ready here: a ready bucket waits
for those before it. The order is that of the layout until the first step ends; from then on it is the order in which worker
0's rank saw them ready, broadcast once, and part of `state` for checkpoints. It changes when bytes move, and no bit.

**Memory.** `plan.arrays` gradient arenas, at most floor(log2 k) + 2 for k workers a rank up to V = 68 (`comm/tree.py`); one for
one worker. Where workers meet in a layer, or accumulate over several passes (`separate`), each has an arena of its own.

**In flight** a bucket's arrays and the leaves' gradient views are read-only; writing one, or `zero_grad`, raises `InFlightError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.autodiff import FinalGradients, Tensor
from allgrad.autodiff.node import Leaf
from allgrad.comm.tree import Assembly, Node, block, plan_block
from allgrad.memory import Arena

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.comm import Engine, Handle, World
    from allgrad.memory import FlatParameters
    from allgrad.parallel.buckets import Bucket


class Reducer:
    """Sums gradients over the virtual workers of all ranks; the contract stands on top of this file.

    Args:
        flat: the model's parameters and their main gradient arena, which receives the sums.
        world, engine: the ranks, and what moves bytes between them; engine None for a world of one.
        total: V, the number of virtual workers.
        buckets: the plan, the same on all ranks.
        reduction: "exact", or "mpi" for MPI's own all-reduce.
        separate: give each local worker a gradient arena of its own.
    """

    def __init__(
        self,
        flat: FlatParameters,
        world: World,
        engine: Engine | None,
        *,
        total: int,
        buckets: Sequence[Bucket],
        reduction: Literal["exact", "mpi"] = "exact",
        separate: bool = False,
    ) -> None:
        self.flat, self.world, self.engine = flat, world, engine
        self.total, self.buckets, self.reduction = total, tuple(buckets), reduction
        self.plan = plan_block(block(world.rank, world.size, total), total)
        self.separate = separate
        count = len(self.plan.order) if separate else self.plan.arrays
        self.arenas = [flat.grads, *(Arena(flat.layout) for _ in range(count - 1))]
        self.order = list(range(len(self.buckets)))
        self.order_agreed = world.size == 1
        self.digest = flat.layout.digest()
        self._leaves = {name: _leaf(tensor) for name, tensor in flat.leaves.items()}
        self._names = {id(tensor): name for name, tensor in flat.leaves.items()}
        self._bucket_of = {name: bucket for bucket in self.buckets for name in bucket.names}
        self._final = FinalGradients(flat.leaves.values(), self._on_final)
        self._filled = [dict.fromkeys(flat.leaves, False) for _ in self.plan.order]
        self._pending: list[int] = []
        self._counted: set[str] = set()
        self._seen: list[int] = []
        self._ready: dict[int, float] = {}
        self._posted = 0
        self._handles: list[Handle] = []
        self.step = 0
        self.used: set[str] = set()

    def state(self) -> dict[str, Any]:
        """What the next step depends on, JSON-able: the agreed order of posting."""
        return {"order": list(self.order), "agreed": self.order_agreed}

    def with_separate_arenas(self) -> Reducer:
        """The same reducer with a gradient arena for each local worker."""
        made = Reducer(
            self.flat,
            self.world,
            self.engine,
            total=self.total,
            buckets=self.buckets,
            reduction=self.reduction,
            separate=True,
        )
        made.order, made.order_agreed = self.order, self.order_agreed
        return made

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over the order of another run, if it has the same buckets; it is found anew otherwise."""
        if sorted(state["order"]) == sorted(self.order) and (state["agreed"] or self.world.size == 1):
            self.order, self.order_agreed = list(state["order"]), True

    # One worker.

    def begin_step(self, step: int) -> None:
        """Before the first worker of a step."""
        self.step, self.used = step, set()
        self._pending = [len(bucket.names) for bucket in self.buckets]
        self._counted = set()
        self._seen, self._ready, self._posted, self._handles = [], {}, 0, []

    def begin(self, position: int, *, last: bool, keep: bool = False) -> None:
        """Before the forward of local worker number `position`; `keep` adds to what its arena holds (`separate` only)."""
        arena = self._arena(position)
        before = self._filled[position]
        for name, leaf in self._leaves.items():
            leaf.redirect(arena[name], filled=keep and before[name])
        if last and not self.separate:
            self._final.arm()

    def pause(self, position: int) -> None:
        """Another worker takes over in the middle of this one (workers that meet in a layer)."""
        self._filled[position] = {name: leaf.filled for name, leaf in self._leaves.items()}

    def end(self, position: int, *, last: bool) -> None:
        """After the backward of local worker number `position`."""
        self.pause(position)
        self.note_used(position)
        if self.separate:
            return
        if last:
            self._final.disarm()  # a worker without samples has no backward, and no events
            for name in [name for name in self._leaves if name not in self._counted]:
                if not self._leaves[name].filled:
                    self._arena(position)[name][...] = 0
                self._count(name)
            return
        self._zero(position)
        for left, right in self.plan.merges[position]:
            for dtype, array in self.arenas[left].flat.items():
                np.add(array, self.arenas[right].flat[dtype], out=array)

    def note_used(self, position: int) -> None:
        """Remember which leaves that worker used."""
        self.used |= {name for name, filled in self._filled[position].items() if filled}

    def _arena(self, position: int) -> Arena:
        return self.arenas[position if self.separate else self.plan.writes[position]]

    def _zero(self, position: int) -> None:
        arena = self._arena(position)
        for name, filled in self._filled[position].items():
            if not filled:
                arena[name][...] = 0

    # The last worker: buckets become ready.

    def _on_final(self, tensor: Tensor, used: bool) -> None:
        name = self._names[id(tensor)]
        if used and self._leaves[name].filled:
            self._count(
                name
            )  # the others become zeros at the worker's end, in a fixed order: a later pass may use them

    def _count(self, name: str) -> None:
        self._counted.add(name)
        bucket = self._bucket_of[name]
        self._pending[bucket.index] -= 1
        if self._pending[bucket.index] == 0:
            self._merge(bucket)
            self._make_ready(bucket)

    def _merge(self, bucket: Bucket) -> None:
        for left, right in self.plan.merges[-1]:
            array = bucket.of(self.arenas[left].flat)
            np.add(array, bucket.of(self.arenas[right].flat), out=array)

    def _make_ready(self, bucket: Bucket) -> None:
        self._seen.append(bucket.index)
        if self.engine is None:
            return
        self._ready[bucket.index] = self.engine.clock()
        while self._posted < len(self.order) and self.order[self._posted] in self._ready:
            self._post(self.buckets[self.order[self._posted]])
            self._posted += 1

    def _post(self, bucket: Bucket) -> None:
        assert self.engine is not None
        nodes = [
            (node.level, node.place, bucket.of(self.arenas[slot].flat))
            for node, slot in zip(self.plan.nodes, self.plan.slots, strict=True)
        ]
        self._start(bucket, nodes)

    def _start(self, bucket: Bucket, nodes: list[tuple[int, int, Any]]) -> None:
        assert self.engine is not None
        handle = self.engine.post(
            nodes,
            bucket.of(self.flat.grads.flat),
            total=self.total,
            label=bucket.label,
            step=self.step,
            layout=self.digest,
            reduction=self.reduction,
            ready=self._ready[bucket.index],
            guard=[buffer for name in bucket.names if (buffer := self._leaves[name].buffer) is not None],
        )
        self._handles.append(handle)

    # The end of a step.

    def wait(self) -> None:
        """Return when the main gradient arena holds the sums; the leaves' gradients are views of it again."""
        if self.separate:
            self._sum_separate()
        for handle in self._handles:
            handle.wait()
        if not self.order_agreed:
            self.order = [int(i) for i in self.world.broadcast_json(self._seen)]
            self.order_agreed = True

    def publish(self, used: set[str]) -> None:
        """Let every leaf show its sum as `.grad`; those that no worker used show None, and optimizers skip them."""
        for name, leaf in self._leaves.items():
            leaf.redirect(self.flat.grads[name], filled=name in used)

    def _sum_separate(self) -> None:
        """Add up workers that have an arena each; nothing overlaps here, since they end together."""
        for position in range(len(self.plan.order)):
            self._zero(position)
            self._filled[position] = dict.fromkeys(self._filled[position], False)
        position_of = {worker: i for i, worker in enumerate(self.plan.order)}
        for index in self.order:
            bucket = self.buckets[index]
            sums = Assembly(self.total)
            for worker in self.plan.workers:
                sums.add(Node(0, worker), bucket.of(self.arenas[position_of[worker]].flat))
            self._seen.append(index)
            target = bucket.of(self.flat.grads.flat)
            if self.engine is None:
                if sums.root is not None and sums.root is not target:
                    np.copyto(target, sums.root)
                continue
            self._ready[index] = self.engine.clock()
            held = sums.pending if sums.root is None else {self.plan.nodes[0]: sums.root}
            self._start(bucket, [(node.level, node.place, held[node]) for node in self.plan.nodes])


def _leaf(tensor: Tensor) -> Leaf:
    assert isinstance(tensor.node, Leaf)
    return tensor.node
