"""Mean and variance of each channel of a batch, for `batchnorm.py`.

Sums are computed in blocks of rows, and in float64 across blocks, so that each pass over a block finds it in cache. They can go
over the batches of all virtual workers: data parallelism supplies the function that sums over workers,

    with nn.cross_worker_sum(reduce):     # reduce(array of float64) -> the sum of the workers' arrays
        loss = model(x)
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import numpy as np

from allgrad.kernels import active
from allgrad.kernels.blocks import as_rows, rows_a_block
from allgrad.nn.batched_workers import ONE_WORKER, Workers
from allgrad.nn.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allgrad.nn.parameter import Array

_reduce: ContextVar[Callable[[Array], Array] | None] = ContextVar("allgrad_cross_worker_sum", default=None)


@contextmanager
def cross_worker_sum(reduce: Callable[[Array], Array] | None) -> Iterator[None]:
    """A context in which `SyncBatchNorm` sums over the workers with `reduce`, a function of a one-dimensional float64 array.

    >>> import numpy as np
    >>> from allgrad import nn
    >>> norm = nn.SyncBatchNorm(1)
    >>> with nn.cross_worker_sum(lambda a: 2 * a):     # a twin worker with the same numbers
    ...     y = norm(np.array([[0.0], [2.0]], np.float32))
    >>> y.numpy().round(3).tolist(), round(float(norm.running_var[0]), 3)
    ([[-1.0], [1.0]], 1.033)
    """
    token = _reduce.set(reduce)
    try:
        yield
    finally:
        _reduce.reset(token)


def sum_over_workers() -> Callable[[Array], Array] | None:
    """The function of the `cross_worker_sum` around this call; None outside of one."""
    return _reduce.get()


def blocks(rows: slice, channels: int) -> Iterator[slice]:
    """The rows in blocks that stay in cache."""
    step = rows_a_block(channels)
    return (slice(start, min(start + step, rows.stop)) for start in range(rows.start, rows.stop, step))


def statistics(
    x: Array, workers: Workers = ONE_WORKER, reduce: Callable[[Array], Array] | None = None
) -> tuple[Array, Array, Array]:
    """Mean and variance (divided by n) of each channel of x (..., channels) for each worker, and n.

    Returns:
        (workers, channels) float64, the same, and (workers, 1) float64. Zeros for a worker without samples.

    Raises:
        InputError: if n is 0.
    """
    rows = as_rows(x)
    found = np.zeros((2, len(workers.samples), rows.shape[1]))
    count = np.zeros((len(workers.samples), 1))
    for i, (samples, span) in enumerate(zip(workers.samples, workers.spans(len(rows)), strict=True)):
        if samples or workers.chosen:
            found[0, i], found[1, i], count[i] = _statistics(rows[span], x, reduce)
    return found[0], found[1], count


def _statistics(rows: Array, x: Array, reduce: Callable[[Array], Array] | None) -> tuple[Array, Array, float]:
    every, channels = slice(0, len(rows)), rows.shape[1]
    total = np.zeros(channels + 1)
    total[-1] = len(rows)
    # Sums of the differences from the first row, which are small even if the mean is far from 0.
    pilot = rows[0] if len(rows) else np.zeros(channels, rows.dtype)
    for block in blocks(every, channels):
        total[:-1] += active().bias_gradient(np.subtract(rows[block], pilot))
    total[:-1] += len(rows) * pilot.astype(np.float64)
    if reduce is not None:
        total = reduce(total)
    if not total[-1]:
        raise InputError(f"Batch norm needs at least one sample. Got an input of shape {x.shape}.")
    # This mean is rounded to x's dtype. The second pass also measures its error, which is then subtracted.
    centre, sums = (total[:-1] / total[-1]).astype(rows.dtype), np.zeros((2, channels))
    for block in blocks(every, channels):
        d = np.subtract(rows[block], centre)
        sums[0] += active().bias_gradient(d)
        sums[1] += active().bias_gradient(np.multiply(d, d, out=d))
    if reduce is not None:
        sums = reduce(sums.reshape(-1)).reshape(sums.shape)
    error, squares = sums / total[-1]
    return centre + error, np.maximum(squares - error**2, 0), float(total[-1])
