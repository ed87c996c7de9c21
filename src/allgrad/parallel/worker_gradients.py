"""The gradients of a rank's virtual workers when their samples run as one batch.

`nn.batched_workers` runs all of a rank's workers as one batch, and each layer gives one gradient per worker. A `WorkerGradients`
takes them for one parameter and adds them up over the fixed tree, exactly as the reducer does when the workers run one after
another: worker number `position` of the plan goes into slot `writes[position]`, then come the additions `merges[position]`.
They are made at once, while the numbers are in cache.

A parameter that is used several times (tied weights) gets several contributions, and a worker's gradient is the sum of its own
contributions. So these are collected worker by worker first, and the tree is added up with the last of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import nn
from allgrad.autodiff.node import Collector
from allgrad.autodiff.zeros import settle
from allgrad.comm.sums import add_levels, levels_of
from allgrad.comm.tree import cover, running_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.comm.tree import BlockPlan

Array = np.ndarray[Any, np.dtype[Any]]


class WorkerGradients(Collector):
    """Takes one parameter's gradients, one for each local worker, and adds them over the tree.

    Args:
        views: the parameter's part of each gradient arena.
        plan: which worker's gradient goes into which arena, and what is added to what.
        separate: whether that is a plan in which each worker has an arena of its own.
        add: whether to add siblings; otherwise each worker's gradient remains in its arena.

    Attributes:
        order: the workers in the order in which an operation must give their gradients, counted from the first of this rank.
        adds_up: whether a kernel may write the sums of `trees`, because this is the parameter's only contribution.
        trees: for a kernel that adds by itself: the additions of each partial sum, and where it goes.
    """

    def __init__(self, views: Sequence[Array], plan: BlockPlan, *, separate: bool, add: bool) -> None:
        self.views, self.writes, self.separate, self._add = views, plan.writes, separate, add
        self.merges = plan.merges if add else ((),) * len(plan.writes)
        self.shape, self.dtype = views[0].shape, views[0].dtype
        self.order = tuple(worker - plan.workers.start for worker in plan.order)
        self._in_order = self.order == tuple(range(len(self.order)))
        self._each: Array | None = None
        self.trees: list[tuple[nn.Tree, Array]] = []
        self._nodes: list[tuple[slice, list[tuple[int, int]], Array]] = []
        start = 0
        for node in running_order(plan.nodes, plan.virtual_workers):
            covered = cover(node, plan.virtual_workers)  # neighbours
            stop, out = start + len(covered), views[plan.writes[start]]
            self.trees.append((nn.Tree(self.order[start], tuple(map(len, plan.merges[start:stop]))), out))
            self._nodes.append((slice(start, stop), levels_of(covered, plan.virtual_workers), out))
            start = stop
        self.begin()

    def begin(self) -> None:
        """Forget the last step."""
        self._given, self._last, self._settles, self.adds_up = 0, False, False, False

    def offered(self, *, last: bool, settles: bool) -> WorkerGradients:
        """Called before each contribution."""
        self._given, self._last, self._settles = self._given + 1, last, settles
        self.adds_up = self._given == 1 and last and not (self.separate or settles)
        if self._each is None and not last:
            self._each = np.empty((len(self.order), *self.shape), self.dtype)
        return self

    def target(self, position: int) -> Array:
        """The array to which the gradient of worker `order[position]` is to be written."""
        if self._given == 1 and not self._last:
            assert self._each is not None
            each: Array = self._each[position]
            return each
        return self.views[self.writes[position]]  # of a contribution before the last, as scratch memory

    def finished(self, position: int) -> None:
        """That gradient has been written."""
        view = self.views[self.writes[position]]
        if self._settles:
            np.copyto(self.target(position), settle(self.target(position)))
        if self._given > 1:
            assert self._each is not None
            np.add(self._each[position], view, out=view if self._last else self._each[position])
        if self._last:
            self._add_siblings(position)

    def take(self, each: Array) -> None:
        """A contribution of all workers, in the order of the batch; each: (workers, *shape)."""
        each = settle(each) if self._settles else each
        each = each if self._in_order else each[list(self.order)]
        if self._given > 1:
            assert self._each is not None
            each = np.add(self._each, each, out=self._each)
        elif not self._last:
            assert self._each is not None
            np.copyto(self._each, each)
        if self._last:
            self._write(each)

    def complete(self) -> None:
        """Called when no contribution will follow: the arenas hold the sums afterwards."""
        if self._given and not self._last:  # the backward pass did not reach the last use
            assert self._each is not None
            self._write(self._each)
            self._last = True

    def _write(self, each: Array) -> None:
        """Add up the workers' gradients, which are in the order of `order`."""
        if self._add:
            for workers, levels, out in self._nodes:
                np.copyto(out, add_levels(each[workers], levels)[0])
        else:
            for slot, one in zip(self.writes, each, strict=True):
                np.copyto(self.views[slot], one)

    def _add_siblings(self, position: int) -> None:
        for left, right in self.merges[position]:
            np.add(self.views[left], self.views[right], out=self.views[left])
