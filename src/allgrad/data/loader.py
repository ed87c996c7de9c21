"""Batches for the virtual workers of one rank, prefetched by one thread.

Contract.

- `next(loader)` returns this rank's samples of the next global batch as one batch, virtual worker after virtual worker, and how
  many each worker has. If none of them has a sample, the arrays have length zero, with the usual keys, shapes and dtypes.
- `state_dict()` is the position after the last batch that the caller received; batches that are only prefetched do not
  count. It does not wait for the thread.
- An exception in the thread (a damaged file, a bug in the data set) is raised by the `next` that would have returned that
  batch, and by every later one.
- `close` stops the thread. It gives up on a data set that does not return; the thread then ends with the process. Use the
  loader in a `with` statement.
- The arrays are read-only, so the tape need not check whether they were overwritten between forward and backward.
- With `prefetch=0` there is no thread, and the same batches are made when they are asked for.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from allgrad.data.datasets import check_first_sample, read_batch
from allgrad.data.prefetch import Prefetcher
from allgrad.data.sampler import cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from allgrad.data.datasets import Batch, Dataset
    from allgrad.data.sampler import Sampler

__all__ = ["Loader", "LocalBatch", "read_share"]

_PATIENCE = 5.0  # seconds that `close` waits for a batch that is being made

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalBatch:
    """The samples of one rank for one step.

    Attributes:
        epoch: which pass over the data, from 0.
        number: which batch of that epoch, from 0.
        samples: samples in the global batch, over all virtual workers of all ranks.
        arrays: the samples of this rank's virtual workers, one worker after another.
        lengths: how many samples each of them has.
    """

    epoch: int
    number: int
    samples: int
    arrays: Batch
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class _Ready:
    batch: LocalBatch
    position: dict[str, int | bool]  # the sampler's, after this batch


def read_share(
    dataset: Dataset,
    indices: NDArray[np.int64],
    workers: Sequence[int],
    virtual_workers: int,
    epoch: int,
    *,
    check: bool = False,
) -> tuple[Batch, tuple[int, ...]]:
    """The samples that `workers` (numbers in 0..virtual_workers - 1) have of the global batch `indices`, and how many each has.

    Training and evaluation both use this function, so a worker's rows never depend on the number of ranks.

    Raises:
        DataError: when the data set's `batch` returns something else than its contract says; with `check` also when the first
            sample depends on the batch (`check_first_sample`).
    """
    slices = cut(len(indices), virtual_workers)
    mine = [indices[slices[worker]] for worker in workers]
    share = np.concatenate(mine)
    batch = read_batch(dataset, share, epoch)
    if check:
        check_first_sample(dataset, share, epoch, batch)
    return batch, tuple(map(len, mine))


class Loader:
    """An endless iterator over `LocalBatch`.

    Args:
        dataset: see `allgrad.data.datasets.Dataset`.
        sampler: the global order; from now on the loader owns it.
        workers: this rank's virtual workers.
        virtual_workers: how many virtual workers there are over all ranks.
        prefetch: batches that the thread makes ahead of time; 0 for no thread.

    Raises:
        ValueError: when a worker is not in 0..virtual_workers - 1, or `prefetch` is negative.

    Example:
        >>> import numpy as np
        >>> from allgrad.data import ArrayDataset, Sampler
        >>> data = ArrayDataset({"inputs": np.arange(5.0)})
        >>> with Loader(data, Sampler(5, 4, seed=0, shuffle=False), workers=[0, 1], virtual_workers=2) as loader:
        ...     [(batch.arrays["inputs"].tolist(), batch.lengths) for batch in (next(loader), next(loader))]
        [([0.0, 1.0, 2.0, 3.0], (2, 2)), ([4.0], (0, 1))]
    """

    def __init__(
        self, dataset: Dataset, sampler: Sampler, *, workers: Sequence[int], virtual_workers: int, prefetch: int = 2
    ) -> None:
        if any(not 0 <= worker < virtual_workers for worker in workers):
            raise ValueError(f"loader: workers must be in 0..{virtual_workers - 1}. Got {list(workers)}.")
        if prefetch < 0:
            raise ValueError(f"loader: prefetch must be at least 0. Got {prefetch}.")
        self._dataset = dataset
        self._sampler = sampler
        self._workers = tuple(workers)
        self._virtual_workers = virtual_workers
        self._prefetch = prefetch
        self._position = sampler.state_dict()
        self._failure: BaseException | None = None
        self._checked = False
        self._prefetcher: Prefetcher[_Ready] | None = None
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LocalBatch:
        """The next batch.

        Raises:
            RuntimeError: when the loader is closed.
            BaseException: whatever the data set raised while it made this batch.
        """
        if self._closed:
            raise RuntimeError("loader: it is closed, so there is no next batch. Make a new loader.")
        ready = self._started().take() if self._prefetch else self._made_now()
        self._position = ready.position
        return ready.batch

    def state_dict(self) -> dict[str, int | bool]:
        """The position after the last batch that was handed out; JSON."""
        return dict(self._position)

    def load_state_dict(self, state: Mapping[str, int | bool]) -> None:
        """Go to a position; prefetched batches are dropped.

        Raises:
            ValueError: when the position belongs to other data (see `Sampler.load_state_dict`); the loader then stays
                where it was.
            RuntimeError: when the data set is still busy with a batch and does not return.
        """
        if not self._stop():
            raise RuntimeError("loader: the data set does not return from batch(), so the position cannot be changed.")
        try:
            self._sampler.load_state_dict(state)
        except ValueError:
            self._sampler.load_state_dict(self._position)  # the thread had run ahead
            raise
        self._position = self._sampler.state_dict()
        self._failure = None

    def close(self) -> None:
        """Stop the thread. May be called twice."""
        already, self._closed = self._closed, True
        if not already and not self._stop():
            _log.warning(
                "The data set %s has not returned from batch() for %g s. Its thread is left to end with the process.",
                type(self._dataset).__qualname__,
                _PATIENCE,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self) -> _Ready:
        chosen = self._sampler.next_batch()
        arrays, lengths = read_share(
            self._dataset, chosen.indices, self._workers, self._virtual_workers, chosen.epoch, check=not self._checked
        )
        self._checked = True
        for array in arrays.values():
            array.flags.writeable = False
        batch = LocalBatch(chosen.epoch, chosen.number, len(chosen.indices), arrays, lengths)
        return _Ready(batch, self._sampler.state_dict())

    def _made_now(self) -> _Ready:
        if self._failure is not None:
            raise self._failure
        try:
            return self._make()
        except BaseException as error:
            self._failure = error  # the sampler has moved on, so the next batch would not be this one
            raise

    def _started(self) -> Prefetcher[_Ready]:
        if self._prefetcher is None:
            self._prefetcher = Prefetcher(self._make, depth=self._prefetch, name="allgrad-loader")
        return self._prefetcher

    def _stop(self) -> bool:
        """Stop the thread and drop what it prefetched; return whether it ended."""
        ended = self._prefetcher is None or self._prefetcher.stop(_PATIENCE)
        if ended:
            self._prefetcher = None
        return ended
