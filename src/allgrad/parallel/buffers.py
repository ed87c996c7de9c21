"""Buffers and virtual workers: every worker starts from the step's opening state, and their copies are merged by rule.

Running statistics must not leak from one worker to the next worker of the same rank, or the result would depend on how many
share a rank. So each worker that has samples starts from the opening state, and the state it ends with is kept. After
the step, a "mean" buffer becomes the mean over these workers, summed over the fixed tree, and a "last" buffer that of the
last of them.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import nn
from allgrad.comm import block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from allgrad.comm import World

Array = np.ndarray[Any, Any]

_NOTHING = nullcontext()


class WorkerBuffers:
    """The buffers of a model, worker by worker. All methods do nothing for a model without buffers.

    Args:
        model: the model whose buffers these are.
        world: the ranks.
        virtual_workers: the number of virtual workers.
    """

    def __init__(self, model: nn.Module, world: World, virtual_workers: int) -> None:
        self.model, self.virtual_workers = model, virtual_workers
        self.workers = block(world.rank, world.size, virtual_workers)
        self.rules = {name: rule.merge for name, rule in model.buffer_rules().items()}
        self.opening: dict[str, Array] = {}
        self.ended: dict[int, dict[str, Array]] = {}

    def step(self) -> AbstractContextManager[None]:
        """Around one step. If it fails, the model gets its opening state back."""
        return self._step() if self.rules else _NOTHING

    @contextmanager
    def _step(self) -> Iterator[None]:
        self.opening, self.ended = self.model.buffers_state(), {}
        try:
            yield
        except BaseException:
            self.restore()
            raise

    def worker(self, worker: int) -> AbstractContextManager[None]:
        """Inside, the model has this worker's buffers: the opening state, or what the worker had when it paused."""
        return self._worker(worker) if self.rules else _NOTHING

    @contextmanager
    def _worker(self, worker: int) -> Iterator[None]:
        if worker in self.ended:
            self.model.load_buffers_state(self.ended[worker])
        yield
        self.ended[worker] = self.model.buffers_state()
        self.model.load_buffers_state(self.opening)

    def batch(self, workers: nn.Workers) -> None:
        """Take over what the workers of a batch (`nn.batched_workers`) have made of their buffers in a forward pass.

        Raises:
            nn.OneByOneError: a module changed its own array, which all of them share.
        """
        if not self.rules:
            return
        arrays = dict(self.model.named_buffers())
        for name, array in arrays.items():
            if not np.array_equal(array, self.opening[name], equal_nan=True):
                raise nn.OneByOneError(f"the module with the buffer {name} changes it, but not by worker")
        for place, worker in enumerate(self.workers):
            self.ended[worker] = {name: workers.buffer(array)[place] for name, array in arrays.items()}

    def restore(self) -> None:
        """Give the model its opening state back."""
        if self.rules:
            self.model.load_buffers_state(self.opening)

    def rows(self, lengths: Mapping[int, int]) -> Array:
        """The buffers of this rank's workers, to be summed by `tree_sum` and given to `merge`.

        Args:
            lengths: worker -> the number of its samples. Workers without samples contribute nothing.

        Returns:
            (local workers, n) float64: a flag for each virtual worker that has samples, and the buffers.
        """
        if not self.rules:
            return np.zeros((len(self.workers), 0))
        size = sum(array.size for array in self.opening.values())
        rows = np.zeros((len(self.workers), self.virtual_workers + self.virtual_workers * self._last_size() + size))
        for row, worker in zip(rows, self.workers, strict=True):
            if lengths[worker]:
                row[worker] = 1.0
                self._write(row, worker)
        return rows

    def _last_size(self) -> int:
        return sum(self.opening[name].size for name, rule in self.rules.items() if rule == "last")

    def _write(self, row: Array, worker: int) -> None:
        state = self.ended[worker]
        last = [state[name].ravel() for name, rule in self.rules.items() if rule == "last"]
        size = self._last_size()
        if last:
            first = self.virtual_workers + worker * size
            row[first : first + size] = np.concatenate(last)
        position = self.virtual_workers * (1 + size)
        for name, rule in self.rules.items():
            if rule == "mean":
                row[position : position + state[name].size] = state[name].ravel()
                position += state[name].size

    def merge(self, summed: Array) -> None:
        """Write the merged buffers into the model, given the sum of all workers' rows."""
        if not self.rules:
            return
        present = np.flatnonzero(summed[: self.virtual_workers])
        size = self._last_size()
        final = self.virtual_workers + int(present[-1]) * size
        last, means = summed[final : final + size], summed[self.virtual_workers * (1 + size) :] / present.size
        state: dict[str, Array] = {}
        for name, rule in self.rules.items():
            source = last if rule == "last" else means
            before = self.opening[name]
            state[name] = source[: before.size].reshape(before.shape).astype(before.dtype)
            if rule == "last":
                last = last[before.size :]
            else:
                means = means[before.size :]
        self.model.load_buffers_state(state)
