"""Several virtual workers' samples as one batch.

A rank may run the forward pass, and the backward pass of activations, of all its virtual workers as one batch, if the result
for a sample does not depend on the samples around it. That holds for layers whose kernels compute each row for itself, in
one order (`kernels.portable`). What is summed over samples remains separate for each worker, with the bits that the worker would
have on its own:

- gradients of parameters (`gradients.py`),
- losses: `batch_sum` gives one sum per worker,
- random numbers: each worker's samples draw from the worker's own stream (`random.py`).

A module says that it can do this by `rows_independent = True` in its own class; `cannot_batch` asks. The samples are along
the first axis, worker after worker. An axis that was merged with it (batch * length) is shared out in proportion.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff import Fused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from allgrad.nn.module import Module

Array = np.ndarray[Any, Any]


class Workers:
    """The workers of a batch.

    Attributes:
        samples: how many samples each worker has, in the order of the batch; 0 is allowed.
    """

    def __init__(self, samples: Sequence[int]) -> None:
        self.samples = tuple(samples)
        self._edges = (0, *accumulate(self.samples))
        self._scaled: dict[int, Array] = {}
        self._spans: dict[int, tuple[slice, ...]] = {}

    def edges(self, rows: int) -> Array:
        """Where each worker's rows begin along an axis of `rows` rows, and at the end their number: (workers + 1,) int64."""
        found = self._scaled.get(rows)
        if found is None:
            each, rest = divmod(rows, self._edges[-1])
            if rest:
                raise RuntimeError(
                    f"{rows} rows cannot be shared out among {self._edges[-1]} samples of several virtual workers."
                )
            found = self._scaled[rows] = np.array(self._edges, np.int64) * each
        return found

    def spans(self, rows: int) -> tuple[slice, ...]:
        """The rows of each worker, along an axis of `rows` rows."""
        found = self._spans.get(rows)
        if found is None:
            found = self._spans[rows] = tuple(slice(a, b) for a, b in pairwise(self.edges(rows).tolist()))
        return found


_current: ContextVar[Workers | None] = ContextVar("allgrad_batched_workers", default=None)


def current_workers() -> Workers | None:
    """The workers whose samples run as one batch here; None if there is only one worker."""
    return _current.get()


@contextmanager
def batched_workers(samples: Sequence[int]) -> Iterator[Workers]:
    """A context for the forward and backward pass of one batch with the samples of several workers, in their order."""
    workers = Workers(samples)
    token = _current.set(workers)
    try:
        yield workers
    finally:
        _current.reset(token)


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


def worker_sums(entries: Array) -> Array:
    """The sum of `entries`; of a batch of several workers, one sum for each: (workers,)."""
    workers = _current.get()
    if workers is None:
        return np.asarray(np.add.reduce(entries, axis=None))
    return np.array([np.add.reduce(entries[rows], axis=None) for rows in workers.spans(len(entries))], entries.dtype)


def per_row(g: Array, factor: float, rows: int) -> Array | float:
    """The cotangent of `worker_sums` times a factor: a number, or one for each of `rows` rows."""
    workers = _current.get()
    if workers is None:
        return float(g) * factor
    return np.repeat(g.astype(np.float64) * factor, [span.stop - span.start for span in workers.spans(rows)])


def _sum_backward(g: Array, residuals: Any, *, needs: Any) -> tuple[Array]:  # noqa: ARG001
    shape, spans = residuals
    each = np.repeat(g, [span.stop - span.start for span in spans])
    return (np.broadcast_to(each.reshape(-1, *(1,) * (len(shape) - 1)), shape),)


def _sum_forward(entries: Array) -> tuple[Array, Any]:
    workers = _current.get()
    assert workers is not None
    return worker_sums(entries), (entries.shape, workers.spans(len(entries)))


_sum_by_worker = Fused(_sum_forward, _sum_backward, name="sum_by_worker")


def batch_sum(entries: Any) -> Any:
    """The sum of a loss over all its entries (batch, ...); of a batch of several workers, one sum for each: (workers,)."""
    return np.sum(entries) if _current.get() is None else _sum_by_worker(entries)
