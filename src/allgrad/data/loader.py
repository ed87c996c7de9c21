"""Batches for the workers of one rank, made ahead of time by one thread.

Contract.

- `next(loader)` gives, for each of this rank's virtual workers in order, its micro-batch of the next global batch.
  A worker without samples gets arrays of length zero, with the right keys, shapes and dtypes.
- `state_dict()` is the position after the last batch that the caller got; what the thread has prepared beyond it does not
  count. It is known without asking the thread.
- An exception in the thread (a damaged file, a bug in the data set) is raised by the `next` that would have
  returned that batch, with its own traceback; every `next` after it raises it again.
- `close` ends the thread and waits for it; it never hangs on a full or an empty queue. Use the loader in `with`.
- The arrays are read-only: the tape then need not look whether they were written between forward and backward.
- With `prefetch=0` there is no thread, and the same batches are made when they are asked for.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from allgrad.data.sampler import cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from allgrad.data.datasets import Batch, Dataset
    from allgrad.data.sampler import Sampler

__all__ = ["Loader", "LocalBatch", "worker_batches"]


@dataclass(frozen=True)
class LocalBatch:
    """What one rank needs for one step.

    Attributes:
        epoch: which pass over the data, from 0.
        number: which batch of that epoch, from 0.
        samples: samples in the global batch, over all workers of all ranks.
        workers: one micro-batch for each of this rank's virtual workers, in order.
    """

    epoch: int
    number: int
    samples: int
    workers: tuple[Batch, ...]


@dataclass(frozen=True)
class _Ready:
    batch: LocalBatch | None
    state: dict[str, int | bool]
    error: BaseException | None = None


def worker_batches(
    dataset: Dataset, indices: NDArray[np.int64], workers: Sequence[int], virtual_workers: int, epoch: int
) -> tuple[Batch, ...]:
    """The micro-batches of `workers` (numbers in 0 .. virtual_workers - 1) of the global batch `indices`.

    Training and evaluation both cut with this, so that a worker's rows never depend on the number of ranks.
    """
    slices = cut(len(indices), virtual_workers)
    return tuple(dataset.batch(indices[slices[worker]], epoch=epoch) for worker in workers)


class Loader:
    """An endless iterator over `LocalBatch`.

    Args:
        dataset: see `allgrad.data.datasets.Dataset`.
        sampler: the global order; the loader owns it from now on.
        workers: this rank's virtual workers.
        virtual_workers: how many there are over all ranks.
        prefetch: batches made ahead by the thread; 0 for none.

    Raises:
        ValueError: when a worker is not in 0 .. virtual_workers - 1, or prefetch is negative.

    Example:
        >>> import numpy as np
        >>> from allgrad.data import ArrayDataset, Sampler
        >>> data = ArrayDataset({"inputs": np.arange(5.0)})
        >>> with Loader(data, Sampler(5, 4, seed=0, shuffle=False), workers=[0, 1], virtual_workers=2) as loader:
        ...     [[worker["inputs"].tolist() for worker in next(loader).workers] for _ in range(2)]
        [[[0.0, 1.0], [2.0, 3.0]], [[], [4.0]]]
    """

    def __init__(
        self, dataset: Dataset, sampler: Sampler, *, workers: Sequence[int], virtual_workers: int, prefetch: int = 2
    ) -> None:
        if any(not 0 <= worker < virtual_workers for worker in workers):
            raise ValueError(f"loader: workers must lie in 0..{virtual_workers - 1}. Got {list(workers)} instead.")
        if prefetch < 0:
            raise ValueError(f"loader: prefetch must be at least 0. Got {prefetch} instead.")
        self._dataset = dataset
        self._sampler = sampler
        self._workers = tuple(workers)
        self._virtual_workers = virtual_workers
        self._prefetch = prefetch
        self._position = sampler.state_dict()
        self._error: BaseException | None = None
        self._queue: queue.Queue[_Ready] = queue.Queue(maxsize=max(prefetch, 1))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
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
            raise RuntimeError("loader: it is closed; no batch can be read from it. Make a new one.")
        if self._error is not None:
            raise self._error
        ready = self._make() if self._prefetch == 0 else self._take()
        if ready.error is not None:
            self._error = ready.error
            raise ready.error
        assert ready.batch is not None
        self._position = ready.state
        return ready.batch

    def state_dict(self) -> dict[str, int | bool]:
        """The position after the last batch that was handed out; JSON."""
        return dict(self._position)

    def load_state_dict(self, state: Mapping[str, int | bool]) -> None:
        """Go to a position; what was prefetched is dropped.

        Raises:
            ValueError: when the position belongs to other data (see `Sampler.load_state_dict`); the loader then stays
                where it was.
        """
        self._end_thread()
        try:
            self._sampler.load_state_dict(state)
        except ValueError:
            self._sampler.load_state_dict(self._position)  # the thread had run ahead
            raise
        self._position = self._sampler.state_dict()
        self._error = None

    def close(self) -> None:
        """End the thread. May be called twice."""
        self._closed = True
        self._end_thread()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make(self) -> _Ready:
        try:
            chosen = self._sampler.next_batch()
            parts = worker_batches(
                self._dataset, chosen.indices, self._workers, self._virtual_workers, epoch=chosen.epoch
            )
        except BaseException as error:
            return _Ready(None, {}, error)
        for array in (array for part in parts for array in part.values()):
            array.flags.writeable = False
        return _Ready(LocalBatch(chosen.epoch, chosen.number, len(chosen.indices), parts), self._sampler.state_dict())

    def _take(self) -> _Ready:
        if self._thread is None:
            self._thread = threading.Thread(target=self._produce, name="allgrad-loader", daemon=True)
            self._thread.start()
        return self._queue.get()

    def _produce(self) -> None:
        while not self._stop.is_set():
            ready = self._make()
            self._put(ready)
            if ready.error is not None:
                return

    def _put(self, ready: _Ready) -> None:
        # `close` sets the flag first and then empties the queue, so a put that waits here always comes back.
        while not self._stop.is_set():
            try:
                self._queue.put(ready, timeout=0.1)
            except queue.Full:
                continue
            return

    def _end_thread(self) -> None:
        if self._thread is None:
            return
        self._stop.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(timeout=0.01)
        self._drain()
        self._thread = None
        self._stop.clear()

    def _drain(self) -> None:
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return
