"""Which samples make up which step: the order of the data, its position, and its cut into virtual workers.

Contract.

- The order of an epoch depends only on (number of samples, seed, epoch), and the global batches only on that order and the
  batch size. Nothing here depends on ranks: worker v of step s gets the same samples on any rank.
- Every epoch has every sample exactly once. Its last batch is smaller if the batch size does not divide the number of
  samples; no batch is empty.
- The position counts the batches that `next_batch` handed out. It is JSON. A sampler that loads it continues exactly there,
  also in the middle of an epoch.
- `cut` divides the n samples of a batch among V virtual workers at floor(v n / V): sizes differ by at most one, the order is
  kept, and some workers are empty where n < V. Evaluation uses the same function, in the data's own order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from allgrad.comm.tree import cut as cut
from allgrad.data.random import permutation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["GlobalBatch", "Sampler", "cut", "evaluation_batches"]


@dataclass(frozen=True)
class GlobalBatch:
    """The samples of one step, over all workers.

    Attributes:
        epoch: which pass over the data, from 0.
        number: which batch of that epoch, from 0.
        indices: int64, the samples in order.
    """

    epoch: int
    number: int
    indices: NDArray[np.int64]


def evaluation_batches(count: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Every sample once, in the data's order, in batches of `size`; the last one is smaller.

    Example:
        >>> [batch.tolist() for batch in evaluation_batches(5, 2)]
        [[0, 1], [2, 3], [4]]
    """
    _positive(size, "size")
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count), dtype=np.int64)


class Sampler:
    """An endless sequence of global batches.

    Args:
        samples: how many samples the data set has.
        size: samples in a global batch.
        seed: the run's seed.
        shuffle: draw a new order every epoch; otherwise keep the data's own order.

    Raises:
        ValueError: when there are no samples, or the size is not positive.

    Example:
        >>> sampler = Sampler(5, 2, seed=0, shuffle=False)
        >>> [sampler.next_batch().indices.tolist() for _ in range(4)]
        [[0, 1], [2, 3], [4], [0, 1]]
        >>> sampler.state_dict()["epoch"], sampler.state_dict()["batch"]
        (1, 1)
    """

    def __init__(self, samples: int, size: int, *, seed: int, shuffle: bool = True) -> None:
        _positive(samples, "samples")
        _positive(size, "size")
        self.samples = samples
        self.size = size
        self.seed = seed
        self.shuffle = shuffle
        self._epoch = 0
        self._batch = 0
        self._order: tuple[int, NDArray[np.int64]] | None = None  # the epoch it belongs to, and the order

    @property
    def batches_per_epoch(self) -> int:
        return -(-self.samples // self.size)

    def next_batch(self) -> GlobalBatch:
        """The next batch; the position moves past it."""
        start = self._batch * self.size
        batch = GlobalBatch(self._epoch, self._batch, self._epoch_order()[start : start + self.size])
        self._batch += 1
        if self._batch == self.batches_per_epoch:
            self._epoch, self._batch = self._epoch + 1, 0
        return batch

    def state_dict(self) -> dict[str, int | bool]:
        """The position, and the data and settings that it belongs to; JSON."""
        return {
            "samples": self.samples,
            "size": self.size,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "epoch": self._epoch,
            "batch": self._batch,
        }

    def load_state_dict(self, state: Mapping[str, int | bool]) -> None:
        """Go to a position that `state_dict` returned.

        Raises:
            ValueError: when the position belongs to other data, another batch size, seed or order, or is not valid.
        """
        mine = self.state_dict()
        if set(state) != set(mine):
            raise ValueError(f"position in the data: expected the keys {sorted(mine)}. Got {sorted(state)}.")
        for key in ("samples", "size", "seed", "shuffle"):
            if state[key] != mine[key]:
                raise ValueError(
                    f"position in the data: it was saved with {key} = {state[key]}, but this run has {mine[key]}, so the "
                    "rest of the epoch would have other samples. Resume with the saved value, or start a new run."
                )
        epoch, batch = int(state["epoch"]), int(state["batch"])
        if epoch < 0 or not 0 <= batch < self.batches_per_epoch:
            raise ValueError(
                f"position in the data: expected epoch >= 0 and batch in 0..{self.batches_per_epoch - 1}. "
                f"Got epoch {epoch}, batch {batch}."
            )
        self._epoch, self._batch = epoch, batch

    def _epoch_order(self) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != self._epoch:
            natural = np.arange(self.samples, dtype=np.int64)
            order = permutation(self.samples, self.seed, self._epoch) if self.shuffle else natural
            self._order = (self._epoch, order)
        return self._order[1]


def _positive(value: int, label: str) -> None:
    if value < 1:
        raise ValueError(f"sampler: {label} must be at least 1. Got {value!r}.")
