"""Buffers over virtual workers: every worker starts from the step's opening state, and their copies are merged by rule.

Running statistics must not leak from one worker to the next of the same rank: how many share a rank would show in the result.
So each worker that has samples gets the opening state, and what it leaves is kept aside. After the step "mean" buffers
become the mean over these workers, summed over the fixed tree, and "last" buffers those of the last of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.comm import block

if TYPE_CHECKING:
    from allgrad import nn
    from allgrad.comm import World

Array = np.ndarray[Any, Any]


class WorkerBuffers:
    """The buffers of a model, worker by worker. All of its methods do nothing for a model without buffers.

    Args:
        model: whose buffers.
        world: the ranks.
        virtual_workers: V.
    """

    def __init__(self, model: nn.Module, world: World, virtual_workers: int) -> None:
        self.model, self.virtual_workers = model, virtual_workers
        self.workers = block(world.rank, world.size, virtual_workers)
        self.rules = {name: rule.merge for name, rule in model.buffer_rules().items()}
        self.opening: dict[str, Array] = {}
        self.left: dict[int, dict[str, Array]] = {}

    def open(self) -> None:
        """A step begins."""
        self.opening = self.model.buffers_state() if self.rules else {}
        self.left = {}

    def enter(self, worker: int) -> None:  # noqa: ARG002 - every worker starts alike
        """A worker begins: from the opening state."""
        if self.rules:
            self.model.load_buffers_state(self.opening)

    def leave(self, worker: int) -> None:
        """A worker has ended, or pauses: its state is kept aside, and the next one finds the opening state."""
        if self.rules:
            self.left[worker] = self.model.buffers_state()
            self.model.load_buffers_state(self.opening)

    def resume(self, worker: int) -> None:
        """A paused worker goes on."""
        if self.rules:
            self.model.load_buffers_state(self.left[worker])

    def restore(self) -> None:
        """A step has failed: back to the opening state."""
        if self.opening:
            self.model.load_buffers_state(self.opening)
            self.opening = {}

    def leave_out(self, worker: int) -> None:
        """A worker without samples has no say."""
        self.left.pop(worker, None)

    def rows(self) -> Array:
        """(local workers, n) float64: for each worker a flag for "has samples", by worker, and its buffers; for `tree_sum`."""
        if not self.rules:
            return np.zeros((len(self.workers), 0))
        size = sum(array.size for array in self.opening.values())
        rows = np.zeros((len(self.workers), self.virtual_workers + self.virtual_workers * self._last_size() + size))
        for row, worker in zip(rows, self.workers, strict=True):
            if worker in self.left:
                row[worker] = 1.0
                self._write(row, worker)
        return rows

    def _last_size(self) -> int:
        return sum(self.opening[name].size for name, rule in self.rules.items() if rule == "last")

    def _write(self, row: Array, worker: int) -> None:
        state = self.left[worker]
        last = [state[name].ravel() for name, rule in self.rules.items() if rule == "last"]
        size = self._last_size()
        if last:
            row[self.virtual_workers + worker * size : self.virtual_workers + (worker + 1) * size] = np.concatenate(
                last
            )
        position = self.virtual_workers * (1 + size)
        for name, rule in self.rules.items():
            if rule == "mean":
                row[position : position + state[name].size] = state[name].ravel()
                position += state[name].size

    def merge(self, summed: Array) -> None:
        """Write the merged buffers into the model, given the sum of all workers' rows."""
        if not self.rules:
            return
        opening, self.opening = self.opening, {}
        present = np.flatnonzero(summed[: self.virtual_workers])
        size = sum(opening[name].size for name, rule in self.rules.items() if rule == "last")
        final = self.virtual_workers + int(present[-1]) * size
        last, means = summed[final : final + size], summed[self.virtual_workers * (1 + size) :] / present.size
        state: dict[str, Array] = {}
        for name, rule in self.rules.items():
            source = last if rule == "last" else means
            before = opening[name]
            state[name] = source[: before.size].reshape(before.shape).astype(before.dtype)
            if rule == "last":
                last = last[before.size :]
            else:
                means = means[before.size :]
        self.model.load_buffers_state(state)
