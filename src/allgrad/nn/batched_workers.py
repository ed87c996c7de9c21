"""Several virtual workers' samples as one batch.

A rank may run the forward pass, and the backward pass of activations, of all its virtual workers as one batch, if the result
for a sample does not depend on the samples around it. That holds for layers whose kernels compute each row for itself, in
one order (`kernels.portable`). What is summed over samples remains separate for each worker, with the bits that the worker would
have on its own:

- gradients of parameters (`gradients.py`),
- losses: `batch_sum` gives one sum per worker,
- statistics: a worker's are those of its rows, and it has its own copy of each buffer (`Workers.buffer`),
- random numbers: each worker's samples draw from the worker's own stream (`random.py`).

A module says that it can do this by `rows_independent = True` in its own class; `cannot_batch` asks. The samples are along
the first axis, worker after worker. An axis that was merged with it (batch * length) is shared out in proportion.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad.autodiff import Fused
from allgrad.autodiff.fused import on_backward
from allgrad.kernels import active

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from allgrad.nn.module import Module

Array = np.ndarray[Any, Any]


class Tree(NamedTuple):
    """The additions of a sum over neighbouring workers of a batch, as those of a stack (`kernels/gradients.py`).

    Attributes:
        first: the first of these workers, counted from the first one of the batch.
        merges: for each of them, how many additions follow when its own sum has been pushed.
    """

    first: int
    merges: tuple[int, ...]


class _Layout:
    """Where the rows of each worker are along an axis, for given numbers of samples; what was asked before is remembered."""

    def __init__(self, samples: tuple[int, ...]) -> None:
        self._counts = np.array(samples, np.int64)
        self._edges = np.array((0, *accumulate(samples)), np.int64)
        self._samples = int(self._edges[-1])
        self._scaled: dict[int, tuple[Array, Array, tuple[slice, ...]]] = {}
        self._segments: dict[tuple[int, Tree], tuple[slice, Array]] = {}

    def rows(self, rows: int) -> tuple[Array, Array, tuple[slice, ...]]:
        """The edges, what is between them: numbers of rows, and slices, along an axis of so many rows."""
        found = self._scaled.get(rows)
        if found is None:
            each, rest = divmod(rows, self._samples) if self._samples else (0, rows)
            if rest:
                raise RuntimeError(
                    f"{rows} rows cannot be shared out among {self._samples} samples of several virtual workers."
                )
            edges, counts = self._edges * each, self._counts * each
            edges.flags.writeable = counts.flags.writeable = False
            spans = tuple(slice(start, stop) for start, stop in pairwise(edges.tolist()))
            found = self._scaled[rows] = edges, counts, spans
        return found

    def segments(self, rows: int, tree: Tree) -> tuple[slice, Array]:
        """The rows of a tree's workers, and for each of them how many it has, and merges: (workers, 2) int64."""
        found = self._segments.get((rows, tree))
        if found is None:
            edges, counts, _ = self.rows(rows)
            last = tree.first + len(tree.merges)
            table = np.array([counts[tree.first : last], tree.merges]).T.copy()
            found = self._segments[rows, tree] = slice(int(edges[tree.first]), int(edges[last])), table
        return found


_layout = lru_cache(maxsize=64)(_Layout)
"""The batches of a run have few different numbers of samples."""


class Workers:
    """The workers of a batch.

    Attributes:
        samples: how many samples each worker has, in the order of the batch; 0 is allowed.
        equal: whether all have as many, and more than 0.
        chosen: whether these are only some of the samples (`chosen_rows`).
        segments: see `_Layout.segments`.
    """

    def __init__(self, samples: Sequence[int], *, chosen: bool = False) -> None:
        self.samples, self.chosen = tuple(samples), chosen
        self.equal = min(self.samples) == max(self.samples) > 0
        self._layout = _Layout(self.samples) if chosen else _layout(self.samples)
        self.segments = self._layout.segments
        self._buffers: dict[int, tuple[Array, Array]] = {}

    def choose(self, mask: Array) -> Workers:
        """The workers of those samples for which `mask` is true."""
        chosen = Workers([int(np.count_nonzero(mask[rows])) for rows in self.spans(len(mask))], chosen=True)
        chosen._buffers = self._buffers
        return chosen

    def buffer(self, array: Array) -> Array:
        """Each worker's copy of a module's buffer, which it may change: (workers, *array.shape)."""
        if self is ONE_WORKER:
            return array[None]
        if id(array) not in self._buffers:
            self._buffers[id(array)] = array, np.repeat(array[None], len(self.samples), axis=0)
        return self._buffers[id(array)][1]

    def edges(self, rows: int) -> Array:
        """Where each worker's rows begin along an axis of `rows` rows, and at the end their number: (workers + 1,) int64."""
        return self._layout.rows(rows)[0]

    def each(self, rows: int) -> Array:
        """How many rows each worker has along an axis of `rows` rows: (workers,) int64."""
        return self._layout.rows(rows)[1]

    def counts(self, rows: int) -> Any:
        """The same as one number, if it is the same for all workers."""
        counts = self.each(rows)
        return int(counts[0]) if self.equal else counts

    def spans(self, rows: int) -> tuple[slice, ...]:
        """The rows of each worker, along an axis of `rows` rows."""
        return self._layout.rows(rows)[2]


class OneByOneError(RuntimeError):
    """Raised in a forward pass that cannot be that of several workers; its message is the reason why they must run one by one."""


ONE_WORKER = Workers([1])
"""All rows belong to one worker: what a batch is without `batched_workers`."""

_current: ContextVar[Workers | None] = ContextVar("allgrad_batched_workers", default=None)


current_workers: Callable[[], Workers | None] = _current.get
"""The workers whose samples run as one batch here; None if there is only one worker."""


def batched_workers(samples: Sequence[int] | Workers) -> AbstractContextManager[Workers]:
    """A context for the forward and backward pass of one batch with the samples of several workers, in their order."""
    return _Within(samples if isinstance(samples, Workers) else Workers(samples))


@contextmanager
def chosen_rows(mask: Array) -> Iterator[None]:
    """A context for a term of a loss that uses only some samples of the batch: inside, arrays have the rows where `mask` is true.

    A loss that runs its workers as one batch (`rows_independent`) needs it, since workers may have unequal numbers of such rows.
    It affects forward passes, and their backward passes wherever these run. Outside of such a batch it does nothing.

    Args:
        mask: (samples,) bool, for the samples of the batch.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> x, inside = np.array([[1.0], [2.0], [3.0]]), np.array([True, False, True])
    >>> with nn.batched_workers([2, 1]), nn.chosen_rows(inside):
    ...     print(nn.batch_sum(x[inside]).numpy())
    [1. 3.]
    """
    workers = _current.get()
    if workers is None:
        yield
        return
    on_backward(_same_rows)
    with _Within(workers.choose(mask)):
        yield


def _same_rows() -> Callable[[], AbstractContextManager[Any]] | None:
    """What a backward pass must enter to see the workers of its forward pass; None if these are those of the whole batch."""
    workers = _current.get()
    return None if workers is None or not workers.chosen else partial(_Within, workers)


class _Within:
    """A context with these workers. (A generator takes four times as long, and each operation of a backward pass enters one.)"""

    __slots__ = ("token", "workers")

    def __init__(self, workers: Workers) -> None:
        self.workers = workers

    def __enter__(self) -> Workers:
        self.token = _current.set(self.workers)
        return self.workers

    def __exit__(self, *_: object) -> None:
        _current.reset(self.token)


def cannot_batch(model: Module) -> str:
    """Which module keeps several workers' samples from running through `model` as one batch: its type and path; "" for none."""
    for path, module in model.named_modules():
        if not declares_rows_independent(module):
            return f"{type(module).__name__} {path!r}" if path else type(module).__name__
    return ""


def declares_rows_independent(thing: Any) -> bool:
    """Whether the class of a module or loss declares `rows_independent`.

    It must be the class itself, since a subclass may do anything in its `forward`.
    """
    return "rows_independent" in vars(type(thing)) and "forward" not in vars(thing) and bool(thing.rows_independent)


def worker_sums(entries: Array, scale: float = 1.0) -> Any:
    """The sum of `entries` times a factor, (); of a batch of several workers, one sum for each: (workers,)."""
    workers = _current.get()
    if workers is None:
        return active().scaled_sum(entries, scale)
    if workers.equal and entries.flags.c_contiguous:  # each row of a matrix is added up like an array of its own
        workers.counts(len(entries))
        return np.add.reduce(entries.reshape(len(workers.samples), -1), axis=1) * scale
    sums = [np.add.reduce(entries[rows], axis=None) for rows in workers.spans(len(entries))]
    return np.array(sums, entries.dtype) * scale


def per_row(g: Array, factor: float, rows: int) -> Array | float:
    """The cotangent of `worker_sums` times a factor: a number, or one for each of `rows` rows."""
    workers = _current.get()
    if workers is None:
        return float(g) * factor
    return np.repeat(g.astype(np.float64) * factor, workers.counts(rows))


def _sum_backward(g: Array, residuals: Any, *, needs: Any) -> tuple[Array]:  # noqa: ARG001
    shape, counts = residuals
    each = np.repeat(g, counts).reshape(-1, *(1,) * (len(shape) - 1))
    return (each if each.shape == shape else np.broadcast_to(each, shape),)


def _sum_forward(entries: Array) -> tuple[Array, Any]:
    workers = _current.get()
    assert workers is not None
    return worker_sums(entries), (entries.shape, workers.counts(len(entries)))


_sum_by_worker = Fused(_sum_forward, _sum_backward, name="sum_by_worker")


def batch_sum(entries: Any) -> Any:
    """The sum of a loss over all its entries (batch, ...); of a batch of several workers, one sum for each: (workers,)."""
    return np.sum(entries) if _current.get() is None else _sum_by_worker(entries)


def batch_count(entries: Any) -> Any:
    """How many of `entries` (batch, ...) are not zero; of a batch of several workers, one number for each: (workers,).

    >>> import numpy as np
    >>> with batched_workers([2, 1]):
    ...     batch_count(np.array([True, True, False]))
    array([2, 0])
    """
    workers = _current.get()
    if workers is None:
        return np.count_nonzero(entries)
    return np.array([np.count_nonzero(entries[rows]) for rows in workers.spans(len(entries))])


def batch_size(entries: Any) -> Any:
    """How many entries (batch, ...) there are; of a batch of several workers, one number for each: (workers,)."""
    workers = _current.get()
    return entries.size if workers is None else workers.each(entries.size)
